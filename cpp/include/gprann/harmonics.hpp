#pragma once

#include <array>
#include <vector>

#include "gprann/types.hpp"

namespace gprann {

// clang-format off
/// Real spherical harmonics Y_lm(u), l = 0..order, of unit vectors, scaled so that the addition theorem reads
///
///     sum_m Y_lm(u) Y_lm(v) = P_l(u . v)        (Racah's normalisation: 4 pi / (2l+1) times the orthonormal product)
///
/// Y_lm = q_l|m|(z) Re or Im (x + i y)^|m| with q_lm proportional to d^m P_l / dz^m; element (l, m) stands at
/// l^2 + l + m. Gradients are those of this polynomial in (x, y, z); the projection on the sphere is the
/// caller's. Cost per vector: about 2 (order + 1)^2 multiplications for the values, twice that with
/// gradients.
// clang-format on
class RealHarmonics {
 public:
  static constexpr int max_order = 24;

  explicit RealHarmonics(int order);

  int order() const { return order_; }
  Index size() const { return static_cast<Index>(order_ + 1) * (order_ + 1); }

  /// values: (size) lanes.
  void values(const Lane& x, const Lane& y, const Lane& z, Lane* values) const;

  /// values, dx, dy, dz: (size) lanes each.
  void gradients(const Lane& x, const Lane& y, const Lane& z, Lane* values, Lane* dx, Lane* dy,
                 Lane* dz) const;

  /// q_lm(z) and the real and imaginary parts of (x + i y)^m, of which values and gradients are products.
  struct Factors {
    std::vector<Lane> q, re, im;
  };
  void factors(const Lane& x, const Lane& y, const Lane& z, Factors& factors) const;

  /// sum_lm g_lm Y_lm and its gradient, from the factors: sums over l come first, for each m, so that no
  /// harmonic and no derivative of one is ever formed. About 2 (order + 1)^2 multiplications.
  struct Contraction {
    Lane value, x, y, z;
  };
  Contraction contract(const Factors& factors, const double* g) const;

  /// df Y_lm + v . grad Y_lm for all lm, to `tangents` (size), from the factors. About 3 (order + 1)^2
  /// multiplications.
  void tangents(const Factors& factors, const Lane& df, const Lane& vx, const Lane& vy, const Lane& vz,
                Lane* tangents) const;

 private:
  Index at(int l, int m) const { return static_cast<Index>(l) * (order_ + 1) + m; }
  void legendre(const Lane& z, Lane* q) const;
  void powers(const Lane& x, const Lane& y, Lane* re, Lane* im) const;

  int order_;
  std::vector<double> a_;  // q_lm = a_lm z q_{l-1,m} - b_lm q_{l-2,m}
  std::vector<double> b_;
  std::vector<double> start_;  // q_mm
  std::vector<double> slope_;  // dq_lm/dz = slope_lm q_{l,m+1}
};

}  // namespace gprann
