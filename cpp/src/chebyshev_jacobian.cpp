#include <algorithm>

#include "chebyshev_environment.hpp"
#include "gprann/chebyshev.hpp"
#include "voigt.hpp"

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

void ChebyshevDescriptor::angular_slopes(const Environment& env, Sums& sums, Matrix& slopes) const {
  const Shell& shell = env.angular;
  const auto m = static_cast<std::size_t>(harmonics_.size());
  for (auto* v : {&sums.harmonics, &sums.dx, &sums.dy, &sums.dz}) v->resize(m);
  const auto &y = sums.harmonics, &dx = sums.dx, &dy = sums.dy, &dz = sums.dz;
  Matrix power(angular_order_ + 1, 3);
  for (Index k = 0; k < shell.count; ++k) {
    const auto b = static_cast<std::size_t>(k / lane_width);
    const Index e = k % lane_width;
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
      slopes.block(3 * k, angular_at(c, 0), 3, angular_order_ + 1) = (legendre_ * power).transpose();
    }
  }
}

template <class Scatter>
void ChebyshevDescriptor::for_each_slope(const Neighbours& batch, Index s, Scatter&& scatter) const {
  Environment env;
  Sums sums;
  Matrix slopes;
  auto hand_out = [&](const Shell& shell, Index atom) {
    for (Index k = 0; k < shell.count; ++k)
      scatter(atom, shell.pair[static_cast<std::size_t>(k)], slopes.middleRows(3 * k, 3));
  };
  for (Index i = batch.first_atom[s]; i < batch.first_atom[s + 1]; ++i) {
    gather(batch, i, env, sums);
    slopes.setZero(3 * env.radial.count, size());
    radial_slopes(env, slopes);
    hand_out(env.radial, i);
    if (angular_order_ < 0) continue;
    slopes.setZero(3 * env.angular.count, size());
    angular_slopes(env, sums, slopes);
    hand_out(env.angular, i);
  }
}

void ChebyshevDescriptor::jacobian(const Neighbours& batch, Index s, bool strained, double* jacobian) const {
  const Index first = batch.first_atom[s];
  const Index n = batch.first_atom[s + 1] - first;
  const Index columns = 3 * n + (strained ? 6 : 0);
  std::fill_n(jacobian, n * size() * columns, 0.0);
  for_each_slope(batch, s, [&](Index i, std::int64_t pair, const auto& slopes) {
    MatrixMap J(jacobian + (i - first) * size() * columns, size(), columns);
    J.middleCols(3 * (batch.neighbour[pair] - first), 3) += slopes.transpose();
    J.middleCols(3 * (i - first), 3) -= slopes.transpose();
    if (!strained) return;
    const double* vector = batch.vectors + 3 * pair;
    for (Index v = 0; v < 6; ++v)
      for (const int component : {voigt_first[v], voigt_second[v]})
        J.col(3 * n + v) += 0.5 * vector[component % 3] * slopes.row(component / 3).transpose();
  });
}

void ChebyshevDescriptor::jacobian_rows(const Neighbours& batch, Index s, double* const* rows,
                                        const Index* strides) const {
  using Row = Eigen::Map<Eigen::RowVectorXd>;
  const Index first = batch.first_atom[s];
  for_each_slope(batch, s, [&](Index i, std::int64_t pair, const auto& slopes) {
    const Index j = batch.neighbour[pair];
    double* row = rows[i - first];
    const Index stride = strides[i - first];
    for (Index d = 0; d < 3; ++d) {
      Row(row + (3 * (j - first) + d) * stride, size()) += slopes.row(d);
      Row(row + (3 * (i - first) + d) * stride, size()) -= slopes.row(d);
    }
  });
}

}  // namespace gprann
