#pragma once

#include <array>
#include <memory>
#include <vector>

#include "gprann/density_expansion.hpp"
#include "gprann/types.hpp"

namespace gprann {

/// Rotational invariants of the moments of one density expansion: polynomials of one degree in A.
///
/// Moments, tangents and cotangents are laid out as `DensityExpansion` lays them out.
class DensityInvariants {
 public:
  /// Made once for each thread.
  struct Workspace {
    std::vector<Lane> a, b, c, d, e;
    Matrix jacobian, changes, slopes;
  };

  /// One invariant: what is multiplied and summed. Unused places hold -1.
  struct Term {
    int body;
    std::array<int, 3> channel, n, l;
  };

  DensityInvariants() = default;
  DensityInvariants(const DensityInvariants&) = delete;
  DensityInvariants& operator=(const DensityInvariants&) = delete;
  virtual ~DensityInvariants() = default;

  virtual Index size() const = 0;
  virtual std::vector<Term> terms() const = 0;
  virtual void values(const Lane* moments, Workspace& work, double* values) const = 0;
  virtual void tangents(const Lane* moments, const Lane* change, Workspace& work, double* tangents) const = 0;
  /// Sets `cotangent` of the moments from `beta` (size) of the invariants.
  virtual void gradients(const Lane* moments, const double* beta, Workspace& work, Lane* cotangent) const = 0;
  /// Whether `jacobian` is there: where the slopes by all neighbours are wanted, it is made once for an atom.
  virtual bool has_jacobian() const { return false; }
  /// Sets the derivatives (size, n_moments) by the moments; these count (l, m) first, then q without its
  /// padding.
  virtual void jacobian(const Lane* /*moments*/, Workspace& /*work*/, double* /*derivatives*/) const {}
};

/// 2-body: A_q,00 themselves.
std::unique_ptr<DensityInvariants> make_pair_invariants(const DensityExpansion& expansion);

/// 3-body, the power spectrum (Bartok, Kondor, Csanyi, PRB 87, 184115 (2013)), for each l all q <= q':
///
///     p_qq'l = sqrt(2l+1) / (4 pi) sum_m A_q,lm A_q',lm
std::unique_ptr<DensityInvariants> make_power_spectrum(const DensityExpansion& expansion);

/// 4-body (Drautz, PRB 99, 014104 (2019)), for all 1 <= l1 <= l2 <= l3 that can couple:
///
///     b = sum_m1 m2 m3 G(l1m1, l2m2, l3m3) a_q1,l1m1 a_q2,l2m2 a_q3,l3m3,   a_q,lm = sqrt((2l+1) / (4 pi))
///     A_q,lm
///
/// with the Gaunt coefficients G of real orthonormal harmonics. Sums with an odd l1 + l2 + l3 change sign in
/// a mirror and vanish; those with l1 = 0 are products of the lower bodies.
std::unique_ptr<DensityInvariants> make_four_body_invariants(const DensityExpansion& expansion);

}  // namespace gprann
