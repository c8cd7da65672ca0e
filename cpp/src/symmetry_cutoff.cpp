#include "gprann/symmetry_cutoff.hpp"

#include <cmath>

namespace gprann {

namespace {

/// 1 + x^power p(x) with the coefficients of p from the lowest, and its derivative.
void polynomial(const Lane& x, int power, std::initializer_list<double> coefficients, Lane& value,
                Lane& slope) {
  Lane monomial = x.pow(power - 1);
  value.setOnes();
  slope.setZero();
  for (const double c : coefficients) {
    slope += (c * power++) * monomial;
    monomial *= x;
    value += c * monomial;
  }
}

/// Of x in [0, 1): value and d/dx.
void of_fraction(SymmetryCutoff kind, const Lane& x, Lane& value, Lane& slope) {
  switch (kind) {
    case SymmetryCutoff::exp: {
      const Lane rest = 1.0 - x * x;
      value = (1.0 - 1.0 / rest).exp();
      slope = -2.0 * x * value / (rest * rest);
      return;
    }
    case SymmetryCutoff::poly1:
      return polynomial(x, 2, {-3.0, 2.0}, value, slope);
    case SymmetryCutoff::poly2:
      return polynomial(x, 3, {-10.0, 15.0, -6.0}, value, slope);
    case SymmetryCutoff::poly3:
      return polynomial(x, 4, {-35.0, 84.0, -70.0, 20.0}, value, slope);
    case SymmetryCutoff::poly4:
      return polynomial(x, 5, {-126.0, 420.0, -540.0, 315.0, -70.0}, value, slope);
    default:
      value = 0.5 * ((pi * x).cos() + 1.0);
      slope = -0.5 * pi * (pi * x).sin();
  }
}

}  // namespace

void symmetry_cutoff(SymmetryCutoff kind, const Lane& r, double cutoff, double alpha, Lane& value,
                     Lane& slope) {
  const auto inside = (r < cutoff);
  if (kind == SymmetryCutoff::tanhu || kind == SymmetryCutoff::tanh) {
    const double scale = kind == SymmetryCutoff::tanh ? 1.0 / std::pow(std::tanh(1.0), 3) : 1.0;
    const Lane t = (1.0 - r.min(cutoff) / cutoff).tanh();
    value = inside.select(scale * t * t * t, 0.0);
    slope = inside.select((-3.0 * scale / cutoff) * t * t * (1.0 - t * t), 0.0);
    return;
  }
  const double width = cutoff * (1.0 - alpha);
  // Never 1, where `exp` divides by zero; beyond the cutoff nothing is taken from here.
  const Lane x = ((r - alpha * cutoff) / width).max(0.0).min(1.0 - 1e-12);
  Lane f, df;
  of_fraction(kind, x, f, df);
  value = inside.select(f, 0.0);
  slope = (inside && r > alpha * cutoff).select(df / width, 0.0);
}

}  // namespace gprann
