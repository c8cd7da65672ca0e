#pragma once

#include "gprann/neighbours.hpp"
#include "gprann/types.hpp"

namespace gprann {

// clang-format off
/// Fingerprint of a structure of N atoms by its pairs, q_ij = sum over images of h(r_ij), i < j, in the order
/// (0,1), (0,2), ..., (N-2,N-1): N (N-1) / 2 numbers.
///
///     h(r) = r^-exponent                           without cutoff (cutoff <= 0)
///     h(r) = f_c(r; cutoff)^2 r^-exponent          with one, needed where there is a periodic direction
///
/// A pair touches two atoms, so its Jacobian has six numbers; `jacobian` writes them into a dense (pairs,
/// 3N).
// clang-format on
struct PairDistances {
  double exponent = 1.0;
  double cutoff = 0.0;

  /// values: (pairs); jacobian: (pairs, 3N), or null. Structure s of the batch.
  void evaluate(const Neighbours& batch, Index s, double* values, double* jacobian) const;
};

}  // namespace gprann
