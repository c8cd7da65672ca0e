#pragma once

#include <vector>

namespace gprann {

/// One coefficient of a coupling of three harmonics; m1, m2, m3 count from 0 to 2l.
struct Gaunt {
  int m1, m2, m3;
  double value;
};

/// Coefficients that are not zero of the integral over the sphere of three real harmonics in Racah's
/// normalisation, times sqrt((2l+1) / (4 pi)) twice for each, so that
///
///     sum G A_l1m1 A_l2m2 A_l3m3
///
/// is the sum over orthonormal harmonics and Gaunt coefficients.
std::vector<Gaunt> gaunt_coefficients(int l1, int l2, int l3);

}  // namespace gprann
