#pragma once

#include "gprann/types.hpp"

namespace gprann {

/// Cosine cutoff f_c(r; Rc) = (cos(pi r / Rc) + 1) / 2 for r < Rc, else 0 (Behler, Parrinello, PRL 98, 146401
/// (2007)), and its slope df_c/dr, for a lane of distances.
///
/// With h = pi r / (2 Rc) in [0, pi/2]: f_c = cos^2 h, df_c/dr = -(pi / Rc) sin h cos h. Sine and cosine come
/// from their Taylor series about h = pi/4, |h - pi/4| <= pi/4, cut where the next term is below 1e-17.
inline void cosine_cutoff(const Lane& r, double cutoff, Lane& value, Lane& slope) {
  const Lane t = (r.min(cutoff) * (pi / (2 * cutoff))) - pi / 4;
  const Lane t2 = t * t;
  Lane s = Lane::Constant(1.0 / 355687428096000.0);  // 1/17!
  for (double c : {-1.0 / 1307674368000.0, 1.0 / 6227020800.0, -1.0 / 39916800.0, 1.0 / 362880.0,
                   -1.0 / 5040.0, 1.0 / 120.0, -1.0 / 6.0, 1.0})
    s = s * t2 + c;
  s *= t;
  Lane c = Lane::Constant(1.0 / 20922789888000.0);  // 1/16!
  for (double a : {-1.0 / 87178291200.0, 1.0 / 479001600.0, -1.0 / 3628800.0, 1.0 / 40320.0, -1.0 / 720.0,
                   1.0 / 24.0, -1.0 / 2.0, 1.0})
    c = c * t2 + a;
  const Lane cos_h = (c - s) * 0.70710678118654752440;
  const Lane sin_h = (c + s) * 0.70710678118654752440;
  const auto inside = (r < cutoff);
  value = inside.select(cos_h * cos_h, 0.0);
  slope = inside.select(sin_h * cos_h * (-pi / cutoff), 0.0);
}

}  // namespace gprann
