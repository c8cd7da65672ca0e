#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "gprann/cutoff.hpp"
#include "gprann/neighbours.hpp"
#include "gprann/parallel.hpp"
#include "gprann/types.hpp"

namespace gprann {

/// The neighbours of one atom within one cutoff, as lanes of components.
struct Shell {
  Index count = 0;
  std::vector<Lane> r, inverse_r, x, y, z;  // distance Å, unit vector
  std::vector<Lane> f, df;                  // cutoff function and slope
  std::vector<Lane> w;                      // (channels, blocks) species weights
  std::vector<Lane> vx, vy, vz;             // tangent of the neighbour vector (JVP only)
  std::vector<Lane> gx, gy, gz;             // gradient with respect to the neighbour vector (VJP only)
  std::vector<std::int64_t> pair;           // which pair of the batch each one is, -1 for none

  Index blocks() const { return chunk_count(count, lane_width); }

  void clear(Index capacity, Index channels) {
    count = 0;
    const auto n = static_cast<std::size_t>(chunk_count(capacity, lane_width));
    if (r.size() < n)
      for (auto* v : {&r, &inverse_r, &x, &y, &z, &f, &df, &vx, &vy, &vz, &gx, &gy, &gz}) v->resize(n);
    if (w.size() < n * static_cast<std::size_t>(channels)) w.resize(n * static_cast<std::size_t>(channels));
    if (pair.size() < static_cast<std::size_t>(capacity)) pair.resize(static_cast<std::size_t>(capacity));
    stride = static_cast<Index>(w.size()) / std::max<Index>(channels, 1);
  }

  Lane& weight(Index channel, Index block) { return w[static_cast<std::size_t>(channel * stride + block)]; }
  const Lane& weight(Index channel, Index block) const {
    return w[static_cast<std::size_t>(channel * stride + block)];
  }

  /// Counts harmless neighbours at the cutoff, where nothing is seen of them, up to the end of the lane.
  void fill_lane(double cutoff) {
    fill_positions(cutoff);
    for (const Index end = blocks() * lane_width; count < end; ++count)
      pair[static_cast<std::size_t>(count)] = -1;
  }

  /// Fills the lanes behind the last neighbour with a harmless one of weight zero at the cutoff.
  void pad(double cutoff, Index channels) {
    fill_positions(cutoff);
    for (Index k = count; k < blocks() * lane_width; ++k)
      for (Index c = 0; c < channels; ++c) weight(c, k / lane_width)[k % lane_width] = 0.0;
    for (Index b = 0; b < blocks(); ++b)
      cosine_cutoff(r[static_cast<std::size_t>(b)], cutoff, f[static_cast<std::size_t>(b)],
                    df[static_cast<std::size_t>(b)]);
  }

  Index stride = 0;

 private:
  void fill_positions(double cutoff) {
    for (Index k = count; k < blocks() * lane_width; ++k) {
      const auto b = static_cast<std::size_t>(k / lane_width);
      const Index e = k % lane_width;
      r[b][e] = cutoff;
      inverse_r[b][e] = 1.0 / cutoff;
      x[b][e] = 1.0;
      y[b][e] = z[b][e] = vx[b][e] = vy[b][e] = vz[b][e] = 0.0;
    }
  }
};

/// Sets the tangents of the neighbour vectors: direction_j - direction_i + strain . vector.
inline void set_direction(const Neighbours& batch, Index atom, const double* direction, const double* strain,
                          Shell& shell) {
  for (Index k = 0; k < shell.count; ++k) {
    const auto b = static_cast<std::size_t>(k / lane_width);
    const Index e = k % lane_width;
    const std::int64_t p = shell.pair[static_cast<std::size_t>(k)];
    if (p < 0) continue;
    const double* at = direction + 3 * static_cast<Index>(batch.neighbour[p]);
    double v[3] = {at[0] - direction[3 * atom], at[1] - direction[3 * atom + 1],
                   at[2] - direction[3 * atom + 2]};
    if (strain != nullptr)
      for (int d = 0; d < 3; ++d)
        for (int c = 0; c < 3; ++c) v[d] += strain[3 * d + c] * batch.vectors[3 * p + c];
    shell.vx[b][e] = v[0];
    shell.vy[b][e] = v[1];
    shell.vz[b][e] = v[2];
  }
}

/// Adds the gradients of the neighbour vectors to those of the atoms, and to the virial (9) if there is one.
inline void add_pair_gradients(const Neighbours& batch, Index atom, const Shell& shell, double* gradient,
                               double* virial) {
  double sum[3] = {0.0, 0.0, 0.0};  // in the order of the pairs: an atom's own images cancel to the last bit
  for (Index k = 0; k < shell.count; ++k) {
    const auto b = static_cast<std::size_t>(k / lane_width);
    const std::int64_t p = shell.pair[static_cast<std::size_t>(k)];
    if (p < 0) continue;
    const double g[3] = {shell.gx[b][k % lane_width], shell.gy[b][k % lane_width],
                         shell.gz[b][k % lane_width]};
    double* at_neighbour = gradient + 3 * static_cast<Index>(batch.neighbour[p]);
    for (int d = 0; d < 3; ++d) {
      at_neighbour[d] += g[d];
      sum[d] += g[d];
    }
    if (virial == nullptr) continue;
    for (int d = 0; d < 3; ++d)
      for (int e = 0; e < 3; ++e) virial[3 * d + e] += batch.vectors[3 * p + d] * g[e];
  }
  for (int d = 0; d < 3; ++d) gradient[3 * atom + d] -= sum[d];
}

}  // namespace gprann
