#include <algorithm>

#include "chebyshev_environment.hpp"
#include "gprann/chebyshev.hpp"

namespace gprann {

void ChebyshevDescriptor::radial_slopes(const Environment& env, Matrix& slopes) const {
  const Shell& shell = env.radial;
  const double scale = 2.0 / radial_cutoff_;
  for (Index k = 0; k < shell.count; ++k) {
    const auto b = static_cast<std::size_t>(k / lane_width);
    const Index e = k % lane_width;
    const double x = shell.r[b][e] * scale - 1.0;
    const double u[3] = {shell.x[b][e], shell.y[b][e], shell.z[b][e]};
    double t0 = 1.0, t1 = x, s0 = 0.0, s1 = 1.0;
    for (int a = 0; a <= radial_order_; ++a) {
      const double slope = t0 * shell.df[b][e] + s0 * shell.f[b][e] * scale;
      for (Index c = 0; c < n_channels(); ++c)
        for (int d = 0; d < 3; ++d)
          slopes(3 * k + d, radial_at(c, a)) = shell.weight(c, static_cast<Index>(b))[e] * slope * u[d];
      const double t2 = 2.0 * x * t1 - t0;
      const double s2 = 2.0 * (t1 + x * s1) - s0;
      t0 = t1, t1 = t2, s0 = s1, s1 = s2;
    }
  }
}

void ChebyshevDescriptor::angular_slopes(const Environment& env, const Sums& sums, Matrix& slopes) const {
  const Shell& shell = env.angular;
  const auto m = static_cast<std::size_t>(harmonics_.size());
  std::vector<Lane> y(m), dx(m), dy(m), dz(m);
  Matrix power(angular_order_ + 1, 3);
  for (Index k = 0; k < shell.count; ++k) {
    const auto b = static_cast<std::size_t>(k / lane_width);
    const Index e = k % lane_width;
    if (e == 0)
      harmonics_.gradients(shell.x[b], shell.y[b], shell.z[b], y.data(), dx.data(), dy.data(), dz.data());
    const Eigen::RowVector3d u(shell.x[b][e], shell.y[b][e], shell.z[b][e]);
    const double f = shell.f[b][e];
    const double df = shell.df[b][e];
    for (Index c = 0; c < n_channels(); ++c) {
      const double w = shell.weight(c, static_cast<Index>(b))[e];
      for (Index l = 0; l <= angular_order_; ++l) {
        double value = 0.0;
        Eigen::RowVector3d q = Eigen::RowVector3d::Zero();
        for (Index i = l * l; i < (l + 1) * (l + 1); ++i) {
          const auto s = static_cast<std::size_t>(i);
          const double moment = sums.moments(c, i);
          value += moment * y[s][e];
          q += moment * Eigen::RowVector3d(dx[s][e], dy[s][e], dz[s][e]);
        }
        power.row(l) = w * ((value * df - w * f * df) * u + f * shell.inverse_r[b][e] * (q - q.dot(u) * u));
      }
      slopes.block(3 * k, angular_at(c, 0), 3, angular_order_ + 1) = (legendre_ * power).transpose();
    }
  }
}

void ChebyshevDescriptor::jacobian(const Neighbours& batch, Index s, double* jacobian) const {
  const Index first = batch.first_atom[s];
  const Index n = batch.first_atom[s + 1] - first;
  Environment env;
  Sums sums;
  Matrix slopes;
  auto scatter = [&](const Shell& shell, Index atom, double* block) {
    MatrixMap J(block, size(), 3 * n);
    for (Index k = 0; k < shell.count; ++k) {
      const Index j = batch.neighbour[shell.pair[static_cast<std::size_t>(k)]] - first;
      J.middleCols(3 * j, 3) += slopes.middleRows(3 * k, 3).transpose();
      J.middleCols(3 * atom, 3) -= slopes.middleRows(3 * k, 3).transpose();
    }
  };
  std::fill_n(jacobian, n * size() * 3 * n, 0.0);
  for (Index i = 0; i < n; ++i) {
    gather(batch, first + i, nullptr, env);
    double* block = jacobian + i * size() * 3 * n;
    slopes.setZero(3 * env.radial.count, size());
    radial_slopes(env, slopes);
    scatter(env.radial, i, block);
    if (angular_order_ < 0) continue;
    sum_moments(env, sums);
    slopes.setZero(3 * env.angular.count, size());
    angular_slopes(env, sums, slopes);
    scatter(env.angular, i, block);
  }
}

}  // namespace gprann
