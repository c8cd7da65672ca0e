#pragma once

#include <memory>
#include <vector>

#include "gprann/harmonics.hpp"
#include "gprann/types.hpp"

namespace gprann {

/// Neighbour lists of a batch of structures, atoms numbered through the whole batch. Views, not owned.
///
/// The neighbours of atom i are the pairs p in [first_pair[i], first_pair[i+1]): atom `neighbour[p]` at
/// `vectors[3 p ..]` = R_j + S cell - R_i. A neighbour may be a periodic image of any atom, i included. Every
/// pair stands twice, once from each side.
struct Neighbours {
  Index n_structures = 0;
  Index n_atoms = 0;
  const std::int64_t* first_atom = nullptr;  // (n_structures + 1)
  const std::int64_t* first_pair = nullptr;  // (n_atoms + 1)
  const std::int32_t* neighbour = nullptr;   // (n_pairs)
  const double* vectors = nullptr;           // (n_pairs, 3), Å
  const std::int32_t* species = nullptr;     // (n_atoms)
};

/// Chebyshev descriptor of Artrith, Urban and Ceder, PRB 96, 014112 (2017).
///
///     radial   c2_a = sum_j           w_j     T_a(2 r_ij / Rc_rad - 1) f_c(r_ij; Rc_rad)                  a
///     = 0..radial_order angular  c3_a = sum_{j<k}       w_j w_k T_a(cos theta_ijk) f_c(r_ij; Rc_ang)
///     f_c(r_ik; Rc_ang)   a = 0..angular_order
///
/// once per channel of species weights w; vector: [radial | angular] of channel 0, then of channel 1, ...
/// With T_a = sum_l A_al P_l and the addition theorem the pair sum factorises exactly,
///
///     c_lm = sum_j w_j f_c(r_ij) Y_lm(u_j),      c3_a = 1/2 sum_l A_al [ sum_m c_lm^2 - sum_j (w_j f_j)^2 ],
///
/// so an atom costs O(neighbours (angular_order + 1)^2). Three products are offered: `values` G (n_atoms, D),
/// `jvp` dG/dR . v and `vjp` (dG/dR)^T . beta; the last two cost about twice and three times the first and
/// store nothing.
class ChebyshevDescriptor {
 public:
  /// angular_order < 0: no angular part. weights: (n_channels, n_species).
  ChebyshevDescriptor(int radial_order, double radial_cutoff, int angular_order, double angular_cutoff,
                      const Matrix& weights);

  Index size() const { return n_channels() * channel_size(); }
  Index n_channels() const { return weights_.rows(); }
  Index n_species() const { return weights_.cols(); }
  double cutoff() const;

  /// values: (n_atoms, D).
  void values(const Neighbours& batch, int n_threads, double* values) const;

  /// direction: (n_atoms, 3); strains: (n_structures, 9), neighbour vectors also change by strain . vector,
  /// or null; tangent: (n_atoms, D) = dG/dR . direction + dG/d(strain) . strain.
  void jvp(const Neighbours& batch, const double* direction, const double* strains, int n_threads,
           double* tangent) const;

  /// cotangent beta: (n_atoms, D); gradient: (n_atoms, 3) = (dG/dR)^T . beta;
  /// virial: (n_structures, 9) = sum over pairs of vector x d(beta . G)/d(vector).
  void vjp(const Neighbours& batch, const double* cotangent, int n_threads, double* gradient,
           double* virial) const;

  /// Dense Jacobian of one structure `s`: (N, D, 3N), for covariance matrices and tests; 8 N D 3N bytes. With
  /// `strained` (N, D, 3N + 6), last the derivatives with respect to the strains in Voigt's order.
  void jacobian(const Neighbours& batch, Index s, bool strained, double* jacobian) const;

  /// The same, one row of D numbers for each coordinate k and atom i of structure `s`, added to
  /// rows[i] + k strides[i]: dG_i/dR_k where a network wants it.
  void jacobian_rows(const Neighbours& batch, Index s, double* const* rows, const Index* strides) const;

  /// The surroundings of some atoms of one structure, sorted into lanes: found once, used by several
  /// products.
  class Surroundings {
   public:
    Surroundings();
    Surroundings(Surroundings&&) noexcept;
    ~Surroundings();

   private:
    friend class ChebyshevDescriptor;
    struct Content;
    std::unique_ptr<Content> content_;
  };

  /// Fills `found` with the surroundings of all atoms of structure `s`, or of those from `begin` to `end`.
  void survey(const Neighbours& batch, Index s, Surroundings& found) const;
  void survey(const Neighbours& batch, Index s, Index begin, Index end, Surroundings& found) const;

  /// values, tangent, cotangent: (atoms surveyed, D). direction, gradient: (N, 3), all atoms of the
  /// structure.
  void values(const Surroundings& found, double* values) const;

  /// strain: (9) or null.
  void jvp(const Neighbours& batch, Surroundings& found, const double* direction, const double* strain,
           double* tangent) const;

  /// Adds to `gradient` and to `virial` (9), which may be null.
  void add_vjp(const Neighbours& batch, Surroundings& found, const double* cotangent, double* gradient,
               double* virial) const;

 private:
  struct Environment;
  struct Sums;

  Index channel_size() const { return (radial_order_ + 1) + (angular_order_ + 1); }
  Index radial_at(Index channel, int a) const { return channel * channel_size() + a; }
  Index angular_at(Index channel, int a) const { return channel * channel_size() + radial_order_ + 1 + a; }

  /// Gathers every atom's environment and calls work(atom, environment, sums), chunks of atoms side by side.
  template <class Work>
  void for_each_atom(const Neighbours& batch, int n_threads, Work&& work) const;
  /// Calls scatter(atom, pair, slopes (3, D)) with the derivatives of every atom of structure `s`.
  template <class Scatter>
  void for_each_slope(const Neighbours& batch, Index s, Scatter&& scatter) const;
  void gather(const Neighbours& batch, Index atom, Environment& env, Sums& sums) const;
  void sum_moments(Environment& env, Sums& sums) const;
  void radial_values(const Environment& env, double* values) const;
  void angular_values(const Environment& env, double* values) const;
  void radial_tangents(const Environment& env, Sums& sums, double* tangent) const;
  void angular_tangents(const Environment& env, Sums& sums, double* tangent) const;
  void radial_gradients(Environment& env, const double* cotangent) const;
  void angular_gradients(Environment& env, Sums& sums, const double* cotangent) const;
  void atom_tangent(const Neighbours& batch, Index atom, const double* direction, const double* strain,
                    Environment& env, Sums& sums, double* tangent) const;
  void atom_gradients(const Neighbours& batch, Index atom, const double* cotangent, Environment& env,
                      Sums& sums, double* gradient, double* virial) const;
  void radial_slopes(const Environment& env, Matrix& slopes) const;
  void angular_slopes(const Environment& env, Sums& sums, Matrix& slopes) const;

  int radial_order_;
  double radial_cutoff_;
  int angular_order_;
  double angular_cutoff_;
  Matrix weights_;
  Matrix legendre_;  // (angular_order + 1, angular_order + 1): A_al
  RealHarmonics harmonics_;
};

}  // namespace gprann
