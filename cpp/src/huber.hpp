#pragma once

#include <cmath>

namespace gprann {

/// Huber's function of a residual: r^2 up to `threshold`, 2 threshold |r| - threshold^2 beyond.
struct Huber {
  double value;
  double slope;
  double weight;  // of r^2 in the Gauss-Newton model: slope / 2r

  Huber(double r, double threshold) : value(r * r), slope(2.0 * r), weight(1.0) {
    const double size = std::abs(r);
    if (size <= threshold) return;
    value = threshold * (2.0 * size - threshold);
    weight = threshold / size;
    slope = std::copysign(2.0 * threshold, r);
  }
};

}  // namespace gprann
