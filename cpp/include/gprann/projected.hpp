#pragma once

#include <memory>
#include <vector>

#include "gprann/descriptor.hpp"

namespace gprann {

/// Another descriptor, seen through one fixed matrix for each species t of the central atom:
///
///     g = (G - offset_t) . M_t,    M_t (D, d)
///
/// A few hundred leading directions keep what a thousand components say: kernels and networks cost as much as
/// with a descriptor of that size.
class ProjectedDescriptor final : public Descriptor {
 public:
  /// matrices: one (D, d) for each species; offsets: (species, D).
  ProjectedDescriptor(std::shared_ptr<const Descriptor> base, std::vector<Matrix> matrices,
                      const Matrix& offsets);

  Index size() const override { return size_; }
  Index n_species() const override { return base_->n_species(); }
  double cutoff() const override { return base_->cutoff(); }
  bool divisible() const override { return base_->divisible(); }
  bool has_pair_gradients() const override { return base_->has_pair_gradients(); }
  Index atoms_at_once() const override { return 32; }

  using Descriptor::jvp;
  using Descriptor::survey;
  using Descriptor::values;

  std::unique_ptr<Surroundings> make_surroundings() const override;
  void survey(const Neighbours& batch, Index s, Index begin, Index end, Surroundings& found) const override;
  void values(const Surroundings& found, double* values) const override;
  void jvp(const Neighbours& batch, Surroundings& found, const double* direction, const double* strain,
           double* tangent) const override;
  void add_vjp(const Neighbours& batch, Surroundings& found, const double* cotangent, double* gradient,
               double* virial) const override;
  bool has_slopes() const override { return base_->has_slopes(); }
  void slopes(const Neighbours& batch, Surroundings& found, double* slopes) const override;

 private:
  struct Found;

  template <class Work>
  void for_each_species(Found& found, Work&& work) const;
  void project(Found& found, double* out) const;

  std::shared_ptr<const Descriptor> base_;
  std::vector<Matrix> matrices_;
  Matrix shifts_;  // (species, d): offset . M
  Index size_;
};

}  // namespace gprann
