#include "gprann/activation.hpp"

#include <cmath>
#include <cstring>

namespace gprann {

// clang-format off
// tanh |z| = (1 - e) / (1 + e) with e = exp(-2 |z|) = 2^k + 2^k p, where -2 |z| = k ln 2 + r, |r| <= ln 2 / 2 and
// p = exp(r) - 1 by its series up to r^13, whose remainder is below 2e-17. Near zero k = 0 and 1 - e = -p, so that
// nothing cancels; 1 + 2^k, 1 - 2^k and 2^k p are exact. Plain loops of additions, products and one quotient, which
// compilers turn into vector instructions.
// clang-format on
void tanh_and_slope(double* __restrict z, double* __restrict slope, Index n) {
  constexpr double largest = 20.0;         // beyond it tanh is one
  constexpr double to_integer = 0x1.8p52;  // x + this: the nearest integer in the lowest bits
  constexpr double inverse_ln2 = 1.4426950408889634;
  constexpr double ln2_high = 6.93147180369123816490e-01, ln2_low = 1.90821492927058770002e-10;
  for (Index i = 0; i < n; ++i) {
    const double input = z[i];
    const double size = std::abs(input);
    const double x = -2.0 * (size > largest ? largest : size);  // NaN stays
    const double shifted = x * inverse_ln2 + to_integer;
    const double k = shifted - to_integer;
    const double r = (x - k * ln2_high) - k * ln2_low;
    const double r2 =
        r * r;  // odd and even powers apart: two short chains of operations instead of a long one
    double even = 1.0 / 479001600.0, odd = 1.0 / 6227020800.0;
    for (const double coefficient : {1.0 / 3628800.0, 1.0 / 40320.0, 1.0 / 720.0, 1.0 / 24.0, 0.5})
      even = even * r2 + coefficient;
    for (const double coefficient : {1.0 / 39916800.0, 1.0 / 362880.0, 1.0 / 5040.0, 1.0 / 120.0, 1.0 / 6.0})
      odd = odd * r2 + coefficient;
    const double p = (odd * r + even) * r2 + r;
    std::int64_t bits;
    std::memcpy(&bits, &shifted, sizeof bits);
    bits = static_cast<std::int64_t>(static_cast<std::uint64_t>(bits + 1023) << 52);
    double power;
    std::memcpy(&power, &bits, sizeof power);
    const double value = std::copysign(((1.0 - power) - power * p) / ((1.0 + power) + power * p), input);
    z[i] = value;
    slope[i] = 1.0 - value * value;
  }
}

}  // namespace gprann
