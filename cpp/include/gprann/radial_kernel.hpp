#pragma once

#include <cmath>

#include "gprann/types.hpp"

namespace gprann {

/// A stationary kernel of unit amplitude as a function of the squared distance s = |g - g'|^2 of two feature
/// vectors, k(g, g') = phi(s), with the two slopes from which every covariance of energies and gradients is
/// made:
///
///     dk/dg = 2 phi' d,   dk/dg' = -2 phi' d,   d2k/dg dg'^T = -2 phi' I - 4 phi'' d d^T,   d = g - g'
///
/// Squared exponential phi = exp(-s / (2 l^2)). With `log_length_derivative` the three functions are replaced
/// by their derivatives with respect to log l; covariances are linear in them, so the same code gives dK/dlog
/// l.
struct SquaredExponential {
  double length;
  bool log_length_derivative = false;

  /// value, first, second: phi, phi', phi'' of each squared distance.
  template <class In, class Out>
  void evaluate(const In& s, Out&& value, Out&& first, Out&& second) const {
    const double inverse = 1.0 / (length * length);
    value = (s * (-0.5 * inverse)).exp();
    if (!log_length_derivative) {
      first = value * (-0.5 * inverse);
      second = value * (0.25 * inverse * inverse);
      return;
    }
    first = value * (inverse - s * (0.5 * inverse * inverse));
    second = value * (s * (0.25 * inverse * inverse * inverse) - inverse * inverse);
    value *= s * inverse;
  }
};

}  // namespace gprann
