#include "gprann/chebyshev.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <stdexcept>
#include <string>

#include "chebyshev_environment.hpp"

namespace gprann {

namespace {

/// One number for each l, on the stack.
using PowerSpectrum = Eigen::Matrix<double, Eigen::Dynamic, 1, 0, RealHarmonics::max_order + 1, 1>;

/// A with T_a = sum_l A_al P_l for a, l = 0..order, from x P_l = ((l+1) P_{l+1} + l P_{l-1}) / (2l+1).
Matrix chebyshev_in_legendre(int order) {
  const Index n = order + 1;
  Matrix A = Matrix::Zero(n, n);
  A(0, 0) = 1.0;
  if (order > 0) A(1, 1) = 1.0;
  for (Index a = 2; a < n; ++a) {
    for (Index l = 0; l < a; ++l) {
      const double c = 2 * A(a - 1, l) / (2.0 * static_cast<double>(l) + 1);
      A(a, l + 1) += c * static_cast<double>(l + 1);
      if (l > 0) A(a, l - 1) += c * static_cast<double>(l);
    }
    A.row(a) -= A.row(a - 2);
  }
  return A;
}

}  // namespace

ChebyshevDescriptor::ChebyshevDescriptor(int radial_order, double radial_cutoff, int angular_order,
                                         double angular_cutoff, const Matrix& weights)
    : radial_order_(radial_order),
      radial_cutoff_(radial_cutoff),
      angular_order_(std::max(angular_order, -1)),
      angular_cutoff_(angular_cutoff),
      weights_(weights),
      legendre_(chebyshev_in_legendre(std::max(angular_order, 0))),
      harmonics_(std::max(angular_order, 0)) {
  if (radial_order < 0)
    throw std::invalid_argument("radial order must be 0 or more, got " + std::to_string(radial_order));
  if (!(radial_cutoff > 0))
    throw std::invalid_argument("radial cutoff must be positive, got " + std::to_string(radial_cutoff));
  if (angular_order_ >= 0 && !(angular_cutoff > 0))
    throw std::invalid_argument("angular cutoff must be positive, got " + std::to_string(angular_cutoff));
  if (weights.rows() < 1 || weights.cols() < 1)
    throw std::invalid_argument("weights must have shape (channels, species)");
}

double ChebyshevDescriptor::cutoff() const {
  return angular_order_ >= 0 ? std::max(radial_cutoff_, angular_cutoff_) : radial_cutoff_;
}

void ChebyshevDescriptor::gather(const Neighbours& batch, Index atom, Environment& env, Sums& sums) const {
  const std::int64_t begin = batch.first_pair[atom];
  const std::int64_t end = batch.first_pair[atom + 1];
  env.radial.clear(end - begin, n_channels());
  env.angular.clear(angular_order_ >= 0 ? end - begin : 0, n_channels());
  auto add = [&](Shell& shell, std::int64_t p, double r, double inverse_r) {
    const auto b = static_cast<std::size_t>(shell.count / lane_width);
    const Index e = shell.count % lane_width;
    const std::int32_t j = batch.neighbour[p];
    shell.r[b][e] = r;
    shell.inverse_r[b][e] = inverse_r;
    shell.x[b][e] = batch.vectors[3 * p] * inverse_r;
    shell.y[b][e] = batch.vectors[3 * p + 1] * inverse_r;
    shell.z[b][e] = batch.vectors[3 * p + 2] * inverse_r;
    for (Index c = 0; c < n_channels(); ++c)
      shell.weight(c, static_cast<Index>(b))[e] = weights_(c, batch.species[j]);
    shell.pair[static_cast<std::size_t>(shell.count++)] = p;
  };
  for (std::int64_t p = begin; p < end; ++p) {
    const double* v = batch.vectors + 3 * p;
    const double r = std::sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]);
    const double inverse_r = 1.0 / r;
    if (r < radial_cutoff_) add(env.radial, p, r, inverse_r);
    if (angular_order_ >= 0 && r < angular_cutoff_) add(env.angular, p, r, inverse_r);
  }
  env.radial.pad(radial_cutoff_, n_channels());
  if (angular_order_ < 0) return;
  env.angular.pad(angular_cutoff_, n_channels());
  sum_moments(env, sums);
}

void ChebyshevDescriptor::radial_values(const Environment& env, double* values) const {
  const Shell& shell = env.radial;
  const Index n = radial_order_ + 1;
  thread_local std::vector<Lane> sums;  // lanes apart until the atom is done
  sums.assign(static_cast<std::size_t>(n_channels() * n), Lane::Zero());
  for (std::size_t b = 0; b < static_cast<std::size_t>(shell.blocks()); ++b) {
    const Lane x = shell.r[b] * (2.0 / radial_cutoff_) - 1.0;
    for (Index c = 0; c < n_channels(); ++c) {
      Lane* own = sums.data() + c * n;
      Lane t0 = shell.weight(c, static_cast<Index>(b)) * shell.f[b];
      Lane t1 = x * t0;
      for (Index a = 0; a < n; ++a) {
        own[a] += t0;
        const Lane t2 = 2.0 * x * t1 - t0;
        t0 = t1, t1 = t2;
      }
    }
  }
  for (Index c = 0; c < n_channels(); ++c)
    for (int a = 0; a <= radial_order_; ++a)
      values[radial_at(c, a)] = sums[static_cast<std::size_t>(c * n + a)].sum();
}

void ChebyshevDescriptor::sum_moments(Environment& env, Sums& sums) const {
  // So many blocks at a time that a sum is fetched and put back once for all of them.
  constexpr std::size_t together = 4;
  const Shell& shell = env.angular;
  const Index m = harmonics_.size();
  const auto size = static_cast<std::size_t>(m);
  env.moments.resize(n_channels(), m);
  env.squares.resize(n_channels());
  sums.harmonics.resize(together * size);
  sums.accumulator.assign(static_cast<std::size_t>(n_channels() * (m + 1)), Lane::Zero());
  const auto n_blocks = static_cast<std::size_t>(shell.blocks());
  for (std::size_t first = 0; first < n_blocks; first += together) {
    const std::size_t count = std::min(together, n_blocks - first);
    for (std::size_t b = 0; b < count; ++b)
      harmonics_.values(shell.x[first + b], shell.y[first + b], shell.z[first + b],
                        sums.harmonics.data() + b * size);
    for (Index c = 0; c < n_channels(); ++c) {
      std::array<Lane, together> wf;
      Lane* accumulator = sums.accumulator.data() + c * (m + 1);
      for (std::size_t b = 0; b < count; ++b) {
        wf[b] = shell.weight(c, static_cast<Index>(first + b)) * shell.f[first + b];
        accumulator[m] += wf[b] * wf[b];
      }
      const Lane* y = sums.harmonics.data();
      if (count == together)
        for (std::size_t k = 0; k < size; ++k)
          accumulator[k] +=
              wf[0] * y[k] + wf[1] * y[size + k] + wf[2] * y[2 * size + k] + wf[3] * y[3 * size + k];
      else
        for (std::size_t b = 0; b < count; ++b)
          for (std::size_t k = 0; k < size; ++k) accumulator[k] += wf[b] * y[b * size + k];
    }
  }
  for (Index c = 0; c < n_channels(); ++c) {
    const Lane* accumulator = sums.accumulator.data() + c * (m + 1);
    for (Index k = 0; k < m; ++k) env.moments(c, k) = accumulator[k].sum();
    env.squares[c] = accumulator[m].sum();
  }
}

void ChebyshevDescriptor::angular_values(const Environment& env, double* values) const {
  for (Index c = 0; c < n_channels(); ++c) {
    PowerSpectrum power(angular_order_ + 1);
    for (Index l = 0; l <= angular_order_; ++l)
      power[l] = 0.5 * (env.moments.row(c).segment(l * l, 2 * l + 1).squaredNorm() - env.squares[c]);
    VectorMap(values + angular_at(c, 0), angular_order_ + 1).noalias() = legendre_.lazyProduct(power);
  }
}

void ChebyshevDescriptor::radial_tangents(const Environment& env, Sums& sums, double* tangent) const {
  const Shell& shell = env.radial;
  const double scale = 2.0 / radial_cutoff_;
  const Index n = radial_order_ + 1;
  sums.accumulator.assign(static_cast<std::size_t>(n_channels() * n), Lane::Zero());
  for (std::size_t b = 0; b < static_cast<std::size_t>(shell.blocks()); ++b) {
    const Lane x = shell.r[b] * scale - 1.0;
    const Lane rdot = shell.x[b] * shell.vx[b] + shell.y[b] * shell.vy[b] + shell.z[b] * shell.vz[b];
    const Lane f = shell.f[b] * rdot * scale;
    const Lane df = shell.df[b] * rdot;
    Lane t0 = Lane::Ones(), t1 = x, s0 = Lane::Zero(), s1 = Lane::Ones();  // T_a and dT_a/dx
    for (Index a = 0; a < n; ++a) {
      const Lane slope = t0 * df + s0 * f;
      for (Index c = 0; c < n_channels(); ++c)
        sums.accumulator[static_cast<std::size_t>(c * n + a)] +=
            shell.weight(c, static_cast<Index>(b)) * slope;
      const Lane t2 = 2.0 * x * t1 - t0;
      const Lane s2 = 2.0 * (t1 + x * s1) - s0;
      t0 = t1, t1 = t2, s0 = s1, s1 = s2;
    }
  }
  for (Index c = 0; c < n_channels(); ++c)
    for (int a = 0; a < n; ++a)
      tangent[radial_at(c, a)] = sums.accumulator[static_cast<std::size_t>(c * n + a)].sum();
}

void ChebyshevDescriptor::angular_tangents(const Environment& env, Sums& sums, double* tangent) const {
  const Shell& shell = env.angular;
  const auto m = static_cast<std::size_t>(harmonics_.size());
  sums.tangent_moments.setZero(n_channels(), harmonics_.size());
  sums.tangent_squares.setZero(n_channels());
  sums.accumulator.assign(static_cast<std::size_t>(n_channels()) * (m + 1), Lane::Zero());
  for (std::size_t b = 0; b < static_cast<std::size_t>(shell.blocks()); ++b) {
    harmonics_.factors(shell.x[b], shell.y[b], shell.z[b], sums.factors);
    const Lane rdot = shell.x[b] * shell.vx[b] + shell.y[b] * shell.vy[b] + shell.z[b] * shell.vz[b];
    const Lane fdot = shell.df[b] * rdot;
    const Lane over_r = shell.f[b] * shell.inverse_r[b];
    const Lane ux = (shell.vx[b] - shell.x[b] * rdot) * over_r;
    const Lane uy = (shell.vy[b] - shell.y[b] * rdot) * over_r;
    const Lane uz = (shell.vz[b] - shell.z[b] * rdot) * over_r;
    harmonics_.tangents(sums.factors, fdot, ux, uy, uz, sums.harmonics.data());
    for (Index c = 0; c < n_channels(); ++c) {
      const Lane& w = shell.weight(c, static_cast<Index>(b));
      Lane* accumulator = sums.accumulator.data() + c * static_cast<Index>(m + 1);
      for (std::size_t k = 0; k < m; ++k) accumulator[k] += w * sums.harmonics[k];
      accumulator[m] += 2.0 * w * w * shell.f[b] * fdot;
    }
  }
  for (Index c = 0; c < n_channels(); ++c) {
    const Lane* accumulator = sums.accumulator.data() + c * static_cast<Index>(m + 1);
    for (std::size_t k = 0; k < m; ++k) sums.tangent_moments(c, static_cast<Index>(k)) = accumulator[k].sum();
    sums.tangent_squares[c] = accumulator[m].sum();
    PowerSpectrum power(angular_order_ + 1);
    for (Index l = 0; l <= angular_order_; ++l)
      power[l] = env.moments.row(c)
                     .segment(l * l, 2 * l + 1)
                     .dot(sums.tangent_moments.row(c).segment(l * l, 2 * l + 1)) -
                 0.5 * sums.tangent_squares[c];
    VectorMap(tangent + angular_at(c, 0), angular_order_ + 1).noalias() = legendre_.lazyProduct(power);
  }
}

void ChebyshevDescriptor::radial_gradients(Environment& env, const double* cotangent) const {
  Shell& shell = env.radial;
  const double scale = 2.0 / radial_cutoff_;
  for (std::size_t b = 0; b < static_cast<std::size_t>(shell.blocks()); ++b) {
    const Lane x = shell.r[b] * scale - 1.0;
    // sum_c w_c beta_c T_a of all channels at once: one recurrence.
    Lane t0 = Lane::Ones(), t1 = x, s0 = Lane::Zero(), s1 = Lane::Ones();
    Lane value = Lane::Zero(), derivative = Lane::Zero();
    for (int a = 0; a <= radial_order_; ++a) {
      Lane beta = cotangent[radial_at(0, a)] * shell.weight(0, static_cast<Index>(b));
      for (Index c = 1; c < n_channels(); ++c)
        beta += cotangent[radial_at(c, a)] * shell.weight(c, static_cast<Index>(b));
      value += beta * t0;
      derivative += beta * s0;
      const Lane t2 = 2.0 * x * t1 - t0;
      const Lane s2 = 2.0 * (t1 + x * s1) - s0;
      t0 = t1, t1 = t2, s0 = s1, s1 = s2;
    }
    const Lane slope = value * shell.df[b] + derivative * shell.f[b] * scale;  // d(beta . G)/dr
    shell.gx[b] = slope * shell.x[b];
    shell.gy[b] = slope * shell.y[b];
    shell.gz[b] = slope * shell.z[b];
  }
}

void ChebyshevDescriptor::angular_gradients(Environment& env, Sums& sums, const double* cotangent) const {
  Shell& shell = env.angular;
  sums.cotangent.resize(n_channels(), harmonics_.size());
  sums.self.resize(n_channels());
  PowerSpectrum
      beta;  // a copy: how the sum of a view is rounded depends on where the caller's array lies in memory
  for (Index c = 0; c < n_channels(); ++c) {
    beta = ConstVectorMap(cotangent + angular_at(c, 0), angular_order_ + 1);
    sums.self[c] = -0.5 * beta.sum();  // sum_l A_al = T_a(1) = 1
    const PowerSpectrum gamma = legendre_.transpose().lazyProduct(beta);
    for (Index l = 0; l <= angular_order_; ++l)
      sums.cotangent.row(c).segment(l * l, 2 * l + 1) =
          gamma[l] * env.moments.row(c).segment(l * l, 2 * l + 1);
  }
  for (std::size_t b = 0; b < static_cast<std::size_t>(shell.blocks()); ++b) {
    harmonics_.factors(shell.x[b], shell.y[b], shell.z[b], sums.factors);
    Lane slope = Lane::Zero(), qx = Lane::Zero(), qy = Lane::Zero(), qz = Lane::Zero();
    for (Index c = 0; c < n_channels(); ++c) {
      const Lane& w = shell.weight(c, static_cast<Index>(b));
      const RealHarmonics::Contraction sum = harmonics_.contract(sums.factors, sums.cotangent.row(c).data());
      slope += w * sum.value + 2.0 * sums.self[c] * w * w * shell.f[b];
      qx += w * sum.x, qy += w * sum.y, qz += w * sum.z;
    }
    slope *= shell.df[b];
    const Lane over_r = shell.f[b] * shell.inverse_r[b];
    const Lane along = slope - over_r * (qx * shell.x[b] + qy * shell.y[b] + qz * shell.z[b]);
    shell.gx[b] = along * shell.x[b] + over_r * qx;
    shell.gy[b] = along * shell.y[b] + over_r * qy;
    shell.gz[b] = along * shell.z[b] + over_r * qz;
  }
}

void ChebyshevDescriptor::atom_tangent(const Neighbours& batch, Index atom, const double* direction,
                                       const double* strain, Environment& env, Sums& sums,
                                       double* tangent) const {
  set_direction(batch, atom, direction, strain, env.radial);
  radial_tangents(env, sums, tangent);
  if (angular_order_ < 0) return;
  set_direction(batch, atom, direction, strain, env.angular);
  angular_tangents(env, sums, tangent);
}

void ChebyshevDescriptor::atom_gradients(const Neighbours& batch, Index atom, const double* cotangent,
                                         Environment& env, Sums& sums, double* gradient,
                                         double* virial) const {
  radial_gradients(env, cotangent);
  if (angular_order_ >= 0) angular_gradients(env, sums, cotangent);
  for (const Shell* shell : {&env.radial, &env.angular})
    add_pair_gradients(batch, atom, *shell, gradient, virial);
}

std::unique_ptr<Descriptor::Surroundings> ChebyshevDescriptor::make_surroundings() const {
  return std::make_unique<Found>();
}

void ChebyshevDescriptor::survey(const Neighbours& batch, Index s, Index begin, Index end,
                                 Surroundings& found) const {
  auto& content = static_cast<Found&>(found);
  content.origin = batch.first_atom[s];
  content.first = begin;
  content.n_atoms = end - begin;
  if (content.environments.size() < static_cast<std::size_t>(content.n_atoms))
    content.environments.resize(static_cast<std::size_t>(content.n_atoms));
  for (Index i = 0; i < content.n_atoms; ++i)
    gather(batch, begin + i, content.environments[static_cast<std::size_t>(i)], content.sums);
}

void ChebyshevDescriptor::values(const Surroundings& found, double* values) const {
  const auto& content = static_cast<const Found&>(found);
  for (Index i = 0; i < content.n_atoms; ++i) {
    const Environment& env = content.environments[static_cast<std::size_t>(i)];
    radial_values(env, values + i * size());
    if (angular_order_ >= 0) angular_values(env, values + i * size());
  }
}

void ChebyshevDescriptor::jvp(const Neighbours& batch, Surroundings& found, const double* direction,
                              const double* strain, double* tangent) const {
  auto& content = static_cast<Found&>(found);
  for (Index i = 0; i < content.n_atoms; ++i)
    atom_tangent(batch, content.first + i, direction - 3 * content.origin, strain,
                 content.environments[static_cast<std::size_t>(i)], content.sums, tangent + i * size());
}

void ChebyshevDescriptor::add_vjp(const Neighbours& batch, Surroundings& found, const double* cotangent,
                                  double* gradient, double* virial) const {
  auto& content = static_cast<Found&>(found);
  for (Index i = 0; i < content.n_atoms; ++i)
    atom_gradients(batch, content.first + i, cotangent + i * size(),
                   content.environments[static_cast<std::size_t>(i)], content.sums,
                   gradient - 3 * content.origin, virial);
}

}  // namespace gprann
