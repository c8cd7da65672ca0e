#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "gprann/chebyshev.hpp"
#include "gprann/cutoff.hpp"
#include "gprann/parallel.hpp"

namespace gprann {

/// The neighbours of one atom within one cutoff, as lanes of components.
struct Shell {
  Index count = 0;
  std::vector<Lane> r, inverse_r, x, y, z;  // distance Å, unit vector
  std::vector<Lane> f, df;                  // cutoff function and slope
  std::vector<Lane> w;                      // (channels, blocks) species weights
  std::vector<Lane> vx, vy, vz;             // tangent of the neighbour vector (JVP only)
  std::vector<Lane> gx, gy, gz;             // gradient with respect to the neighbour vector (VJP only)
  std::vector<std::int64_t> pair;           // which pair of the batch each one is

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

  /// Fills the lanes behind the last neighbour with a harmless one of weight zero at the cutoff.
  void pad(double cutoff, Index channels) {
    for (Index k = count; k < blocks() * lane_width; ++k) {
      const auto b = static_cast<std::size_t>(k / lane_width);
      const Index e = k % lane_width;
      r[b][e] = cutoff;
      inverse_r[b][e] = 1.0 / cutoff;
      x[b][e] = 1.0;
      y[b][e] = z[b][e] = vx[b][e] = vy[b][e] = vz[b][e] = 0.0;
      for (Index c = 0; c < channels; ++c) weight(c, static_cast<Index>(b))[e] = 0.0;
    }
    for (Index b = 0; b < blocks(); ++b)
      cosine_cutoff(r[static_cast<std::size_t>(b)], cutoff, f[static_cast<std::size_t>(b)],
                    df[static_cast<std::size_t>(b)]);
  }

  Index stride = 0;
};

struct ChebyshevDescriptor::Environment {
  Shell radial;
  Shell angular;
};

/// Moments of one atom and what is derived from them.
struct ChebyshevDescriptor::Sums {
  Matrix moments;          // (channels, (L+1)^2): c_lm
  Vector squares;          // (channels): sum_j (w_j f_j)^2
  Matrix tangent_moments;  // the same, their tangents
  Vector tangent_squares;
  Matrix cotangent;  // (channels, (L+1)^2): d(beta . G)/dc_lm
  std::vector<Lane> harmonics, dx, dy, dz, accumulator;
};

}  // namespace gprann
