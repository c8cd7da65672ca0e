#pragma once

#include <vector>

#include "gprann/symmetry.hpp"
#include "shell.hpp"

namespace gprann {

/// One cutoff function of the neighbours of one species, and its slope.
struct Fade {
  std::vector<Lane> f, df;

  void resize(std::size_t blocks) {
    if (f.size() < blocks) f.resize(blocks), df.resize(blocks);
  }
};

/// The surroundings of one atom.
struct SymmetryFunctionDescriptor::Environment {
  std::size_t species = 0;
  std::vector<Shell> shells;  // of each species
  std::vector<Fade> fades;    // (species, cutoffs)
};

struct SymmetryFunctionDescriptor::Found final : Descriptor::Surroundings {
  Index origin = 0;  // first atom of the structure
  Index first = 0;   // first atom surveyed
  Index n_atoms = 0;
  std::vector<Environment> environments;  // at least n_atoms
};

}  // namespace gprann
