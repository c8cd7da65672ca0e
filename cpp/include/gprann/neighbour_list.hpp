#pragma once

#include "gprann/types.hpp"

namespace gprann {

/// Positions, cells and periodic directions of many structures. Views.
struct Cells {
  Index n_structures = 0;
  const std::int64_t* first_atom = nullptr;  // (n + 1)
  const double* positions = nullptr;         // (n_atoms, 3), Å
  const double* cells = nullptr;             // (n, 9), Å, rows are the lattice vectors
  const std::uint8_t* periodic = nullptr;    // (n, 3)
};

/// Neighbour lists by trying every pair of atoms with those images that can lie within the cutoff, whatever
/// the cell and wherever the atoms stand: O(N^2), for structures of up to some hundred atoms faster than cell
/// lists.
///
/// Pairs come sorted by atom, neighbour and image; each stands twice, once from each side.
class NeighbourList {
 public:
  /// Counts the neighbours: `first_pair` (n_atoms + 1).
  NeighbourList(const Cells& cells, double cutoff, int n_threads, std::int64_t* first_pair);

  /// neighbour: (n_pairs), atoms numbered through all structures; vectors: (n_pairs, 3) = R_j + S cell - R_i,
  /// Å. Returns the pair of the shortest vector, or -1 if there is none.
  std::int64_t fill(const std::int64_t* first_pair, int n_threads, std::int32_t* neighbour,
                    double* vectors) const;

 private:
  template <class Found>
  void visit(Index structure, Found&& found) const;

  const Cells& cells_;
  double cutoff_;
};

}  // namespace gprann
