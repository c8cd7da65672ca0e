#include "gprann/density_expansion.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

#include "density_shell.hpp"

namespace gprann {

namespace {

/// A coordinate this close to a linear one is a linear one: the exponential form would lose digits.
constexpr double smallest_decay = 1e-3;

/// x(r) and dx/dr.
void radial_coordinate(const Lane& r, double cutoff, double decay, Lane& x, Lane& slope) {
  if (decay < smallest_decay) {
    x = r * (2.0 / cutoff) - 1.0;
    slope.setConstant(2.0 / cutoff);
    return;
  }
  const double last = std::exp(-decay);
  const Lane e = (r * (-decay / cutoff)).exp();
  x = 1.0 - (e - last) * (2.0 / (1.0 - last));
  slope = e * (2.0 * decay / (cutoff * (1.0 - last)));
}

}  // namespace

DensityExpansion::DensityExpansion(int n_max, int l_max, double cutoff, double decay, const Matrix& weights)
    : n_max_(n_max), cutoff_(cutoff), decay_(decay), weights_(weights), harmonics_(l_max) {
  if (n_max < 1)
    throw std::invalid_argument("number of radial functions must be positive, got " + std::to_string(n_max));
  if (!(cutoff > 0)) throw std::invalid_argument("cutoff must be positive, got " + std::to_string(cutoff));
  if (!(decay >= 0)) throw std::invalid_argument("decay must be 0 or more, got " + std::to_string(decay));
  if (weights.rows() < 1 || weights.cols() < 1)
    throw std::invalid_argument("weights must have shape (channels, species)");
}

void DensityExpansion::gather(const Neighbours& batch, Index atom, DensityShell& shell) const {
  const std::int64_t begin = batch.first_pair[atom];
  const std::int64_t end = batch.first_pair[atom + 1];
  shell.clear(end - begin + lane_width * n_species(), 0);
  shell.segments.clear();
  for (Index t = 0; t < n_species(); ++t) {
    const Index first = shell.blocks();
    for (std::int64_t p = begin; p < end; ++p) {
      if (batch.species[batch.neighbour[p]] != t) continue;
      const double* v = batch.vectors + 3 * p;
      const double r = std::sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]);
      if (r >= cutoff_) continue;
      const auto b = static_cast<std::size_t>(shell.count / lane_width);
      const Index e = shell.count % lane_width;
      const double inverse_r = 1.0 / r;
      shell.r[b][e] = r;
      shell.inverse_r[b][e] = inverse_r;
      shell.x[b][e] = v[0] * inverse_r;
      shell.y[b][e] = v[1] * inverse_r;
      shell.z[b][e] = v[2] * inverse_r;
      shell.pair[static_cast<std::size_t>(shell.count++)] = p;
    }
    if (shell.blocks() == first) continue;
    shell.fill_lane(cutoff_);
    shell.segments.push_back({t, first, shell.blocks()});
  }
  const auto n = static_cast<std::size_t>(shell.blocks());
  if (shell.s.size() < n) shell.s.resize(n), shell.ds.resize(n);
  for (std::size_t b = 0; b < n; ++b) {
    cosine_cutoff(shell.r[b], cutoff_, shell.f[b], shell.df[b]);
    radial_coordinate(shell.r[b], cutoff_, decay_, shell.s[b], shell.ds[b]);
  }
}

/// R_n of one block of neighbours, and the slopes dR_n/dr where they are asked for.
void DensityExpansion::radial_functions(const DensityShell& shell, Index block, Lane* values,
                                        Lane* slopes) const {
  const auto b = static_cast<std::size_t>(block);
  const Lane& f = shell.f[b];
  const Lane twice = 2.0 * shell.s[b];
  values[0] = f;
  if (n_max_ > 1) values[1] = shell.s[b] * f;
  for (int n = 2; n < n_max_; ++n) values[n] = twice * values[n - 1] - values[n - 2];
  if (slopes == nullptr) return;
  // d/dr of the recurrence, which is linear in f: R_n' = f' T_n + f x' dT_n/dx.
  const Lane change = 2.0 * shell.ds[b];
  slopes[0] = shell.df[b];
  if (n_max_ > 1) slopes[1] = shell.ds[b] * f + shell.s[b] * shell.df[b];
  for (int n = 2; n < n_max_; ++n) slopes[n] = change * values[n - 1] + twice * slopes[n - 1] - slopes[n - 2];
}

/// R_n and Y_lm of one block of neighbours with their slopes.
void DensityExpansion::basis_and_slopes(const DensityShell& shell, Index block, Workspace& work) const {
  const auto b = static_cast<std::size_t>(block);
  for (auto* v : {&work.harmonics, &work.dx, &work.dy, &work.dz}) v->resize(static_cast<std::size_t>(rows()));
  for (auto* v : {&work.radial, &work.radial_slopes}) v->resize(static_cast<std::size_t>(n_max_));
  radial_functions(shell, block, work.radial.data(), work.radial_slopes.data());
  harmonics_.gradients(shell.x[b], shell.y[b], shell.z[b], work.harmonics.data(), work.dx.data(),
                       work.dy.data(), work.dz.data());
}

/// sums[n, lm] of N radial functions from `n`: sum over the blocks from `first` to `last` of R_n Y_lm.
template <int N>
void DensityExpansion::sum_tile(Index first, Index last, Index n, Workspace& work) const {
  const Index m = rows();
  for (Index k = 0; k < m; ++k) {
    Lane sum[N];
    for (int i = 0; i < N; ++i) sum[i].setZero();
    for (Index b = first; b < last; ++b) {
      const Lane& y = work.harmonics[static_cast<std::size_t>(b * m + k)];
      const Lane* R = work.radial.data() + b * n_max_ + n;
      for (int i = 0; i < N; ++i) sum[i] += R[i] * y;
    }
    for (int i = 0; i < N; ++i) work.sums[static_cast<std::size_t>((n + i) * m + k)] = sum[i].sum();
  }
}

void DensityExpansion::sum_products(Index first, Index last, Workspace& work) const {
  Index n = 0;
  for (; n + 6 <= n_max_; n += 6) sum_tile<6>(first, last, n, work);
  for (; n + 4 <= n_max_; n += 4) sum_tile<4>(first, last, n, work);
  for (; n + 2 <= n_max_; n += 2) sum_tile<2>(first, last, n, work);
  for (; n < n_max_; ++n) sum_tile<1>(first, last, n, work);
}

/// Adds the sums over the neighbours of one species to the moments of the channels that see it.
void DensityExpansion::spread(const double* sums, Index species, Lane* moments) const {
  const Index m = rows();
  const Index width = stride() * lane_width;
  double* out = moments->data();
  for (Index c = 0; c < n_channels(); ++c) {
    const double w = weights_(c, species);
    if (w == 0.0) continue;
    for (Index n = 0; n < n_max_; ++n)
      for (Index k = 0; k < m; ++k) out[k * width + c * n_max_ + n] += w * sums[n * m + k];
  }
}

/// The transposed operation: what the cotangent of the moments is to the sums of one species, (rows, n_max).
void DensityExpansion::fold(const Lane* cotangent, Index species, double* folded) const {
  const Index m = rows();
  const Index width = stride() * lane_width;
  const double* in = cotangent->data();
  std::fill_n(folded, m * n_max_, 0.0);
  for (Index c = 0; c < n_channels(); ++c) {
    const double w = weights_(c, species);
    if (w == 0.0) continue;
    for (Index k = 0; k < m; ++k)
      for (Index n = 0; n < n_max_; ++n) folded[k * n_max_ + n] += w * in[k * width + c * n_max_ + n];
  }
}

void DensityExpansion::moments(const DensityShell& shell, Workspace& work, Lane* moments) const {
  const Index m = rows();
  const auto blocks = static_cast<std::size_t>(shell.blocks());
  work.radial.resize(blocks * static_cast<std::size_t>(n_max_));
  work.harmonics.resize(blocks * static_cast<std::size_t>(m));
  work.sums.resize(static_cast<std::size_t>(n_max_ * m));
  for (std::size_t b = 0; b < blocks; ++b) {
    const auto at = static_cast<Index>(b);
    radial_functions(shell, at, work.radial.data() + at * n_max_, nullptr);
    harmonics_.values(shell.x[b], shell.y[b], shell.z[b], work.harmonics.data() + at * m);
  }
  std::fill_n(moments->data(), n_lanes() * lane_width, 0.0);
  for (const auto& segment : shell.segments) {
    sum_products(segment.first, segment.last, work);
    spread(work.sums.data(), segment.species, moments);
  }
}

void DensityExpansion::tangents(const DensityShell& shell, Workspace& work, Lane* tangents) const {
  const Index m = rows();
  const auto size = static_cast<std::size_t>(m);
  work.sums.resize(static_cast<std::size_t>(n_max_) * size);
  std::vector<Lane>& sums = work.tangents;  // (n_max, rows)
  std::fill_n(tangents->data(), n_lanes() * lane_width, 0.0);
  for (const auto& segment : shell.segments) {
    sums.assign(static_cast<std::size_t>(n_max_) * size, Lane::Zero());
    for (Index block = segment.first; block < segment.last; ++block) {
      const auto b = static_cast<std::size_t>(block);
      basis_and_slopes(shell, block, work);
      const Lane along = shell.x[b] * shell.vx[b] + shell.y[b] * shell.vy[b] + shell.z[b] * shell.vz[b];
      const Lane ux = (shell.vx[b] - shell.x[b] * along) * shell.inverse_r[b];
      const Lane uy = (shell.vy[b] - shell.y[b] * along) * shell.inverse_r[b];
      const Lane uz = (shell.vz[b] - shell.z[b] * along) * shell.inverse_r[b];
      for (std::size_t k = 0; k < size; ++k) {
        const Lane turn = ux * work.dx[k] + uy * work.dy[k] + uz * work.dz[k];
        const Lane stretch = along * work.harmonics[k];
        for (std::size_t n = 0; n < static_cast<std::size_t>(n_max_); ++n)
          sums[n * size + k] += work.radial_slopes[n] * stretch + work.radial[n] * turn;
      }
    }
    for (std::size_t k = 0; k < sums.size(); ++k) work.sums[k] = sums[k].sum();
    spread(work.sums.data(), segment.species, tangents);
  }
}

void DensityExpansion::gradients(DensityShell& shell, Workspace& work, const Lane* cotangent) const {
  const Index m = rows();
  const auto size = static_cast<std::size_t>(m);
  work.folded.resize(static_cast<std::size_t>(n_max_) * size);
  for (const auto& segment : shell.segments) {
    fold(cotangent, segment.species, work.folded.data());
    for (Index block = segment.first; block < segment.last; ++block) {
      const auto b = static_cast<std::size_t>(block);
      basis_and_slopes(shell, block, work);
      Lane slope = Lane::Zero(), qx = Lane::Zero(), qy = Lane::Zero(), qz = Lane::Zero();
      for (std::size_t k = 0; k < size; ++k) {
        const double* weight = work.folded.data() + k * static_cast<std::size_t>(n_max_);
        Lane value = Lane::Zero(), change = Lane::Zero();
        for (std::size_t n = 0; n < static_cast<std::size_t>(n_max_); ++n) {
          value += weight[n] * work.radial[n];
          change += weight[n] * work.radial_slopes[n];
        }
        slope += change * work.harmonics[k];
        qx += value * work.dx[k];
        qy += value * work.dy[k];
        qz += value * work.dz[k];
      }
      const Lane along = slope - shell.inverse_r[b] * (qx * shell.x[b] + qy * shell.y[b] + qz * shell.z[b]);
      shell.gx[b] = along * shell.x[b] + shell.inverse_r[b] * qx;
      shell.gy[b] = along * shell.y[b] + shell.inverse_r[b] * qy;
      shell.gz[b] = along * shell.z[b] + shell.inverse_r[b] * qz;
    }
  }
}

void DensityExpansion::prepare_slopes(const DensityShell& shell, Index block, Workspace& work) const {
  const auto b = static_cast<std::size_t>(block);
  basis_and_slopes(shell, block, work);
  const Lane &x = shell.x[b], &y = shell.y[b], &z = shell.z[b];
  for (std::size_t k = 0; k < static_cast<std::size_t>(rows()); ++k) {
    const Lane along = x * work.dx[k] + y * work.dy[k] + z * work.dz[k];
    work.dx[k] = (work.dx[k] - along * x) * shell.inverse_r[b];
    work.dy[k] = (work.dy[k] - along * y) * shell.inverse_r[b];
    work.dz[k] = (work.dz[k] - along * z) * shell.inverse_r[b];
  }
}

void DensityExpansion::slope(const DensityShell& shell, Index block, Index e, int d, Index species,
                             Workspace& work, Lane* tangents) const {
  const auto b = static_cast<std::size_t>(block);
  const auto size = static_cast<std::size_t>(rows());
  const double u = (d == 0 ? shell.x : d == 1 ? shell.y : shell.z)[b][e];
  const std::vector<Lane>& turned = d == 0 ? work.dx : d == 1 ? work.dy : work.dz;
  work.sums.resize(static_cast<std::size_t>(n_max_) * size);
  for (std::size_t n = 0; n < static_cast<std::size_t>(n_max_); ++n) {
    const double stretch = work.radial_slopes[n][e] * u;
    const double value = work.radial[n][e];
    for (std::size_t k = 0; k < size; ++k)
      work.sums[n * size + k] = stretch * work.harmonics[k][e] + value * turned[k][e];
  }
  std::fill_n(tangents->data(), n_lanes() * lane_width, 0.0);
  spread(work.sums.data(), species, tangents);
}

}  // namespace gprann
