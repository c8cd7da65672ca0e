#pragma once

#include "gprann/types.hpp"

namespace gprann {

/// Neighbour lists of a batch of structures, atoms numbered through the whole batch. Views, not owned.
///
/// The neighbours of atom i are the pairs p in [first_pair[i], first_pair[i+1]): atom `neighbour[p]` at
/// `vectors[3 p ..]` = R_j + S cell - R_i. A neighbour may be a periodic image of any atom, i included. Every
/// pair stands twice, once from each side.
struct Neighbours {
  Index n_structures = 0;
  Index n_atoms = 0;
  const std::int64_t* first_atom = nullptr;  // (n_structures + 1)
  const std::int64_t* first_pair = nullptr;  // (n_atoms + 1)
  const std::int32_t* neighbour = nullptr;   // (n_pairs)
  const double* vectors = nullptr;           // (n_pairs, 3), Å
  const std::int32_t* species = nullptr;     // (n_atoms)

  /// Number of atoms of one structure.
  Index atoms_of(Index structure) const { return first_atom[structure + 1] - first_atom[structure]; }
};

}  // namespace gprann
