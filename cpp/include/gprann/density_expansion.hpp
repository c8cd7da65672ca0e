#pragma once

#include <cstdint>
#include <vector>

#include "gprann/harmonics.hpp"
#include "gprann/neighbours.hpp"
#include "gprann/types.hpp"

namespace gprann {

struct DensityShell;

// clang-format off
/// Moments of the density of an atom's neighbours, seen through channels of species weights:
///
///     A_q,lm = sum_j w_c(t_j) R_n(r_ij) Y_lm(u_ij),    q = (c, n),   n = 0..n_max-1,   l = 0..l_max
///     R_n(r) = T_n(x(r)) f_c(r; rc),                   x(r) = 1 - 2 (exp(-k r/rc) - exp(-k)) / (1 - exp(-k))
///
/// with Chebyshev polynomials T_n, the cosine cutoff f_c and harmonics in Racah's normalisation; the coordinate
/// x resolves short distances better than a linear one, which is its limit k -> 0. Moments stand as rows
/// (l, m) of lanes over q: element (lm, q) is lanes[lm * stride() + q / 8][q % 8], zeros behind the last q.
///
/// Neighbours are sorted by species, and the channels are mixed once for the atom: the sweep over the neighbours
/// costs the same for any number of channels, about 2 n_max (l_max + 1)^2 flops a neighbour for the values.
// clang-format on
class DensityExpansion {
 public:
  struct Workspace {
    std::vector<Lane> radial, radial_slopes;  // (blocks, n_max) or (n_max)
    std::vector<Lane> harmonics, dx, dy, dz;  // (blocks, rows) or (rows)
    std::vector<Lane> tangents;               // (n_max, rows)
    std::vector<double> sums, folded;         // (n_max, rows), (rows, n_max)
  };

  /// weights: (channels, species).
  DensityExpansion(int n_max, int l_max, double cutoff, double decay, const Matrix& weights);

  int n_max() const { return n_max_; }
  int l_max() const { return harmonics_.order(); }
  double cutoff() const { return cutoff_; }
  Index n_channels() const { return weights_.rows(); }
  Index n_species() const { return weights_.cols(); }
  /// Number of pairs (c, n), and of lanes that hold them.
  Index n_functions() const { return n_channels() * n_max_; }
  Index stride() const { return (n_functions() + lane_width - 1) / lane_width; }
  /// Number of pairs (l, m).
  Index rows() const { return harmonics_.size(); }
  Index n_lanes() const { return rows() * stride(); }

  /// The neighbours of an atom within the cutoff, sorted by species.
  void gather(const Neighbours& batch, Index atom, DensityShell& shell) const;
  /// A.
  void moments(const DensityShell& shell, Workspace& work, Lane* moments) const;
  /// Change of A for the tangents of the neighbour vectors that the shell holds.
  void tangents(const DensityShell& shell, Workspace& work, Lane* tangents) const;
  /// Sets the gradients of the neighbour vectors: sum of cotangent x dA/d(vector).
  void gradients(DensityShell& shell, Workspace& work, const Lane* cotangent) const;
  /// What `slope` needs of one block of neighbours.
  void prepare_slopes(const DensityShell& shell, Index block, Workspace& work) const;
  /// dA / d(vector)_d of neighbour `e` of that block, of the given species.
  void slope(const DensityShell& shell, Index block, Index e, int d, Index species, Workspace& work,
             Lane* tangents) const;

 private:
  void radial_functions(const DensityShell& shell, Index block, Lane* values, Lane* slopes) const;
  void basis_and_slopes(const DensityShell& shell, Index block, Workspace& work) const;
  void spread(const double* sums, Index species, Lane* moments) const;
  void fold(const Lane* cotangent, Index species, double* folded) const;
  void sum_products(Index first, Index last, Workspace& work) const;
  template <int N>
  void sum_tile(Index first, Index last, Index n, Workspace& work) const;

  int n_max_;
  double cutoff_;
  double decay_;
  Matrix weights_;
  RealHarmonics harmonics_;
};

}  // namespace gprann
