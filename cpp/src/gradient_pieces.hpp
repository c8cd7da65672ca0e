#pragma once

#include <algorithm>
#include <vector>

#include "gprann/neighbours.hpp"
#include "gprann/parallel.hpp"

namespace gprann {

/// Some atoms of one structure: a piece of work for one thread.
struct GradientPiece {
  Index structure = 0, begin = 0, end = 0;
  bool whole = true;              // it is the only piece of its structure
  std::vector<Matrix> own;        // gradients of the whole structure for each member, unless it is one piece
  std::vector<double*> gradient;  // of each member, from the first atom of the structure
  Matrix virial;                  // (members, 9)
  Matrix own_atom_virials;        // the same of virials per atom, where they are wanted
  double* atom_virials = nullptr;

  /// Clears what `work` adds to.
  void clear(Index members, Index n_atoms, bool with_atom_virials) {
    virial.setZero(members, 9);
    gradient.clear();
    if (whole) return;
    own.resize(static_cast<std::size_t>(members));
    for (Matrix& array : own) array.setZero(n_atoms, 3);
    if (with_atom_virials) own_atom_virials.setZero(n_atoms, 9);
  }
};

/// Pieces of all structures: each structure one, as its atoms receive gradients from no other; large ones
/// several if they are `divisible`, so that one big cell uses all threads. Of the only structure the first
/// `n_centres` atoms alone, unless that is negative. Arrays of `pieces` are kept.
inline void divide_into_pieces(const Neighbours& batch, bool divisible, Index n_centres,
                               std::vector<GradientPiece>& pieces) {
  constexpr Index piece_atoms = 512;
  constexpr Index max_pieces = 16;  // each has gradients of its own for all atoms of the structure
  std::size_t n_pieces = 0;
  for (Index s = 0; s < batch.n_structures; ++s) {
    const Index begin = batch.first_atom[s];
    const Index n = n_centres < 0 ? batch.atoms_of(s) : n_centres;
    const Index count = divisible ? std::clamp<Index>(chunk_count(n, piece_atoms), 1, max_pieces) : 1;
    for (Index q = 0; q < count; ++q) {
      if (pieces.size() == n_pieces) pieces.emplace_back();
      GradientPiece& piece = pieces[n_pieces++];
      piece.structure = s;
      piece.begin = begin + n * q / count;
      piece.end = begin + n * (q + 1) / count;
      piece.whole = count == 1;
    }
  }
  pieces.resize(n_pieces);
}

/// What pieces of all structures add up to.
struct GradientSums {
  double* gradients;               // (members, n_atoms, 3)
  double* virials;                 // (members, n_structures, 9)
  double* atom_virials = nullptr;  // (n_atoms, 9), all members together, or null
};

/// Calls work(piece, thread) for all pieces and leaves in `sums` what it adds to piece.gradient, piece.virial
/// and piece.atom_virials: the same bits for any number of threads, as pieces are summed in order.
template <class Work>
void sum_gradient_pieces(const Neighbours& batch, Index members, std::vector<GradientPiece>& pieces,
                         int n_threads, const GradientSums& sums, Work&& work) {
  std::fill_n(sums.gradients, members * batch.n_atoms * 3, 0.0);
  std::fill_n(sums.virials, members * batch.n_structures * 9, 0.0);
  if (sums.atom_virials != nullptr) std::fill_n(sums.atom_virials, batch.n_atoms * 9, 0.0);
  auto target = [&](double* array, Index structure, Index member, Index width) {
    return array + width * (member * batch.n_atoms + batch.first_atom[structure]);
  };
  parallel_for(static_cast<Index>(pieces.size()), n_threads, [&](Index item, int thread) {
    GradientPiece& piece = pieces[static_cast<std::size_t>(item)];
    piece.clear(members, batch.atoms_of(piece.structure), sums.atom_virials != nullptr);
    for (Index member = 0; member < members; ++member)
      piece.gradient.push_back(piece.whole ? target(sums.gradients, piece.structure, member, 3)
                                           : piece.own[static_cast<std::size_t>(member)].data());
    piece.atom_virials = nullptr;
    if (sums.atom_virials != nullptr)
      piece.atom_virials =
          piece.whole ? target(sums.atom_virials, piece.structure, 0, 9) : piece.own_atom_virials.data();
    work(piece, thread);
  });
  auto add = [](const Matrix& own, double* to) { MatrixMap(to, own.rows(), own.cols()) += own; };
  for (const GradientPiece& piece : pieces) {
    for (Index member = 0; member < members; ++member) {
      MatrixMap(sums.virials + 9 * (member * batch.n_structures + piece.structure), 1, 9) +=
          piece.virial.row(member);
      if (!piece.whole)
        add(piece.own[static_cast<std::size_t>(member)], target(sums.gradients, piece.structure, member, 3));
    }
    if (!piece.whole && sums.atom_virials != nullptr)
      add(piece.own_atom_virials, target(sums.atom_virials, piece.structure, 0, 9));
  }
}

}  // namespace gprann
