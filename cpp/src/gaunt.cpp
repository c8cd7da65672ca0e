#include "gaunt.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "gprann/harmonics.hpp"
#include "gprann/types.hpp"

namespace gprann {

namespace {

/// P_n(z) and P_{n-1}(z).
void legendre(int n, double z, double& value, double& before) {
  before = 0.0;
  value = 1.0;
  for (int k = 1; k <= n; ++k) {
    const double next = ((2 * k - 1) * z * value - (k - 1) * before) / k;
    before = value;
    value = next;
  }
}

/// Nodes and weights of Gauss and Legendre on [-1, 1] by Newton's iteration.
void gauss_legendre(int n, std::vector<double>& nodes, std::vector<double>& weights) {
  for (int i = 0; i < n; ++i) {
    double z = std::cos(pi * (i + 0.75) / (n + 0.5));
    double slope = 1.0;
    for (int step = 0; step < 20; ++step) {
      double value, before;
      legendre(n, z, value, before);
      slope = n * (before - z * value) / (1.0 - z * z);
      z -= value / slope;
    }
    nodes.push_back(z);
    weights.push_back(2.0 / ((1.0 - z * z) * slope * slope));
  }
}

}  // namespace

std::vector<Gaunt> gaunt_coefficients(int l1, int l2, int l3) {
  const int degree = l1 + l2 + l3;  // the rule is exact for polynomials of this degree on the sphere
  const int highest = std::max(l1, std::max(l2, l3));
  const RealHarmonics harmonics(highest);
  const int n_polar = degree / 2 + 1, n_azimuth = degree + 1;
  std::vector<double> nodes, weights;
  gauss_legendre(n_polar, nodes, weights);
  const int width1 = 2 * l1 + 1, width2 = 2 * l2 + 1, width3 = 2 * l3 + 1;
  std::vector<double> sums(static_cast<std::size_t>(width1 * width2 * width3), 0.0);
  std::vector<Lane> Y(static_cast<std::size_t>(harmonics.size()));
  auto at = [&](int l, int m) { return Y[static_cast<std::size_t>(l * l + m)][0]; };
  for (int i = 0; i < n_polar; ++i)
    for (int k = 0; k < n_azimuth; ++k) {
      const auto u = static_cast<std::size_t>(i);
      const double s = std::sqrt(1.0 - nodes[u] * nodes[u]), phi = 2.0 * pi * k / n_azimuth;
      harmonics.values(Lane::Constant(s * std::cos(phi)), Lane::Constant(s * std::sin(phi)),
                       Lane::Constant(nodes[u]), Y.data());
      const double weight = weights[u] * 2.0 * pi / n_azimuth;
      std::size_t place = 0;
      for (int a = 0; a < width1; ++a)
        for (int b = 0; b < width2; ++b)
          for (int c = 0; c < width3; ++c) sums[place++] += weight * at(l1, a) * at(l2, b) * at(l3, c);
    }
  // Orthonormal harmonics are sqrt((2l+1) / (4 pi)) times those of Racah, in the coefficient and in the
  // moments.
  const double scale = width1 * width2 * width3 / (64.0 * pi * pi * pi);
  std::vector<Gaunt> found;
  std::size_t place = 0;
  for (int a = 0; a < width1; ++a)
    for (int b = 0; b < width2; ++b)
      for (int c = 0; c < width3; ++c) {
        const double value = scale * sums[place++];
        if (std::abs(value) > 1e-12) found.push_back({a, b, c, value});
      }
  return found;
}

}  // namespace gprann
