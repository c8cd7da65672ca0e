#pragma once

#include <cmath>

#include "gprann/types.hpp"

namespace gprann {

// clang-format off
/// A stationary kernel of unit amplitude as a function of the squared distance s = |g - g'|^2 of two feature
/// vectors, k(g, g') = phi(s), with the two slopes from which every covariance of energies and gradients is
/// made:
///
///     dk/dg = 2 phi' d,   dk/dg' = -2 phi' d,   d2k/dg dg'^T = -2 phi' I - 4 phi'' d d^T,   d = g - g'
///
/// To phi is added a constant, a shift of all energies of that prior variance (relative to the amplitude).
/// With `log_length_derivative` the three functions are replaced by their derivatives with respect to log l;
/// covariances are linear in them, so the same code gives dK/dlog l.
// clang-format on
struct RadialKernel {
  enum class Shape { squared_exponential, matern52 };

  Shape shape;
  double length;
  bool log_length_derivative = false;
  double constant = 0.0;

  /// value, first, second: phi, phi', phi'' of each squared distance.
  template <class In, class Out>
  void evaluate(const In& s, Out&& value, Out&& first, Out&& second) const {
    if (shape == Shape::squared_exponential)
      squared_exponential(s, value, first, second);
    else
      matern52(s, value, first, second);
    if (!log_length_derivative) value += constant;
  }

 private:
  /// phi = exp(-s / (2 l^2))
  template <class In, class Out>
  void squared_exponential(const In& s, Out& value, Out& first, Out& second) const {
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

  /// phi = (1 + u + u^2 / 3) exp(-u), u = sqrt(5 s) / l (Rasmussen and Williams, eq. 4.17): twice
  /// differentiable in s, just enough for covariances of gradients, and no smoother than that.
  template <class In, class Out>
  void matern52(const In& s, Out& value, Out& first, Out& second) const {
    const double slope = 5.0 / (6.0 * length * length);
    const double curvature = 3.0 * slope * slope;  // 25 / (12 l^4)
    value = (s * (6.0 * slope)).sqrt();
    const auto decay = (-value).exp().eval();
    if (!log_length_derivative) {
      first = decay * (1.0 + value) * -slope;
      second = decay * curvature;
      value = decay * (1.0 + value + value * value * (1.0 / 3.0));
      return;
    }
    first = decay * (2.0 + 2.0 * value - value * value) * slope;
    second = decay * (value - 4.0) * curvature;
    value = decay * value * value * (1.0 + value) * (1.0 / 3.0);
  }
};

struct SquaredExponential : RadialKernel {
  explicit SquaredExponential(double length_, bool derivative = false, double constant_ = 0.0)
      : RadialKernel{Shape::squared_exponential, length_, derivative, constant_} {}
};

struct Matern52 : RadialKernel {
  explicit Matern52(double length_, bool derivative = false, double constant_ = 0.0)
      : RadialKernel{Shape::matern52, length_, derivative, constant_} {}
};

}  // namespace gprann
