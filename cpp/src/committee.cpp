#include "gprann/committee.hpp"

#include <algorithm>
#include <vector>

#include "gradient_pieces.hpp"

namespace gprann {

struct Committee::Work {
  std::unique_ptr<Descriptor::Surroundings> surroundings;
  Matrix values, features, cotangent;  // (block, D)
  std::vector<Index> order;            // atom of each row of `features`
  std::vector<Index> first;            // (S + 1), rows of each species
  Mlp::Pass pass;
  Vector sorted_grades;  // of the atoms in the order of `features`
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

/// Grades of the atoms of a block, in its order.
void Committee::grade_block(Work& work, double* grades) const {
  work.sorted_grades.resize(static_cast<Index>(work.order.size()));
  for (Index t = 0; t < network_.n_species(); ++t) {
    const Index first = work.first[static_cast<std::size_t>(t)];
    const Index rows = work.first[static_cast<std::size_t>(t + 1)] - first;
    if (rows > 0)
      guard_->grade(t, work.features.data() + first * descriptor_.size(), rows,
                    work.sorted_grades.data() + first);
  }
  for (std::size_t row = 0; row < work.order.size(); ++row)
    grades[work.order[row]] = work.sorted_grades[static_cast<Index>(row)];
}

void Committee::evaluate_piece(const double* parameters, Index members, const Neighbours& batch, Work& work,
                               GradientPiece& piece, double* energies, double* grades) const {
  const Mlp& mlp = network_.mlp();
  const Index D = descriptor_.size();
  // Atoms that go through the networks at once.
  const Index block = std::min<Index>(descriptor_.divisible() ? 32 : batch.n_atoms, piece.end - piece.begin);
  for (Matrix* array : {&work.values, &work.features, &work.cotangent}) array->resize(block, D);
  if (work.surroundings == nullptr) work.surroundings = descriptor_.make_surroundings();
  for (Index begin = piece.begin; begin < piece.end; begin += block) {
    const Index count = std::min(block, piece.end - begin);
    descriptor_.survey(batch, piece.structure, begin, begin + count, *work.surroundings);
    descriptor_.values(*work.surroundings, work.values.data());
    sort_by_species(batch, begin, count, work);
    if (grades != nullptr) grade_block(work, grades + begin);
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
      descriptor_.add_vjp(batch, *work.surroundings, work.cotangent.data(),
                          piece.gradient[static_cast<std::size_t>(member)], piece.virial.row(member).data());
    }
  }
}

void Committee::evaluate(const double* parameters, Index members, const Neighbours& batch, int n_threads,
                         double* energies, double* gradients, double* virials, double* grades) const {
  if (guard_ == nullptr) grades = nullptr;
  std::vector<Work> works(static_cast<std::size_t>(std::max(n_threads, 1)));
  // Starting a thread costs as much as a few atoms.
  const int threads = batch.n_atoms < 200 ? 1 : n_threads;
  sum_gradient_pieces(batch, members, descriptor_.divisible(), threads, gradients, virials,
                      [&](GradientPiece& piece, int thread) {
                        evaluate_piece(parameters, members, batch, works[static_cast<std::size_t>(thread)],
                                       piece, energies, grades);
                      });
}

}  // namespace gprann
