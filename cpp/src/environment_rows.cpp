#include "gprann/environment_rows.hpp"

#include <algorithm>
#include <memory>
#include <vector>

#include "gprann/parallel.hpp"
#include "voigt.hpp"

namespace gprann {

namespace {

using Array = Eigen::Array<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

constexpr Index chunk = 64;               // environments for which an atom is surveyed once
constexpr Index chunk_with_slopes = 512;  // the same, where one product makes the gradients of all of them

/// Environments of one kind, for one structure.
struct Item {
  Index structure, kind, begin, end;
};

/// What a thread needs.
class RowWriter {
 public:
  RowWriter(const Descriptor& descriptor, const Neighbours& batch, const double* features,
            const double* scale, const Environments& environments, const RadialKernel& kernel,
            const EnvironmentRows& rows)
      : descriptor_(descriptor),
        batch_(batch),
        features_(features),
        scale_(scale),
        environments_(environments),
        kernel_(kernel),
        rows_(rows),
        found_(descriptor.make_surroundings()) {}

  void write(const Item& item) {
    clear(item);
    const Index last = batch_.first_atom[item.structure + 1];
    const Index step = descriptor_.divisible() ? 1 : last - batch_.first_atom[item.structure];
    for (Index atom = batch_.first_atom[item.structure]; atom < last; atom += step) {
      bool any = false;
      for (Index i = atom; i < atom + step; ++i) any = any || batch_.species[i] == item.kind;
      if (any) add_atoms(item, atom, atom + step);
    }
    if (strain_length(item) <= 0.0) return;
    for (Index m = item.begin; m < item.end; ++m) {
      double* strains = gradient(item, m) + 3 * batch_.atoms_of(item.structure);
      const auto virial = virials_.row(m - item.begin);
      for (int v = 0; v < 6; ++v)
        strains[v] = 0.5 * (virial[voigt_first[v]] + virial[voigt_second[v]]) / strain_length(item);
    }
  }

 private:
  double strain_length(const Item& item) const { return rows_.strain_length[item.structure]; }
  double* gradient(const Item& item, Index m) const {
    return rows_.gradients + m * rows_.gradient_stride + rows_.first_gradient[item.structure];
  }
  double& energy(const Item& item, Index m) const {
    return rows_.energies[m * rows_.energy_stride + item.structure];
  }

  void clear(const Item& item) {
    virials_.setZero(item.end - item.begin, 9);
    for (Index m = item.begin; m < item.end; ++m) {
      energy(item, m) = 0.0;
      std::fill_n(gradient(item, m), 3 * batch_.atoms_of(item.structure), 0.0);
    }
  }

  void add_atoms(const Item& item, Index begin, Index end) {
    const Index D = environments_.size;
    const ConstMatrixMap own(features_ + begin * D, end - begin, D);
    const ConstMatrixMap others(environments_.features + item.begin * D, item.end - item.begin, D);
    squared_.resize(end - begin, item.end - item.begin);
    for (Index i = 0; i < squared_.rows(); ++i)
      for (Index m = 0; m < squared_.cols(); ++m) squared_(i, m) = (own.row(i) - others.row(m)).squaredNorm();
    value_.resizeLike(squared_);
    first_.resizeLike(squared_);
    second_.resizeLike(squared_);
    kernel_.evaluate(squared_, value_, first_, second_);
    descriptor_.survey(batch_, item.structure, begin, end, *found_);
    const auto inverse_scale = ConstMatrixMap(scale_ + item.kind * D, 1, D).row(0).cwiseInverse().eval();
    if (descriptor_.has_slopes()) {
      add_products(item, begin, 2.0 * first_.row(0).matrix().transpose(), own.row(0), others, inverse_scale);
      return;
    }
    cotangent_.setZero(end - begin, D);
    for (Index m = 0; m < squared_.cols(); ++m) {
      for (Index i = 0; i < squared_.rows(); ++i) {
        if (batch_.species[begin + i] != item.kind) continue;
        energy(item, item.begin + m) += value_(i, m);
        cotangent_.row(i) = (2.0 * first_(i, m)) * (own.row(i) - others.row(m)).cwiseProduct(inverse_scale);
      }
      descriptor_.add_vjp(batch_, *found_, cotangent_.data(), gradient(item, item.begin + m),
                          virials_.row(m).data());
    }
  }

  /// Gradients of one atom's covariances with all environments: cotangents (environments, D) times slopes.
  void add_products(const Item& item, Index atom, const Vector& weight, const Eigen::RowVectorXd& own,
                    const ConstMatrixMap& others, const Eigen::RowVectorXd& inverse_scale) {
    cotangent_ = ((-others).rowwise() + own).array().colwise() * weight.array();
    cotangent_.array().rowwise() *= inverse_scale.array();
    const std::int64_t begin = batch_.first_pair[atom], end = batch_.first_pair[atom + 1];
    slopes_.resize(3 * (end - begin), environments_.size);
    descriptor_.slopes(batch_, *found_, slopes_.data());
    products_.noalias() = cotangent_ * slopes_.transpose();
    const Index first = batch_.first_atom[item.structure];
    for (Index m = 0; m < products_.rows(); ++m) {
      energy(item, item.begin + m) += value_(0, m);
      double* out = gradient(item, item.begin + m);
      double* centre = out + 3 * (atom - first);
      double* virial = virials_.row(m).data();
      for (std::int64_t p = begin; p < end; ++p) {
        const double* g = products_.row(m).data() + 3 * (p - begin);
        double* neighbour = out + 3 * (batch_.neighbour[p] - first);
        for (int d = 0; d < 3; ++d) {
          neighbour[d] += g[d];
          centre[d] -= g[d];
        }
        if (strain_length(item) <= 0.0) continue;
        for (int d = 0; d < 3; ++d)
          for (int e = 0; e < 3; ++e) virial[3 * d + e] += batch_.vectors[3 * p + d] * g[e];
      }
    }
  }

  const Descriptor& descriptor_;
  const Neighbours& batch_;
  const double* features_;
  const double* scale_;
  const Environments& environments_;
  const RadialKernel& kernel_;
  const EnvironmentRows& rows_;
  std::unique_ptr<Descriptor::Surroundings> found_;
  Array squared_, value_, first_, second_;
  Matrix cotangent_, virials_, slopes_, products_;
};

}  // namespace

void environment_rows(const Descriptor& descriptor, const Neighbours& batch, const double* features,
                      const double* scale, const Environments& environments, const RadialKernel& kernel,
                      int n_threads, const EnvironmentRows& rows) {
  std::vector<Item> items;
  const Index together = descriptor.has_slopes() ? chunk_with_slopes : chunk;
  for (Index s = 0; s < batch.n_structures; ++s)
    for (Index kind = 0; kind < environments.n_kinds; ++kind)
      for (Index begin = environments.first[kind]; begin < environments.first[kind + 1]; begin += together)
        items.push_back({s, kind, begin, std::min<Index>(begin + together, environments.first[kind + 1])});
  std::vector<std::unique_ptr<RowWriter>> writers(static_cast<std::size_t>(std::max(n_threads, 1)));
  parallel_for(static_cast<Index>(items.size()), n_threads, [&](Index item, int thread) {
    std::unique_ptr<RowWriter>& own = writers[static_cast<std::size_t>(thread)];
    if (own == nullptr)
      own = std::make_unique<RowWriter>(descriptor, batch, features, scale, environments, kernel, rows);
    own->write(items[static_cast<std::size_t>(item)]);
  });
}

}  // namespace gprann
