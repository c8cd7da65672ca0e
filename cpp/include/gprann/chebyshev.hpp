#pragma once

#include <memory>

#include "gprann/descriptor.hpp"
#include "gprann/harmonics.hpp"
#include "gprann/types.hpp"

namespace gprann {

// clang-format off
/// Chebyshev descriptor of Artrith, Urban and Ceder, PRB 96, 014112 (2017).
///
///     radial    c2_a = sum_j           w_j     T_a(2 r_ij / Rc_rad - 1)  f_c(r_ij; Rc_rad)                     a = 0..radial_order
///     angular   c3_a = sum_{j<k}       w_j w_k T_a(cos theta_ijk)        f_c(r_ij; Rc_ang) f_c(r_ik; Rc_ang)   a = 0..angular_order
///
/// once per channel of species weights w; vector: [radial | angular] of channel 0, then of channel 1, ...
/// With T_a = sum_l A_al P_l and the addition theorem the pair sum factorises exactly,
///
///     c_lm = sum_j w_j f_c(r_ij) Y_lm(u_j),      c3_a = 1/2 sum_l A_al [ sum_m c_lm^2 - sum_j (w_j f_j)^2 ],
///
/// so an atom costs O(neighbours (angular_order + 1)^2). `jvp` and `vjp` cost about twice and three times the
/// values and store nothing.
// clang-format on
class ChebyshevDescriptor final : public Descriptor {
 public:
  /// angular_order < 0: no angular part. weights: (n_channels, n_species).
  ChebyshevDescriptor(int radial_order, double radial_cutoff, int angular_order, double angular_cutoff,
                      const Matrix& weights);

  Index size() const override { return n_channels() * channel_size(); }
  Index n_channels() const { return weights_.rows(); }
  Index n_species() const override { return weights_.cols(); }
  double cutoff() const override;

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
  struct Environment;
  struct Sums;
  struct Found;

  Index channel_size() const { return (radial_order_ + 1) + (angular_order_ + 1); }
  Index radial_at(Index channel, int a) const { return channel * channel_size() + a; }
  Index angular_at(Index channel, int a) const { return channel * channel_size() + radial_order_ + 1 + a; }

  void gather(const Neighbours& batch, Index atom, Environment& env, Sums& sums) const;
  void sum_moments(Environment& env, Sums& sums) const;
  void radial_values(const Environment& env, double* values) const;
  void angular_values(const Environment& env, double* values) const;
  void radial_tangents(const Environment& env, Sums& sums, double* tangent) const;
  void angular_tangents(const Environment& env, Sums& sums, double* tangent) const;
  void radial_gradients(Environment& env, const double* cotangent) const;
  void angular_gradients(Environment& env, Sums& sums, const double* cotangent) const;
  void atom_tangent(const Neighbours& batch, Index atom, const double* direction, const double* strain,
                    Environment& env, Sums& sums, double* tangent) const;
  void atom_gradients(const Neighbours& batch, Index atom, const double* cotangent, Environment& env,
                      Sums& sums, double* gradient, double* virial) const;
  void radial_slopes(const Environment& env, std::int64_t first, MatrixMap& slopes) const;
  void angular_slopes(const Environment& env, std::int64_t first, Sums& sums, MatrixMap& slopes) const;

  int radial_order_;
  double radial_cutoff_;
  int angular_order_;
  double angular_cutoff_;
  Matrix weights_;
  Matrix legendre_;  // (angular_order + 1, angular_order + 1): A_al
  RealHarmonics harmonics_;
};

}  // namespace gprann
