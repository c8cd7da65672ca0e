#include "gprann/projected.hpp"

#include <stdexcept>
#include <utility>

namespace gprann {

/// The surroundings as the base found them, and arrays of its size.
struct ProjectedDescriptor::Found final : Descriptor::Surroundings {
  std::unique_ptr<Surroundings> base;
  std::vector<std::vector<Index>> atoms;  // for each species, those surveyed
  Index first = 0, n_atoms = 0;
  Matrix full;             // (n_atoms, D)
  Matrix picked, product;  // rows of one species
};

ProjectedDescriptor::ProjectedDescriptor(std::shared_ptr<const Descriptor> base, std::vector<Matrix> matrices,
                                         const Matrix& offsets)
    : base_(std::move(base)), matrices_(std::move(matrices)), size_(0) {
  if (base_ == nullptr) throw std::invalid_argument("a projection needs a descriptor");
  if (static_cast<Index>(matrices_.size()) != base_->n_species())
    throw std::invalid_argument("one matrix is needed for each species");
  if (offsets.rows() != base_->n_species() || offsets.cols() != base_->size())
    throw std::invalid_argument("offsets must have shape (species, components)");
  size_ = matrices_.front().cols();
  shifts_.resize(offsets.rows(), size_);
  for (std::size_t t = 0; t < matrices_.size(); ++t) {
    if (matrices_[t].rows() != base_->size() || matrices_[t].cols() != size_ || size_ < 1)
      throw std::invalid_argument("matrices must have the same shape (components, features)");
    const auto row = static_cast<Index>(t);
    shifts_.row(row).noalias() = offsets.row(row) * matrices_[t];
  }
}

std::unique_ptr<Descriptor::Surroundings> ProjectedDescriptor::make_surroundings() const {
  auto found = std::make_unique<Found>();
  found->base = base_->make_surroundings();
  found->atoms.resize(matrices_.size());
  return found;
}

void ProjectedDescriptor::survey(const Neighbours& batch, Index s, Index begin, Index end,
                                 Surroundings& found) const {
  auto& content = static_cast<Found&>(found);
  base_->survey(batch, s, begin, end, *content.base);
  content.first = begin;
  content.n_atoms = end - begin;
  for (auto& own : content.atoms) own.clear();
  for (Index i = begin; i < end; ++i)
    content.atoms[static_cast<std::size_t>(batch.species[i])].push_back(i - begin);
  content.full.resize(content.n_atoms, base_->size());
}

/// Calls work(species, atoms) for every species of the atoms surveyed.
template <class Work>
void ProjectedDescriptor::for_each_species(Found& found, Work&& work) const {
  for (std::size_t t = 0; t < matrices_.size(); ++t)
    if (!found.atoms[t].empty()) work(t, found.atoms[t]);
}

/// out (n_atoms, d) = full . M.
void ProjectedDescriptor::project(Found& found, double* out) const {
  for_each_species(found, [&](std::size_t t, const std::vector<Index>& atoms) {
    const auto n = static_cast<Index>(atoms.size());
    found.picked.resize(n, base_->size());
    for (Index k = 0; k < n; ++k) found.picked.row(k) = found.full.row(atoms[static_cast<std::size_t>(k)]);
    found.product.noalias() = found.picked * matrices_[t];
    for (Index k = 0; k < n; ++k)
      Eigen::Map<Eigen::RowVectorXd>(out + atoms[static_cast<std::size_t>(k)] * size_, size_) =
          found.product.row(k);
  });
}

void ProjectedDescriptor::values(const Surroundings& found, double* values) const {
  // The workspace is the caller's own: what is written there is not what `survey` found.
  auto& content = const_cast<Found&>(static_cast<const Found&>(found));
  base_->values(*content.base, content.full.data());
  project(content, values);
  MatrixMap all(values, content.n_atoms, size_);
  for_each_species(content, [&](std::size_t t, const std::vector<Index>& atoms) {
    for (const Index i : atoms) all.row(i) -= shifts_.row(static_cast<Index>(t));
  });
}

void ProjectedDescriptor::jvp(const Neighbours& batch, Surroundings& found, const double* direction,
                              const double* strain, double* tangent) const {
  auto& content = static_cast<Found&>(found);
  base_->jvp(batch, *content.base, direction, strain, content.full.data());
  project(content, tangent);
}

void ProjectedDescriptor::add_vjp(const Neighbours& batch, Surroundings& found, const double* cotangent,
                                  double* gradient, double* virial) const {
  auto& content = static_cast<Found&>(found);
  const ConstMatrixMap given(cotangent, content.n_atoms, size_);
  for_each_species(content, [&](std::size_t t, const std::vector<Index>& atoms) {
    const auto n = static_cast<Index>(atoms.size());
    content.picked.resize(n, size_);
    for (Index k = 0; k < n; ++k) content.picked.row(k) = given.row(atoms[static_cast<std::size_t>(k)]);
    content.product.noalias() = content.picked * matrices_[t].transpose();
    for (Index k = 0; k < n; ++k)
      content.full.row(atoms[static_cast<std::size_t>(k)]) = content.product.row(k);
  });
  base_->add_vjp(batch, *content.base, content.full.data(), gradient, virial);
}

void ProjectedDescriptor::slopes(const Neighbours& batch, Surroundings& found, double* slopes) const {
  auto& content = static_cast<Found&>(found);
  const std::int64_t begin = batch.first_pair[content.first];
  const std::int64_t end = batch.first_pair[content.first + content.n_atoms];
  content.picked.resize(3 * (end - begin), base_->size());
  base_->slopes(batch, *content.base, content.picked.data());
  MatrixMap out(slopes, content.picked.rows(), size_);
  for (Index i = content.first; i < content.first + content.n_atoms; ++i) {
    const Index row = 3 * (batch.first_pair[i] - begin);
    const Index count = 3 * (batch.first_pair[i + 1] - batch.first_pair[i]);
    out.middleRows(row, count).noalias() =
        content.picked.middleRows(row, count) * matrices_[static_cast<std::size_t>(batch.species[i])];
  }
}

}  // namespace gprann
