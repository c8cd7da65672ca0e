#include "chebyshev_environment.hpp"
#include "gprann/chebyshev.hpp"

namespace gprann {

void ChebyshevDescriptor::radial_slopes(const Environment& env, std::int64_t first, MatrixMap& slopes) const {
  const Shell& shell = env.radial;
  const double scale = 2.0 / radial_cutoff_;
  for (Index k = 0; k < shell.count; ++k) {
    const auto b = static_cast<std::size_t>(k / lane_width);
    const Index e = k % lane_width;
    const Index row = 3 * (shell.pair[static_cast<std::size_t>(k)] - first);
    const double x = shell.r[b][e] * scale - 1.0;
    const double u[3] = {shell.x[b][e], shell.y[b][e], shell.z[b][e]};
    double t0 = 1.0, t1 = x, s0 = 0.0, s1 = 1.0;
    for (int a = 0; a <= radial_order_; ++a) {
      const double slope = t0 * shell.df[b][e] + s0 * shell.f[b][e] * scale;
      for (Index c = 0; c < n_channels(); ++c)
        for (int d = 0; d < 3; ++d)
          slopes(row + d, radial_at(c, a)) = shell.weight(c, static_cast<Index>(b))[e] * slope * u[d];
      const double t2 = 2.0 * x * t1 - t0;
      const double s2 = 2.0 * (t1 + x * s1) - s0;
      t0 = t1, t1 = t2, s0 = s1, s1 = s2;
    }
  }
}

void ChebyshevDescriptor::angular_slopes(const Environment& env, std::int64_t first, Sums& sums,
                                         MatrixMap& slopes) const {
  const Shell& shell = env.angular;
  const auto m = static_cast<std::size_t>(harmonics_.size());
  for (auto* v : {&sums.harmonics, &sums.dx, &sums.dy, &sums.dz}) v->resize(m);
  const auto &y = sums.harmonics, &dx = sums.dx, &dy = sums.dy, &dz = sums.dz;
  Matrix power(angular_order_ + 1, 3);
  for (Index k = 0; k < shell.count; ++k) {
    const auto b = static_cast<std::size_t>(k / lane_width);
    const Index e = k % lane_width;
    const Index row = 3 * (shell.pair[static_cast<std::size_t>(k)] - first);
    if (e == 0)
      harmonics_.gradients(shell.x[b], shell.y[b], shell.z[b], sums.harmonics.data(), sums.dx.data(),
                           sums.dy.data(), sums.dz.data());
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
          const double moment = env.moments(c, i);
          value += moment * y[s][e];
          q += moment * Eigen::RowVector3d(dx[s][e], dy[s][e], dz[s][e]);
        }
        power.row(l) = w * ((value * df - w * f * df) * u + f * shell.inverse_r[b][e] * (q - q.dot(u) * u));
      }
      slopes.block(row, angular_at(c, 0), 3, angular_order_ + 1) = (legendre_ * power).transpose();
    }
  }
}

void ChebyshevDescriptor::slopes(const Neighbours& batch, Surroundings& found, double* slopes) const {
  auto& content = static_cast<Found&>(found);
  for (Index i = 0; i < content.n_atoms; ++i) {
    const Environment& env = content.environments[static_cast<std::size_t>(i)];
    const std::int64_t first = batch.first_pair[content.first + i];
    MatrixMap own(slopes, 3 * (batch.first_pair[content.first + i + 1] - first), size());
    own.setZero();
    radial_slopes(env, first, own);
    if (angular_order_ >= 0) angular_slopes(env, first, content.sums, own);
    slopes += own.size();
  }
}

}  // namespace gprann
