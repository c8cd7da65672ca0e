#include "gprann/descriptor.hpp"

#include <algorithm>
#include <stdexcept>
#include <vector>

#include "gprann/parallel.hpp"
#include "gradient_pieces.hpp"
#include "voigt.hpp"

namespace gprann {

namespace {

/// Some atoms of one structure.
struct AtomBlock {
  Index structure, begin, end;
};

}  // namespace

template <class Work>
void Descriptor::for_each_block(const Neighbours& batch, int n_threads, Work&& work) const {
  std::vector<AtomBlock> blocks;
  for (Index s = 0; s < batch.n_structures; ++s) {
    const Index end = batch.first_atom[s + 1];
    const Index step = divisible() ? atoms_at_once() : std::max<Index>(1, batch.atoms_of(s));
    for (Index begin = batch.first_atom[s]; begin < end; begin += step)
      blocks.push_back({s, begin, std::min(end, begin + step)});
  }
  std::vector<std::unique_ptr<Surroundings>> found(static_cast<std::size_t>(std::max(n_threads, 1)));
  parallel_for(static_cast<Index>(blocks.size()), n_threads, [&](Index item, int thread) {
    std::unique_ptr<Surroundings>& own = found[static_cast<std::size_t>(thread)];
    if (own == nullptr) own = make_surroundings();
    const AtomBlock& block = blocks[static_cast<std::size_t>(item)];
    survey(batch, block.structure, block.begin, block.end, *own);
    work(block, *own);
  });
}

void Descriptor::values(const Neighbours& batch, int n_threads, double* values) const {
  for_each_block(batch, n_threads, [&](const AtomBlock& block, Surroundings& found) {
    this->values(found, values + block.begin * size());
  });
}

void Descriptor::jvp(const Neighbours& batch, const double* direction, const double* strains, int n_threads,
                     double* tangent) const {
  for_each_block(batch, n_threads, [&](const AtomBlock& block, Surroundings& found) {
    jvp(batch, found, direction + 3 * batch.first_atom[block.structure],
        strains == nullptr ? nullptr : strains + 9 * block.structure, tangent + block.begin * size());
  });
}

void Descriptor::vjp(const Neighbours& batch, const double* cotangent, int n_threads, double* gradient,
                     double* virials) const {
  std::vector<std::unique_ptr<Surroundings>> found(static_cast<std::size_t>(std::max(n_threads, 1)));
  std::vector<GradientPiece> pieces;
  divide_into_pieces(batch, divisible(), -1, pieces);
  sum_gradient_pieces(
      batch, 1, pieces, n_threads, {gradient, virials}, [&](GradientPiece& piece, int thread) {
        std::unique_ptr<Surroundings>& own = found[static_cast<std::size_t>(thread)];
        if (own == nullptr) own = make_surroundings();
        const Index step = divisible() ? atoms_at_once() : piece.end - piece.begin;
        for (Index begin = piece.begin; begin < piece.end; begin += step) {
          survey(batch, piece.structure, begin, std::min(piece.end, begin + step), *own);
          add_vjp(batch, *own, cotangent + begin * size(), piece.gradient[0], piece.virial.data());
        }
      });
}

/// Calls column(k, derivatives (N, D)) for every coordinate k of structure `s`, and every strain in Voigt's
/// order.
template <class Column>
void Descriptor::for_each_column(const Neighbours& batch, Index s, bool strained, Column&& column) const {
  const Index n = batch.atoms_of(s);
  const std::unique_ptr<Surroundings> found = make_surroundings();
  survey(batch, s, *found);
  Matrix direction = Matrix::Zero(n, 3);
  Matrix tangent(n, size());
  for (Index k = 0; k < 3 * n; ++k) {
    direction.data()[k] = 1.0;
    jvp(batch, *found, direction.data(), nullptr, tangent.data());
    direction.data()[k] = 0.0;
    column(k, tangent);
  }
  for (int v = 0; strained && v < 6; ++v) {
    Eigen::Matrix<double, 9, 1> strain = Eigen::Matrix<double, 9, 1>::Zero();
    strain[voigt_first[v]] += 0.5;
    strain[voigt_second[v]] += 0.5;
    jvp(batch, *found, direction.data(), strain.data(), tangent.data());
    column(3 * n + v, tangent);
  }
}

void Descriptor::slopes(const Neighbours&, Surroundings&, double*) const {
  throw std::logic_error("this descriptor has no slopes");
}

/// Calls visit(atom, pair, slopes (3, D)) for every pair of structure `s`.
template <class Visit>
void Descriptor::for_each_slope(const Neighbours& batch, Index s, Visit&& visit) const {
  const std::unique_ptr<Surroundings> found = make_surroundings();
  Matrix all;
  for (Index i = batch.first_atom[s]; i < batch.first_atom[s + 1]; ++i) {
    const std::int64_t begin = batch.first_pair[i], end = batch.first_pair[i + 1];
    all.resize(3 * (end - begin), size());
    survey(batch, s, i, i + 1, *found);
    slopes(batch, *found, all.data());
    for (std::int64_t p = begin; p < end; ++p) visit(i, p, all.middleRows(3 * (p - begin), 3));
  }
}

void Descriptor::jacobian(const Neighbours& batch, Index s, bool strained, double* jacobian) const {
  const Index first = batch.first_atom[s];
  const Index n = batch.atoms_of(s);
  const Index columns = 3 * n + (strained ? 6 : 0);
  if (!has_slopes()) {
    MatrixMap J(jacobian, n * size(), columns);
    for_each_column(batch, s, strained, [&](Index k, const Matrix& tangent) {
      J.col(k) = ConstVectorMap(tangent.data(), tangent.size());
    });
    return;
  }
  std::fill_n(jacobian, n * size() * columns, 0.0);
  for_each_slope(batch, s, [&](Index i, std::int64_t pair, const auto& slopes) {
    MatrixMap J(jacobian + (i - first) * size() * columns, size(), columns);
    J.middleCols(3 * (batch.neighbour[pair] - first), 3) += slopes.transpose();
    J.middleCols(3 * (i - first), 3) -= slopes.transpose();
    if (!strained) return;
    const double* vector = batch.vectors + 3 * pair;
    for (Index v = 0; v < 6; ++v)
      for (const int component : {voigt_first[v], voigt_second[v]})
        J.col(3 * n + v) += 0.5 * vector[component % 3] * slopes.row(component / 3).transpose();
  });
}

void Descriptor::jacobian_rows(const Neighbours& batch, Index s, double* const* rows,
                               const Index* strides) const {
  using Row = Eigen::Map<Eigen::RowVectorXd>;
  if (!has_slopes()) {
    for_each_column(batch, s, false, [&](Index k, const Matrix& tangent) {
      for (Index i = 0; i < tangent.rows(); ++i) Row(rows[i] + k * strides[i], size()) += tangent.row(i);
    });
    return;
  }
  const Index first = batch.first_atom[s];
  for_each_slope(batch, s, [&](Index i, std::int64_t pair, const auto& slopes) {
    const Index j = batch.neighbour[pair];
    double* row = rows[i - first];
    const Index stride = strides[i - first];
    for (Index d = 0; d < 3; ++d) {
      Row(row + (3 * (j - first) + d) * stride, size()) += slopes.row(d);
      Row(row + (3 * (i - first) + d) * stride, size()) -= slopes.row(d);
    }
  });
}

}  // namespace gprann
