#pragma once

#include <memory>
#include <vector>

#include "gprann/descriptor.hpp"

namespace gprann {

/// Values and slopes of another descriptor for one batch of structures, which are kept.
///
/// Every product is then one sweep over pairs, 12 D flops each, whatever the descriptor costs: for training
/// on descriptors of a thousand components of which a few directions count. 24 D bytes for each pair.
class StoredDescriptor final : public Descriptor {
 public:
  /// Computes what is kept; `base` must have slopes. It is not needed afterwards.
  StoredDescriptor(const Descriptor& base, const Neighbours& batch, int n_threads);

  Index size() const override { return values_.cols(); }
  Index n_species() const override { return n_species_; }
  double cutoff() const override { return cutoff_; }

  using Descriptor::jvp;
  using Descriptor::survey;
  using Descriptor::values;

  std::unique_ptr<Surroundings> make_surroundings() const override;
  /// Throws std::invalid_argument for another batch.
  void survey(const Neighbours& batch, Index s, Index begin, Index end, Surroundings& found) const override;
  void values(const Surroundings& found, double* values) const override;
  void jvp(const Neighbours& batch, Surroundings& found, const double* direction, const double* strain,
           double* tangent) const override;
  void add_vjp(const Neighbours& batch, Surroundings& found, const double* cotangent, double* gradient,
               double* virial) const override;
  bool has_slopes() const override { return true; }
  void slopes(const Neighbours& batch, Surroundings& found, double* slopes) const override;

 private:
  struct Found;

  ConstMatrixMap slopes_of(const Neighbours& batch, Index i) const {
    const std::int64_t begin = batch.first_pair[i];
    return {slopes_.data() + 3 * begin * size(), 3 * (batch.first_pair[i + 1] - begin), size()};
  }

  Index n_species_;
  double cutoff_;
  Matrix values_;               // (n_atoms, D)
  std::vector<double> slopes_;  // (n_pairs, 3, D)
};

}  // namespace gprann
