#pragma once

#include <algorithm>
#include <vector>

#include "gprann/neighbours.hpp"
#include "gprann/parallel.hpp"

namespace gprann {

/// Some atoms of one structure: a piece of work for one thread.
struct GradientPiece {
  Index structure, begin, end;
  std::vector<Matrix> own;        // gradients of the whole structure for each member, unless it is one piece
  std::vector<double*> gradient;  // of each member, from the first atom of the structure
  Matrix virial;                  // (members, 9)
};

/// Pieces of all structures: each structure one, as its atoms receive gradients from no other; large ones
/// several if they are `divisible`, so that one big cell uses all threads.
inline std::vector<GradientPiece> gradient_pieces(const Neighbours& batch, bool divisible) {
  constexpr Index piece_atoms = 512;
  constexpr Index max_pieces = 16;  // each has gradients of its own for all atoms of the structure
  std::vector<GradientPiece> pieces;
  for (Index s = 0; s < batch.n_structures; ++s) {
    const Index begin = batch.first_atom[s];
    const Index n = batch.atoms_of(s);
    const Index count = divisible ? std::clamp<Index>(chunk_count(n, piece_atoms), 1, max_pieces) : 1;
    for (Index q = 0; q < count; ++q)
      pieces.push_back({s, begin + n * q / count, begin + n * (q + 1) / count, {}, {}, {}});
  }
  return pieces;
}

/// Calls work(piece, thread) for all pieces and leaves in `gradients` (members, n_atoms, 3) and `virials`
/// (members, n_structures, 9) what it adds to piece.gradient and piece.virial: the same bits for any number
/// of threads, as pieces are summed in order.
template <class Work>
void sum_gradient_pieces(const Neighbours& batch, Index members, bool divisible, int n_threads,
                         double* gradients, double* virials, Work&& work) {
  std::fill_n(gradients, members * batch.n_atoms * 3, 0.0);
  std::fill_n(virials, members * batch.n_structures * 9, 0.0);
  std::vector<GradientPiece> pieces = gradient_pieces(batch, divisible);
  auto target = [&](Index structure, Index member) {
    return gradients + 3 * (member * batch.n_atoms + batch.first_atom[structure]);
  };
  parallel_for(static_cast<Index>(pieces.size()), n_threads, [&](Index item, int thread) {
    GradientPiece& piece = pieces[static_cast<std::size_t>(item)];
    const Index n = batch.atoms_of(piece.structure);
    const bool whole = piece.end - piece.begin == n;
    piece.virial.setZero(members, 9);
    for (Index member = 0; member < members; ++member) {
      if (!whole) piece.own.push_back(Matrix::Zero(n, 3));
      piece.gradient.push_back(whole ? target(piece.structure, member) : piece.own.back().data());
    }
    work(piece, thread);
  });
  for (const GradientPiece& piece : pieces)
    for (Index member = 0; member < members; ++member) {
      MatrixMap(virials + 9 * (member * batch.n_structures + piece.structure), 1, 9) +=
          piece.virial.row(member);
      if (piece.own.empty()) continue;
      const Matrix& own = piece.own[static_cast<std::size_t>(member)];
      MatrixMap(target(piece.structure, member), own.rows(), 3) += own;
    }
}

}  // namespace gprann
