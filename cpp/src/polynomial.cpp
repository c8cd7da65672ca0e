#include "gprann/polynomial.hpp"

#include <algorithm>
#include <stdexcept>
#include <vector>

#include "gprann/parallel.hpp"
#include "voigt.hpp"

namespace gprann {

namespace {

struct Arrays final : AtomModel::Workspace {
  Vector energies;
  Matrix slopes;
  Matrix form;  // (D, D), c_kl + c_lk
};

}  // namespace

Polynomial::Polynomial(Index input_size, Index degree, Index n_species)
    : size_(input_size), degree_(degree), n_species_(n_species) {
  if (degree != 1 && degree != 2) throw std::invalid_argument("the degree must be 1 or 2");
  if (input_size < 1 || n_species < 1)
    throw std::invalid_argument("at least one component and one species are needed");
}

std::unique_ptr<AtomModel::Workspace> Polynomial::make_workspace() const {
  return std::make_unique<Arrays>();
}

AtomModel::Result Polynomial::evaluate(const double* parameters, Index species, ConstMatrixMap features,
                                       Workspace& workspace) const {
  auto& own = static_cast<Arrays&>(workspace);
  const double* c = parameters + species * n_terms();
  const ConstVectorMap b(c + 1, size_);
  const Index n = features.rows();
  own.energies.resize(n);
  own.slopes.resize(n, size_);
  if (degree_ == 1) {
    own.slopes.rowwise() = b.transpose();
    own.energies.noalias() = features * b;
    own.energies.array() += c[0];
    return {own.energies.data(), own.slopes.data()};
  }
  own.form.resize(size_, size_);
  const double* pair = c + 1 + size_;
  for (Index k = 0; k < size_; ++k) {
    own.form(k, k) = 2.0 * *pair++;
    for (Index l = k + 1; l < size_; ++l) own.form(k, l) = own.form(l, k) = *pair++;
  }
  // slope = b + (C + C^T) g;  eps = c_0 + g . (b + slope) / 2
  own.slopes.noalias() = features * own.form;
  own.slopes.rowwise() += b.transpose();
  for (Index i = 0; i < n; ++i)
    own.energies[i] = c[0] + 0.5 * features.row(i).dot(own.slopes.row(i) + b.transpose());
  return {own.energies.data(), own.slopes.data()};
}

void Polynomial::add_terms(const double* g, double* terms) const {
  *terms++ += 1.0;
  for (Index k = 0; k < size_; ++k) terms[k] += g[k];
  if (degree_ == 1) return;
  terms += size_;
  for (Index k = 0; k < size_; terms += size_ - k, ++k)
    for (Index l = k; l < size_; ++l) terms[l - k] += g[k] * g[l];
}

void Polynomial::add_tangent(const double* g, const double* change, double factor, double* terms) const {
  ++terms;
  for (Index k = 0; k < size_; ++k) terms[k] += factor * change[k];
  if (degree_ == 1) return;
  terms += size_;
  for (Index k = 0; k < size_; terms += size_ - k, ++k) {
    const double a = factor * g[k], b = factor * change[k];
    for (Index l = k; l < size_; ++l) terms[l - k] += a * change[l] + b * g[l];
  }
}

namespace {

/// Adds the equations of one structure.
class StructureRows {
 public:
  StructureRows(const Polynomial& model, const Descriptor& descriptor, const Neighbours& batch,
                const double* features, const double* inverse_scale, const PolynomialRows& rows)
      : model_(model),
        descriptor_(descriptor),
        batch_(batch),
        features_(features),
        inverse_scale_(inverse_scale),
        rows_(rows),
        found_(descriptor.make_surroundings()) {}

  void write(Index structure) {
    const Index P = model_.n_parameters();
    const Index first = batch_.first_atom[structure], last = batch_.first_atom[structure + 1];
    std::fill_n(rows_.energies + structure * P, P, 0.0);
    for (Index i = first; i < last; ++i)
      model_.add_terms(features_ + i * model_.input_size(),
                       rows_.energies + structure * P + batch_.species[i] * model_.n_terms());
    if (rows_.forces != nullptr) std::fill_n(rows_.forces + 3 * first * P, 3 * (last - first) * P, 0.0);
    if (rows_.strains != nullptr) std::fill_n(rows_.strains + 6 * structure * P, 6 * P, 0.0);
    if (rows_.forces == nullptr && rows_.strains == nullptr) return;
    if (descriptor_.has_slopes() && descriptor_.divisible())
      for (Index i = first; i < last; ++i) add_atom(structure, i);
    else
      add_jacobian(structure);
  }

 private:
  /// Terms of the species of atom i in a row.
  double* at(double* rows, Index row, Index i) const {
    return rows + row * model_.n_parameters() + batch_.species[i] * model_.n_terms();
  }
  void add(Index i, const double* change, double factor, double* row) const {
    model_.add_tangent(features_ + i * model_.input_size(), change, factor, row);
  }

  void add_atom(Index structure, Index i) {
    const Index D = model_.input_size();
    const std::int64_t begin = batch_.first_pair[i], end = batch_.first_pair[i + 1];
    descriptor_.survey(batch_, structure, i, i + 1, *found_);
    slopes_.resize(3 * (end - begin), D);
    descriptor_.slopes(batch_, *found_, slopes_.data());
    const ConstVectorMap inverse_scale(inverse_scale_ + batch_.species[i] * D, D);
    slopes_.array().rowwise() *= inverse_scale.transpose().array();
    if (rows_.forces != nullptr) {
      centre_.setZero(3, D);
      for (std::int64_t p = begin; p < end; ++p)
        for (Index a = 0; a < 3; ++a) {
          const auto slope = slopes_.row(3 * (p - begin) + a);
          centre_.row(a) += slope;
          add(i, slope.data(), -1.0, at(rows_.forces, 3 * batch_.neighbour[p] + a, i));
        }
      for (Index a = 0; a < 3; ++a) add(i, centre_.row(a).data(), 1.0, at(rows_.forces, 3 * i + a, i));
    }
    if (rows_.strains == nullptr) return;
    strain_.setZero(6, D);
    for (std::int64_t p = begin; p < end; ++p)
      for (Index v = 0; v < 6; ++v) {
        const int d = voigt_first[v] / 3, e = voigt_first[v] % 3;
        const double* vector = batch_.vectors + 3 * p;
        strain_.row(v) += 0.5 * (vector[d] * slopes_.row(3 * (p - begin) + e) +
                                 vector[e] * slopes_.row(3 * (p - begin) + d));
      }
    for (Index v = 0; v < 6; ++v) add(i, strain_.row(v).data(), 1.0, at(rows_.strains, 6 * structure + v, i));
  }

  /// The same from the dense Jacobian, for descriptors without slopes.
  void add_jacobian(Index structure) {
    const Index D = model_.input_size(), first = batch_.first_atom[structure];
    const Index n = batch_.atoms_of(structure), columns = 3 * n + (rows_.strains == nullptr ? 0 : 6);
    jacobian_.resize(static_cast<std::size_t>(n * D * columns));
    descriptor_.jacobian(batch_, structure, rows_.strains != nullptr, jacobian_.data());
    Vector change(D);
    for (Index i = 0; i < n; ++i)
      for (Index k = 0; k < columns; ++k) {
        if (k < 3 * n && rows_.forces == nullptr) continue;
        for (Index d = 0; d < D; ++d)
          change[d] = jacobian_[static_cast<std::size_t>((i * D + d) * columns + k)] *
                      inverse_scale_[batch_.species[first + i] * D + d];
        if (k < 3 * n)
          add(first + i, change.data(), -1.0, at(rows_.forces, 3 * first + k, first + i));
        else
          add(first + i, change.data(), 1.0, at(rows_.strains, 6 * structure + k - 3 * n, first + i));
      }
  }

  const Polynomial& model_;
  const Descriptor& descriptor_;
  const Neighbours& batch_;
  const double* features_;
  const double* inverse_scale_;
  const PolynomialRows& rows_;
  std::unique_ptr<Descriptor::Surroundings> found_;
  Matrix slopes_, centre_, strain_;
  std::vector<double> jacobian_;
};

}  // namespace

void polynomial_rows(const Polynomial& model, const Descriptor& descriptor, const Neighbours& batch,
                     const double* features, const double* inverse_scale, int n_threads,
                     const PolynomialRows& rows) {
  std::vector<std::unique_ptr<StructureRows>> writers(static_cast<std::size_t>(std::max(n_threads, 1)));
  parallel_for(batch.n_structures, n_threads, [&](Index structure, int thread) {
    std::unique_ptr<StructureRows>& own = writers[static_cast<std::size_t>(thread)];
    if (own == nullptr)
      own = std::make_unique<StructureRows>(model, descriptor, batch, features, inverse_scale, rows);
    own->write(structure);
  });
}

}  // namespace gprann
