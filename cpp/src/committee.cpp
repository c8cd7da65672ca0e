#include "gprann/committee.hpp"

#include <algorithm>
#include <vector>

#include "gprann/parallel.hpp"

namespace gprann {

namespace {
constexpr Index together = 32;  // atoms that go through the networks at once
constexpr Index piece_atoms = 512;
constexpr Index max_pieces = 16;  // of a structure: each has gradients of its own for all atoms
}  // namespace

struct Committee::Work {
  ChebyshevDescriptor::Surroundings surroundings;
  Matrix values, features, cotangent;  // (together, D)
  std::vector<Index> order;            // atom of each row of `features`
  std::vector<Index> first;            // (S + 1), rows of each species
  Mlp::Pass pass;
};

/// Some atoms of one structure: a piece of work for one thread. Structures in one piece write to the result
/// itself, larger ones are summed up afterwards, in order.
struct Committee::Piece {
  Index structure = 0, begin = 0, end = 0;
  bool whole = true;
  std::vector<Matrix> own;        // gradients of the whole structure, for each member, unless `whole`
  std::vector<double*> gradient;  // of each member, from the first atom of the structure
  Matrix virial;                  // (members, 9)
};

void Committee::sort_by_species(const Neighbours& batch, Index begin, Index count, Work& work) const {
  const Index D = descriptor_.size();
  work.order.clear();
  work.first.assign(1, 0);
  for (Index t = 0; t < network_.n_species(); ++t) {
    for (Index i = 0; i < count; ++i)
      if (batch.species[begin + i] == t) work.order.push_back(i);
    work.first.push_back(static_cast<Index>(work.order.size()));
  }
  for (std::size_t row = 0; row < work.order.size(); ++row) {
    const Index i = work.order[row];
    const Index t = batch.species[begin + i];
    work.features.row(static_cast<Index>(row)) =
        (work.values.row(i) - ConstVectorMap(mean_ + t * D, D).transpose())
            .cwiseProduct(ConstVectorMap(inverse_scale_ + t * D, D).transpose());
  }
}

void Committee::evaluate_piece(const double* parameters, Index members, const Neighbours& batch, Work& work,
                               Piece& piece, double* energies) const {
  const Mlp& mlp = network_.mlp();
  const Index D = descriptor_.size();
  for (Matrix* array : {&work.values, &work.features, &work.cotangent}) array->resize(together, D);
  for (Index begin = piece.begin; begin < piece.end; begin += together) {
    const Index count = std::min(together, piece.end - begin);
    descriptor_.survey(batch, piece.structure, begin, begin + count, work.surroundings);
    descriptor_.values(work.surroundings, work.values.data());
    sort_by_species(batch, begin, count, work);
    for (Index member = 0; member < members; ++member) {
      for (Index t = 0; t < network_.n_species(); ++t) {
        const Index first = work.first[static_cast<std::size_t>(t)];
        const Index rows = work.first[static_cast<std::size_t>(t + 1)] - first;
        if (rows == 0) continue;
        const double* w = parameters + member * network_.n_parameters() + t * mlp.n_parameters();
        mlp.forward(w, {work.features.data() + first * D, rows, D}, work.pass);
        mlp.backward(w, work.pass, true);
        for (Index row = 0; row < rows; ++row) {
          const Index i = work.order[static_cast<std::size_t>(first + row)];
          energies[member * batch.n_atoms + begin + i] = work.pass.energy[row];
          work.cotangent.row(i) = work.pass.input.row(row).matrix().cwiseProduct(
              ConstVectorMap(inverse_scale_ + t * D, D).transpose());
        }
      }
      descriptor_.add_vjp(batch, work.surroundings, work.cotangent.data(),
                          piece.gradient[static_cast<std::size_t>(member)], piece.virial.row(member).data());
    }
  }
}

void Committee::evaluate(const double* parameters, Index members, const Neighbours& batch, int n_threads,
                         double* energies, double* gradients, double* virials) const {
  std::fill_n(gradients, members * batch.n_atoms * 3, 0.0);
  std::fill_n(virials, members * batch.n_structures * 9, 0.0);
  std::vector<Piece> pieces;
  for (Index s = 0; s < batch.n_structures; ++s) {
    const Index begin = batch.first_atom[s];
    const Index end = batch.first_atom[s + 1];
    const Index size = std::max(piece_atoms, chunk_count(end - begin, max_pieces));
    for (Index from = begin; from < end; from += size) {
      Piece piece;
      piece.structure = s;
      piece.begin = from;
      piece.end = std::min(end, from + size);
      piece.whole = end - begin <= piece_atoms;
      pieces.push_back(std::move(piece));
    }
  }
  auto target = [&](const Piece& piece, Index member) {
    return gradients + 3 * (member * batch.n_atoms + batch.first_atom[piece.structure]);
  };
  std::vector<Work> works(static_cast<std::size_t>(std::max(n_threads, 1)));
  // Starting a thread costs as much as a few atoms.
  parallel_for(
      static_cast<Index>(pieces.size()), batch.n_atoms < 200 ? 1 : n_threads, [&](Index item, int thread) {
        Piece& piece = pieces[static_cast<std::size_t>(item)];
        const Index n = batch.first_atom[piece.structure + 1] - batch.first_atom[piece.structure];
        piece.virial.setZero(members, 9);
        for (Index member = 0; member < members; ++member) {
          if (!piece.whole) piece.own.push_back(Matrix::Zero(n, 3));
          piece.gradient.push_back(piece.whole ? target(piece, member) : piece.own.back().data());
        }
        evaluate_piece(parameters, members, batch, works[static_cast<std::size_t>(thread)], piece, energies);
      });
  for (const Piece& piece : pieces)
    for (Index member = 0; member < members; ++member) {
      MatrixMap(virials + 9 * (member * batch.n_structures + piece.structure), 1, 9) +=
          piece.virial.row(member);
      if (!piece.whole) {
        const Matrix& own = piece.own[static_cast<std::size_t>(member)];
        MatrixMap(target(piece, member), own.rows(), 3) += own;
      }
    }
}

}  // namespace gprann
