#pragma once

#include "gprann/types.hpp"

namespace gprann {

enum class Activation { linear, tanh, softplus, silu, twist };

/// a tanh(b z) + c z with the constants of LeCun et al., Efficient BackProp (1998), as the ænet program has
/// them.
struct Twist {
  static constexpr double a = 1.7159, b = 0.666666666666667, c = 0.1;
};

/// Replaces n numbers z by tanh(z) and writes 1 - tanh(z)^2 to `slope`; tanh is accurate to 2.3e-16 absolute,
/// and NaN stays NaN. Eigen's own is scalar and ten times slower.
void tanh_and_slope(double* z, double* slope, Index n);

/// Replaces z by phi(z) and writes phi'(z) to `slope`, both arrays of the same shape.
template <class Z, class S>
void activate(Activation kind, Z& z, S& slope) {
  switch (kind) {
    case Activation::linear:
      slope.setOnes();
      return;
    case Activation::tanh:
      tanh_and_slope(z.data(), slope.data(), z.size());
      return;
    case Activation::softplus:
      slope = 1.0 / (1.0 + (-z).exp());
      z = z.max(0.0) + (1.0 + (-z.abs()).exp()).log();
      return;
    case Activation::silu: {
      slope = 1.0 / (1.0 + (-z).exp());  // sigmoid
      const typename Z::PlainObject input = z;
      z *= slope;
      slope += z * (1.0 - slope);
      return;
    }
    case Activation::twist: {
      const typename Z::PlainObject input = z;
      z *= Twist::b;
      activate(Activation::tanh, z, slope);
      z = Twist::a * z + Twist::c * input;
      slope = Twist::a * Twist::b * slope + Twist::c;
      return;
    }
  }
}

/// The same, and phi''(z) to `curvature`.
template <class Z, class S>
void activate(Activation kind, Z& z, S& slope, S& curvature) {
  if (kind == Activation::silu || kind == Activation::twist) curvature = z;
  activate(kind, z, slope);
  switch (kind) {
    case Activation::linear:
      curvature.setZero();
      return;
    case Activation::tanh:
      curvature = -2.0 * z * slope;
      return;
    case Activation::softplus:
      curvature = slope * (1.0 - slope);
      return;
    case Activation::silu: {
      const typename Z::PlainObject sigmoid = 1.0 / (1.0 + (-curvature).exp());
      curvature = sigmoid * (1.0 - sigmoid) * (2.0 + curvature * (1.0 - 2.0 * sigmoid));
      return;
    }
    case Activation::twist:  // -2 a b^2 tanh(b z) (1 - tanh^2(b z)), of value and slope
      curvature = -2.0 * Twist::b / Twist::a * (z - Twist::c * curvature) * (slope - Twist::c);
      return;
  }
}

}  // namespace gprann
