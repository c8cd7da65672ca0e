#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "gprann/density_expansion.hpp"
#include "gprann/density_invariants.hpp"
#include "gprann/descriptor.hpp"

namespace gprann {

/// Order and cutoff of one part of the descriptor: expansions are made with one weight matrix and one decay.
struct DensityPart {
  int n_max = 0;  // 0: this part is left out
  int l_max = 0;
  double cutoff = 0.0;
};

/// 2-, 3- and 4-body invariants of the density of an atom's neighbours: [2-body | 3-body | 4-body].
///
/// Each part is a density expansion (`DensityExpansion`) and the polynomials of its moments
/// (`DensityInvariants`). Cost of an atom: one sweep over the neighbours for each part, one contraction.
class DensityDescriptor final : public Descriptor {
 public:
  /// weights: (channels, species).
  DensityDescriptor(const DensityPart& two_body, const DensityPart& three_body, const DensityPart& four_body,
                    double decay, const Matrix& weights);

  Index size() const override { return size_; }
  Index n_species() const override { return n_species_; }
  double cutoff() const override;
  /// What every component is made of.
  std::vector<DensityInvariants::Term> terms() const;

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
  bool has_slopes() const override { return true; }
  void slopes(const Neighbours& batch, Surroundings& found, double* slopes) const override;

 private:
  struct Part {
    DensityExpansion expansion;
    std::unique_ptr<DensityInvariants> invariants;
    Index first;  // component of the descriptor
  };
  struct Environment;
  struct Found;

  template <class Work>
  void for_each_slope(const Part& part, const DensityShell& shell, std::int64_t first, Found& found,
                      Work&& work) const;
  void product_slopes(const Part& part, const Environment& env, std::int64_t first, Found& found,
                      double* slopes) const;
  void part_slopes(const Part& part, const Environment& env, std::int64_t first, Found& found,
                   double* slopes) const;
  void add_part(const DensityPart& part, double decay, const Matrix& weights,
                std::unique_ptr<DensityInvariants> (*make)(const DensityExpansion&));

  std::vector<Part> parts_;
  Index size_ = 0;
  Index n_species_ = 0;
};

}  // namespace gprann
