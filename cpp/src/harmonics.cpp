#include "gprann/harmonics.hpp"

#include <cmath>
#include <stdexcept>
#include <string>

namespace gprann {

RealHarmonics::RealHarmonics(int order) : order_(order) {
  if (order < 0 || order > max_order)
    throw std::invalid_argument("order of the harmonics must lie in 0.." + std::to_string(max_order) +
                                ", got " + std::to_string(order));
  const auto n = static_cast<std::size_t>((order + 1) * (order + 1));
  a_.assign(n, 0.0);
  b_.assign(n, 0.0);
  slope_.assign(n, 0.0);
  start_.assign(static_cast<std::size_t>(order + 1), 1.0);
  // Norm N_lm = sqrt(2 (l-m)!/(l+m)!) (1 for m = 0) times d^m P_l / dz^m; `norm` is the ratio-friendly
  // logarithm.
  auto log_norm = [](int l, int m) {
    return 0.5 * (std::lgamma(l - m + 1.0) - std::lgamma(l + m + 1.0) + (m > 0 ? std::log(2.0) : 0.0));
  };
  double double_factorial = 1.0;
  for (int m = 0; m <= order; ++m) {
    if (m > 0) double_factorial *= 2 * m - 1;
    start_[static_cast<std::size_t>(m)] = double_factorial * std::exp(log_norm(m, m));
    for (int l = m + 1; l <= order; ++l) {
      const auto k = static_cast<std::size_t>(at(l, m));
      a_[k] = (2.0 * l - 1) / (l - m) * std::exp(log_norm(l, m) - log_norm(l - 1, m));
      if (l >= m + 2) b_[k] = (l + m - 1.0) / (l - m) * std::exp(log_norm(l, m) - log_norm(l - 2, m));
      slope_[k] = std::exp(log_norm(l, m) - log_norm(l, m + 1));
    }
  }
}

void RealHarmonics::legendre(const Lane& z, Lane* q) const {
  for (int m = 0; m <= order_; ++m) {
    q[at(m, m)].setConstant(start_[static_cast<std::size_t>(m)]);
    if (m < order_) q[at(m + 1, m)] = a_[static_cast<std::size_t>(at(m + 1, m))] * z * q[at(m, m)];
    for (int l = m + 2; l <= order_; ++l) {
      const auto k = static_cast<std::size_t>(at(l, m));
      q[k] = a_[k] * z * q[at(l - 1, m)] - b_[k] * q[at(l - 2, m)];
    }
  }
}

void RealHarmonics::powers(const Lane& x, const Lane& y, Lane* re, Lane* im) const {
  re[0].setOnes();
  im[0].setZero();
  for (int m = 1; m <= order_; ++m) {
    re[m] = x * re[m - 1] - y * im[m - 1];
    im[m] = x * im[m - 1] + y * re[m - 1];
  }
}

void RealHarmonics::values(const Lane& x, const Lane& y, const Lane& z, Lane* values) const {
  std::array<Lane, (max_order + 1) * (max_order + 1)> q;
  std::array<Lane, max_order + 1> re;
  std::array<Lane, max_order + 1> im;
  legendre(z, q.data());
  powers(x, y, re.data(), im.data());
  for (int l = 0; l <= order_; ++l) {
    Lane* row = values + static_cast<Index>(l) * l + l;
    row[0] = q[static_cast<std::size_t>(at(l, 0))];
    for (int m = 1; m <= l; ++m) {
      const Lane& factor = q[static_cast<std::size_t>(at(l, m))];
      row[m] = factor * re[static_cast<std::size_t>(m)];
      row[-m] = factor * im[static_cast<std::size_t>(m)];
    }
  }
}

void RealHarmonics::gradients(const Lane& x, const Lane& y, const Lane& z, Lane* values, Lane* dx, Lane* dy,
                              Lane* dz) const {
  std::array<Lane, (max_order + 1) * (max_order + 1)> q;
  std::array<Lane, max_order + 1> re;
  std::array<Lane, max_order + 1> im;
  legendre(z, q.data());
  powers(x, y, re.data(), im.data());
  for (int l = 0; l <= order_; ++l) {
    const Index centre = static_cast<Index>(l) * l + l;
    for (int m = 0; m <= l; ++m) {
      const auto k = static_cast<std::size_t>(at(l, m));
      const auto u = static_cast<std::size_t>(m);
      const Lane slope =
          m < l ? Lane(slope_[k] * q[static_cast<std::size_t>(at(l, m + 1))]) : Lane(Lane::Zero());
      values[centre + m] = q[k] * re[u];
      dz[centre + m] = slope * re[u];
      if (m == 0) {
        dx[centre].setZero();
        dy[centre].setZero();
        continue;
      }
      // d/dx (x + iy)^m = m (x + iy)^(m-1), d/dy = i m (x + iy)^(m-1)
      const Lane mq = static_cast<double>(m) * q[k];
      values[centre - m] = q[k] * im[u];
      dz[centre - m] = slope * im[u];
      dx[centre + m] = mq * re[u - 1];
      dy[centre + m] = -mq * im[u - 1];
      dx[centre - m] = mq * im[u - 1];
      dy[centre - m] = mq * re[u - 1];
    }
  }
}

void RealHarmonics::factors(const Lane& x, const Lane& y, const Lane& z, Factors& factors) const {
  const auto n = static_cast<std::size_t>(order_ + 1);
  if (factors.re.size() < n) {
    factors.q.resize(n * n);
    factors.re.resize(n);
    factors.im.resize(n);
  }
  legendre(z, factors.q.data());
  powers(x, y, factors.re.data(), factors.im.data());
}

RealHarmonics::Contraction RealHarmonics::contract(const Factors& factors, const double* g) const {
  const Lane* q = factors.q.data();
  const Lane* re = factors.re.data();
  const Lane* im = factors.im.data();
  Contraction sum{Lane::Zero(), Lane::Zero(), Lane::Zero(), Lane::Zero()};
  for (int l = 0; l <= order_; ++l) {  // m = 0
    const double own = g[static_cast<Index>(l) * l + l];
    sum.value += own * q[at(l, 0)];
    if (l > 0) sum.z += own * slope_[static_cast<std::size_t>(at(l, 0))] * q[at(l, 1)];
  }
  for (int m = 1; m <= order_; ++m) {
    // Coefficients of the real and the imaginary part of (x + iy)^m, and their derivatives by z.
    Lane a = Lane::Zero(), b = Lane::Zero(), da = Lane::Zero(), db = Lane::Zero();
    for (int l = m; l <= order_; ++l) {
      const Index k = at(l, m);
      const double* own = g + static_cast<Index>(l) * l + l;
      a += own[m] * q[k];
      b += own[-m] * q[k];
      if (l == m) continue;
      const double slope = slope_[static_cast<std::size_t>(k)];
      da += own[m] * slope * q[k + 1];
      db += own[-m] * slope * q[k + 1];
    }
    sum.value += a * re[m] + b * im[m];
    sum.z += da * re[m] + db * im[m];
    // d/dx (x + iy)^m = m (x + iy)^(m-1), d/dy = i m (x + iy)^(m-1)
    const auto power = static_cast<double>(m);
    sum.x += power * (a * re[m - 1] + b * im[m - 1]);
    sum.y += power * (b * re[m - 1] - a * im[m - 1]);
  }
  return sum;
}

void RealHarmonics::tangents(const Factors& factors, const Lane& df, const Lane& vx, const Lane& vy,
                             const Lane& vz, Lane* tangents) const {
  const Lane* q = factors.q.data();
  const Lane* re = factors.re.data();
  const Lane* im = factors.im.data();
  for (int m = 0; m <= order_; ++m) {
    Lane re_change = Lane::Zero(), im_change = Lane::Zero();
    if (m > 0) {
      const auto power = static_cast<double>(m);
      re_change = power * (vx * re[m - 1] - vy * im[m - 1]);
      im_change = power * (vx * im[m - 1] + vy * re[m - 1]);
    }
    for (int l = m; l <= order_; ++l) {
      const Index k = at(l, m);
      Lane* own = tangents + static_cast<Index>(l) * l + l;
      Lane change = df * q[k];
      if (l > m) change += slope_[static_cast<std::size_t>(k)] * vz * q[k + 1];
      own[m] = change * re[m] + q[k] * re_change;
      if (m > 0) own[-m] = change * im[m] + q[k] * im_change;
    }
  }
}

}  // namespace gprann
