#include "gprann/pair_distances.hpp"

#include <cmath>

namespace gprann {

void PairDistances::evaluate(const Neighbours& batch, Index s, double* values, double* jacobian) const {
  const Index first = batch.first_atom[s];
  const Index n = batch.first_atom[s + 1] - first;
  std::fill_n(values, n * (n - 1) / 2, 0.0);
  if (jacobian != nullptr) std::fill_n(jacobian, n * (n - 1) / 2 * 3 * n, 0.0);
  for (Index i = 0; i < n; ++i) {
    for (std::int64_t p = batch.first_pair[first + i]; p < batch.first_pair[first + i + 1]; ++p) {
      const Index j = batch.neighbour[p] - first;
      if (j <= i) continue;  // the same pair is seen from j; an atom's own images never move relative to it
      const double* v = batch.vectors + 3 * p;
      const double r = std::sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]);
      double h = std::pow(r, -exponent);
      double dh = -exponent * h / r;
      if (cutoff > 0.0) {
        if (r >= cutoff) continue;
        const double f = 0.5 * (std::cos(pi * r / cutoff) + 1.0);
        const double df = -0.5 * pi / cutoff * std::sin(pi * r / cutoff);
        dh = f * f * dh + 2.0 * f * df * h;
        h *= f * f;
      }
      const Index pair = i * (2 * n - i - 1) / 2 + (j - i - 1);
      values[pair] += h;
      if (jacobian == nullptr) continue;
      for (int d = 0; d < 3; ++d) {
        jacobian[pair * 3 * n + 3 * j + d] += dh * v[d] / r;
        jacobian[pair * 3 * n + 3 * i + d] -= dh * v[d] / r;
      }
    }
  }
}

}  // namespace gprann
