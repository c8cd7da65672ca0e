#pragma once

#include <vector>

#include "gprann/chebyshev.hpp"

namespace gprann::bench {

/// Structures with their neighbour lists, made at random: atoms of a cubic lattice moved by so little that no
/// two come near each other.
struct System {
  std::vector<std::int64_t> first_atom{0}, first_pair{0};
  std::vector<std::int32_t> neighbour, species;
  std::vector<double> vectors;

  Neighbours view() const;
  Index n_atoms() const { return static_cast<Index>(species.size()); }
  Index n_pairs() const { return static_cast<Index>(neighbour.size()); }
  /// Bytes of the lists: vector and index of every pair, offset and species of every atom.
  double bytes() const {
    return 28.0 * static_cast<double>(n_pairs()) + 12.0 * static_cast<double>(n_atoms());
  }
};

/// Density of the crystal, atoms / Å³, and the cutoff within which an atom has so many neighbours on average.
constexpr double density = 0.1;
double cutoff_for(double neighbours);

/// A periodic crystal of at least `n_atoms`, large enough that no atom has two images within the cutoff.
System make_crystal(Index n_atoms, double cutoff, int n_species);

/// Molecules of 6, 8 and 6 atoms of three species, as two ethylene carbonates, none nearer than 1 Å; no
/// periods.
System make_molecules(Index n, double cutoff);
constexpr Index molecule_atoms = 20;

}  // namespace gprann::bench
