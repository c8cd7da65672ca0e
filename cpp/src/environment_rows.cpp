#include "gprann/environment_rows.hpp"

#include <algorithm>
#include <memory>
#include <vector>

#include "gprann/parallel.hpp"
#include "voigt.hpp"

namespace gprann {

namespace {

using Array = Eigen::Array<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

constexpr Index chunk = 64;  // environments for which an atom is surveyed once

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

  const Descriptor& descriptor_;
  const Neighbours& batch_;
  const double* features_;
  const double* scale_;
  const Environments& environments_;
  const RadialKernel& kernel_;
  const EnvironmentRows& rows_;
  std::unique_ptr<Descriptor::Surroundings> found_;
  Array squared_, value_, first_, second_;
  Matrix cotangent_, virials_;
};

}  // namespace

void environment_rows(const Descriptor& descriptor, const Neighbours& batch, const double* features,
                      const double* scale, const Environments& environments, const RadialKernel& kernel,
                      int n_threads, const EnvironmentRows& rows) {
  std::vector<Item> items;
  for (Index s = 0; s < batch.n_structures; ++s)
    for (Index kind = 0; kind < environments.n_kinds; ++kind)
      for (Index begin = environments.first[kind]; begin < environments.first[kind + 1]; begin += chunk)
        items.push_back({s, kind, begin, std::min<Index>(begin + chunk, environments.first[kind + 1])});
  std::vector<std::unique_ptr<RowWriter>> writers(static_cast<std::size_t>(std::max(n_threads, 1)));
  parallel_for(static_cast<Index>(items.size()), n_threads, [&](Index item, int thread) {
    std::unique_ptr<RowWriter>& own = writers[static_cast<std::size_t>(thread)];
    if (own == nullptr)
      own = std::make_unique<RowWriter>(descriptor, batch, features, scale, environments, kernel, rows);
    own->write(items[static_cast<std::size_t>(item)]);
  });
}

}  // namespace gprann
