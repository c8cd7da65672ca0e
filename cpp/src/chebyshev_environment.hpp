#pragma once

#include <vector>

#include "gprann/chebyshev.hpp"
#include "shell.hpp"

namespace gprann {

/// The surroundings of one atom, and its moments.
struct ChebyshevDescriptor::Environment {
  Shell radial;
  Shell angular;
  Matrix moments;  // (channels, (L+1)^2): c_lm
  Vector squares;  // (channels): sum_j (w_j f_j)^2
};

/// Workspace of one atom after the other.
struct ChebyshevDescriptor::Sums {
  Matrix tangent_moments;  // (channels, (L+1)^2)
  Vector tangent_squares;
  Matrix cotangent;  // (channels, (L+1)^2): d(beta . G)/dc_lm
  Vector self;       // (channels): d(beta . G)/d(sum of squares)
  std::vector<Lane> harmonics, dx, dy, dz, accumulator;
  RealHarmonics::Factors factors;
};

/// The surroundings of some atoms of one structure, sorted into lanes.
struct ChebyshevDescriptor::Found final : Descriptor::Surroundings {
  Index origin = 0;  // first atom of the structure
  Index first = 0;   // first atom surveyed
  Index n_atoms = 0;
  std::vector<Environment> environments;  // at least n_atoms
  Sums sums;
};

}  // namespace gprann
