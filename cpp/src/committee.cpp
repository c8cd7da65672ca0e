#include "gprann/committee.hpp"

#include <algorithm>
#include <numeric>
#include <stdexcept>
#include <vector>

#include "gradient_pieces.hpp"

namespace gprann {

struct Committee::Work {
  std::unique_ptr<Descriptor::Surroundings> surroundings;
  Matrix values, features, cotangent;  // (block, D)
  std::vector<Index> order;            // atom of each row of `features`
  std::vector<Index> first;            // (S + 1), rows of each species
  std::unique_ptr<AtomModel::Workspace> model;
  std::vector<std::int32_t> pair_atoms;  // each pair of a block as an atom of its own
  std::vector<double> pair_gradients;    // (atoms of the block and its pairs, 3)
  Vector sorted_grades;                  // of the atoms in the order of `features`
};

struct Committee::Workspace::Content {
  std::vector<Work> works;  // of each thread
  std::vector<GradientPiece> pieces;
};

Committee::Workspace::Workspace() : content_(std::make_unique<Content>()) {}
Committee::Workspace::~Workspace() = default;
Committee::Workspace::Workspace(Workspace&&) noexcept = default;
Committee::Workspace& Committee::Workspace::operator=(Workspace&&) noexcept = default;

void Committee::sort_by_species(const Neighbours& batch, Index begin, Index count, Work& work) const {
  const Index D = descriptor_.size();
  work.order.clear();
  work.first.assign(1, 0);
  for (Index t = 0; t < model_.n_species(); ++t) {
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
  for (Index t = 0; t < model_.n_species(); ++t) {
    const Index first = work.first[static_cast<std::size_t>(t)];
    const Index rows = work.first[static_cast<std::size_t>(t + 1)] - first;
    if (rows > 0)
      guard_->grade(t, work.features.data() + first * descriptor_.size(), rows,
                    work.sorted_grades.data() + first);
  }
  for (std::size_t row = 0; row < work.order.size(); ++row)
    grades[work.order[row]] = work.sorted_grades[static_cast<Index>(row)];
}

/// Adds the gradients and virials of one member that `work.cotangent` makes.
void Committee::add_gradients(const Neighbours& lists, Index begin, Index count, Index member, Work& work,
                              GradientPiece& piece) const {
  double* gradient = piece.gradient[static_cast<std::size_t>(member)];
  double* virial = piece.virial.row(member).data();
  if (piece.atom_virials == nullptr) {
    descriptor_.add_vjp(lists, *work.surroundings, work.cotangent.data(), gradient, virial);
    return;
  }
  // Lists in which pair p is an atom of its own, behind those of the block: the gradients of pairs.
  const Index origin = lists.first_atom[piece.structure];
  const std::int64_t first = lists.first_pair[begin];
  const std::int64_t n_pairs = lists.first_pair[begin + count] - first;
  work.pair_atoms.resize(static_cast<std::size_t>(n_pairs));
  std::iota(work.pair_atoms.begin(), work.pair_atoms.end(), static_cast<std::int32_t>(begin + count));
  work.pair_gradients.assign(static_cast<std::size_t>(3 * (count + n_pairs)), 0.0);
  Neighbours pairs = lists;
  pairs.neighbour = work.pair_atoms.data() - first;
  descriptor_.add_vjp(pairs, *work.surroundings, work.cotangent.data(),
                      work.pair_gradients.data() - 3 * (begin - origin), nullptr);
  for (Index i = 0; i < count; ++i) {
    double* at_centre = gradient + 3 * (begin + i - origin);
    for (std::int64_t p = lists.first_pair[begin + i]; p < lists.first_pair[begin + i + 1]; ++p) {
      const double* g = work.pair_gradients.data() + 3 * (count + p - first);
      const Index j = lists.neighbour[p] - origin;
      for (Index d = 0; d < 3; ++d) {
        gradient[3 * j + d] += g[d];
        at_centre[d] -= g[d];
        for (Index e = 0; e < 3; ++e) {
          const double product = lists.vectors[3 * p + d] * g[e];
          virial[3 * d + e] += product;
          piece.atom_virials[9 * j + 3 * d + e] += product;
        }
      }
    }
  }
}

void Committee::evaluate_piece(const double* parameters, Index members, const CommitteeInput& input,
                               int thread, Work& work, GradientPiece& piece,
                               const CommitteeOutput& output) const {
  const Neighbours& batch = input.batch;
  const Index D = descriptor_.size();
  const Index n_energies = input.n_centres < 0 ? batch.n_atoms : input.n_centres;  // of one member
  // Atoms that go through the networks at once.
  const Index block = std::min<Index>(descriptor_.divisible() ? 32 : batch.n_atoms, piece.end - piece.begin);
  for (Matrix* array : {&work.values, &work.features, &work.cotangent}) array->resize(block, D);
  if (work.surroundings == nullptr) work.surroundings = descriptor_.make_surroundings();
  if (work.model == nullptr) work.model = model_.make_workspace();
  for (Index begin = piece.begin; begin < piece.end; begin += block) {
    const Index count = std::min(block, piece.end - begin);
    const Neighbours& lists =
        input.source == nullptr ? batch : input.source->lists(begin, begin + count, thread);
    descriptor_.survey(lists, piece.structure, begin, begin + count, *work.surroundings);
    descriptor_.values(*work.surroundings, work.values.data());
    sort_by_species(batch, begin, count, work);
    if (output.grades != nullptr && guard_ != nullptr) grade_block(work, output.grades + begin);
    for (Index member = 0; member < members; ++member) {
      for (Index t = 0; t < model_.n_species(); ++t) {
        const Index first = work.first[static_cast<std::size_t>(t)];
        const Index rows = work.first[static_cast<std::size_t>(t + 1)] - first;
        if (rows == 0) continue;
        const AtomModel::Result found =
            model_.evaluate(parameters + member * model_.n_parameters(), t,
                            {work.features.data() + first * D, rows, D}, *work.model);
        const ConstMatrixMap slopes(found.slopes, rows, D);
        for (Index row = 0; row < rows; ++row) {
          const Index i = work.order[static_cast<std::size_t>(first + row)];
          output.energies[member * n_energies + begin + i] = found.energies[row];
          work.cotangent.row(i) =
              slopes.row(row).cwiseProduct(ConstVectorMap(inverse_scale_ + t * D, D).transpose());
        }
      }
      add_gradients(lists, begin, count, member, work, piece);
    }
  }
}

void Committee::evaluate(const double* parameters, Index members, const Neighbours& batch, int n_threads,
                         double* energies, double* gradients, double* virials) const {
  Workspace workspace;
  evaluate(parameters, members, {batch}, n_threads, workspace, {energies, gradients, virials});
}

void Committee::evaluate(const double* parameters, Index members, const CommitteeInput& input, int n_threads,
                         Workspace& workspace, const CommitteeOutput& output) const {
  const Neighbours& batch = input.batch;
  if ((input.n_centres >= 0 || input.source != nullptr) && batch.n_structures != 1)
    throw std::invalid_argument("centres and a source of lists are those of one structure");
  if (input.n_centres > batch.n_atoms) throw std::invalid_argument("there are more centres than atoms");
  const bool divisible = descriptor_.divisible();
  if (!divisible && (input.n_centres >= 0 || input.source != nullptr))
    throw std::invalid_argument("this descriptor takes the lists of whole structures");
  if (output.atom_virials != nullptr && !descriptor_.has_pair_gradients())
    throw std::invalid_argument("this descriptor has no virials per atom");
  // Waking a thread costs as much as a few atoms.
  const int threads = std::max(1, batch.n_atoms < 200 ? 1 : n_threads);
  std::vector<Work>& works = workspace.content_->works;
  std::vector<GradientPiece>& pieces = workspace.content_->pieces;
  if (works.size() < static_cast<std::size_t>(threads)) works.resize(static_cast<std::size_t>(threads));
  divide_into_pieces(batch, divisible, input.n_centres, pieces);
  if (input.source != nullptr) input.source->prepare(threads);
  sum_gradient_pieces(batch, members, pieces, threads,
                      {output.gradients, output.virials, output.atom_virials},
                      [&](GradientPiece& piece, int thread) {
                        evaluate_piece(parameters, members, input, thread,
                                       works[static_cast<std::size_t>(thread)], piece, output);
                      });
}

}  // namespace gprann
