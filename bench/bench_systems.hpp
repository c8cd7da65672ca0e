#pragma once

#include <vector>

#include "gprann/chebyshev.hpp"
#include "gprann/neighbour_list.hpp"
#include "gprann/network.hpp"

namespace gprann::bench {

/// Structures with their neighbour lists, made at random: atoms of a lattice moved by so little that no two
/// come near each other.
struct System {
  std::vector<std::int64_t> first_atom{0}, first_pair{0};
  std::vector<std::int32_t> neighbour, species;
  std::vector<double> vectors, positions, cells;
  std::vector<std::uint8_t> periodic;

  /// Appends a structure; `edges` of a rectangular cell, zeros for none. Neighbours are found afterwards.
  void add(const Matrix& positions, const std::vector<std::int32_t>& species,
           const Eigen::RowVector3d& edges);
  void find_neighbours(double cutoff);

  Cells geometry() const;
  Neighbours view() const;
  Index n_structures() const { return static_cast<Index>(first_atom.size()) - 1; }
  Index n_atoms() const { return static_cast<Index>(species.size()); }
  Index n_pairs() const { return static_cast<Index>(neighbour.size()); }
  /// Pairs within a cutoff below that of the lists.
  Index n_pairs(double cutoff) const;
  double neighbours_per_atom() const {
    return static_cast<double>(n_pairs()) / static_cast<double>(n_atoms());
  }
  /// Bytes of the lists: vector and index of every pair, offset and species of every atom.
  double bytes() const {
    return 28.0 * static_cast<double>(n_pairs()) + 12.0 * static_cast<double>(n_atoms());
  }
};

/// Random standardised features of the atoms of a system, sorted as the networks want them.
struct Features {
  Index n_structures = 0;
  Matrix values;                    // (n_atoms, D)
  std::vector<std::int64_t> rows;   // (S, n + 1)
  std::vector<std::int64_t> order;  // (n_atoms), atom of every row
  Matrix scale;                     // (S, D), d g / d G

  Features(const System& system, Index n_species, Index size);
  AtomFeatures view() const { return {n_structures, values.cols(), values.data(), rows.data()}; }
};

/// Density of the crystal, atoms / Å³, and the cutoff within which an atom has so many neighbours on average.
constexpr double density = 0.1;
double cutoff_for(double neighbours);

/// Structures of `n_atoms` each at the density of the crystal, in a cubic cell or free.
System make_boxes(Index n, Index n_atoms, bool periodic, double cutoff, Index n_species);

/// A periodic crystal of at least `n_atoms`, large enough that no atom has two images within the cutoff.
System make_crystal(Index n_atoms, double cutoff, Index n_species);

/// Molecules of 6, 8 and 6 atoms of three species, as two ethylene carbonates, none nearer than 1 Å; no
/// periods. 15 neighbours within 6.5 Å.
System make_molecules(Index n, double cutoff);
constexpr Index molecule_atoms = 20;
constexpr Index molecule_species = 3;

/// Cells of 10.317 x 10.317 x 32 Å: 36 atoms in four layers of a body-centred metal and 10 of three other
/// species above, as ethylene carbonate on Li(100). About 40, 75 and 130 neighbours within 6.5, 8.5 and
/// 10.5 Å.
System make_slabs(Index n, double cutoff);
constexpr Index slab_species = 4;

}  // namespace gprann::bench
