#pragma once

#include <limits>

#include "gprann/descriptor.hpp"
#include "gprann/network.hpp"
#include "gprann/types.hpp"

namespace gprann {

/// Energies, forces and virials to be fitted, in units of the energy scale (and Å). Views.
///
/// A weight of zero leaves a number out, whatever stands in its place. Residuals beyond a threshold count
/// linearly (Huber): r^2 becomes 2 threshold |r| - threshold^2.
struct Labels {
  const double* energies = nullptr;        // (n)
  const double* energy_weights = nullptr;  // (n)
  const double* forces = nullptr;          // (n_atoms, 3)
  const double* force_weights = nullptr;   // (n_atoms, 3)
  const double* virials = nullptr;         // (n, 6), dE/d(strain), Voigt order xx yy zz yz xz xy
  const double* virial_weights = nullptr;  // (n, 6)
  double energy_threshold = std::numeric_limits<double>::infinity();
  double force_threshold = std::numeric_limits<double>::infinity();
  double virial_threshold = std::numeric_limits<double>::infinity();
};

/// Weighted sums of squared (or Huber's) residuals.
struct LossParts {
  double energy = 0.0;
  double force = 0.0;
  double virial = 0.0;

  LossParts& operator+=(const LossParts& other) {
    energy += other.energy;
    force += other.force;
    virial += other.virial;
    return *this;
  }
};

// clang-format off
/// L = sum_s w_s (E_s - E_s')^2 + sum_k w_k (F_k - F_k')^2 + sum_v w_v (V_v - V_v')^2 of a network on a
/// descriptor.
///
/// The gradient comes from one look at the neighbours of every structure and two sweeps over them (iterated
/// backpropagation):
///
///     forward, back to the input: beta_i = d eps_i / d G_i;   forces and virial by vjp(beta);
///     residuals: d_j = dL/d(dE/dR_j), S = dL/d(virial);        u_i = jvp(d, S);
///     dL/dw = d/dw sum_i [ dL/dE_s eps_i + beta_i . u_i ]      (Mlp::add_second_gradient)
///
/// Cost per atom: about three passes of the energy and two sweeps, O(neighbours); nothing but the neighbour
/// list grows with the cutoff. Of the Chebyshev descriptor stored Jacobians would take up to a quarter off a
/// gradient, for 14 to 39 kB per atom (bench/README.md); of costlier ones they are kept (StoredDescriptor). Standardised features do not depend on the
/// parameters and are given. Sums run in an order that does not depend on the number of threads.
// clang-format on
class CombinedLoss {
 public:
  /// order: (n_atoms), atom of every row of `atoms`; inverse_scale: (S, D), d g / d G. All views must outlive
  /// this.
  CombinedLoss(const Network& network, const Descriptor& descriptor, const Neighbours& neighbours,
               const AtomFeatures& atoms, const std::int64_t* order, const double* inverse_scale);

  const Network& network() const { return network_; }

  /// Loss of the structures `batch`; with `gradient` (P) also its gradient.
  LossParts evaluate(const double* parameters, const Labels& labels, const std::int64_t* batch,
                     Index batch_size, int n_threads, double* gradient) const;

  /// Gauss-Newton product J^T W J v, W with Huber's weights at the residuals of `parameters`. result: (P).
  void gauss_newton(const double* parameters, const Labels& labels, const std::int64_t* batch,
                    Index batch_size, const double* v, int n_threads, double* result) const;

  /// J^T W^(1/2) z for one number z per residual, in the layout of the labels: energies (n), forces (n_atoms,
  /// 3), virials (n, 6). With random signs, the mean of its squares estimates the diagonal of J^T W J.
  void adjoint_product(const double* parameters, const Labels& labels, const std::int64_t* batch,
                       Index batch_size, const double* energies, const double* forces, const double* virials,
                       int n_threads, double* result) const;

  /// Normal equations of the structures `batch`: lower triangle of H = J^T W J (P, P) and b = J^T W r (P),
  /// panels of rows at a time; rows of weight zero cost nothing. Returns the loss.
  LossParts normal_equations(const double* parameters, const Labels& labels, const std::int64_t* batch,
                             Index batch_size, const Blas& blas, int n_threads, double* H, double* b) const;

  /// Residuals of the structures `batch` that have a weight.
  Index row_count(const Labels& labels, const std::int64_t* batch, Index batch_size) const;
  /// Their weighted rows: J = W^(1/2) dr/dw (row_count, P) and r = W^(1/2) (predictions - labels); structure
  /// by structure the energy, the force components, the virials. Returns the loss.
  LossParts rows(const double* parameters, const Labels& labels, const std::int64_t* batch, Index batch_size,
                 int n_threads, double* J, double* r) const;

 private:
  struct Block;
  struct RowsOfSpecies;
  struct Rows;
  /// Energy, dE/dR (N, 3) and virial (9) of a structure; or the derivatives of a loss with respect to them.
  struct Slopes {
    double energy = 0.0;
    Matrix gradient;
    Eigen::Matrix<double, 9, 1> virial;
  };
  enum class Of { energies, tangents };

  bool has_forces(const Labels& labels, Index s) const;
  /// Pieces of a batch that are summed up on their own; a function of the batch alone.
  static Index group_count(Index batch_size);
  /// Calls adjoint(group, block, k) for the k-th structure of every block, which sets block.slopes; the
  /// gradient of sum of slopes times predictions goes to `result`, unless it is null.
  template <class Adjoint>
  void for_each_structure(const double* parameters, const Labels& labels, const std::int64_t* batch,
                          Index batch_size, int n_threads, double* result, Adjoint&& adjoint) const;
  /// Runs the networks of a block forward, and back as far as its labels and a gradient need.
  void load(const double* parameters, const Labels& labels, const std::int64_t* chosen, Index count,
            bool with_gradient, Block& block) const;
  void predict(Block& block, Index k, Of what, Slopes& slopes) const;
  void pull_back(Block& block, Index k, const Slopes& slopes) const;
  void residuals(const Labels& labels, Index s, bool forces, Slopes& slopes, LossParts& loss) const;
  void weigh(const Labels& labels, Index s, bool forces, const Slopes* at, Slopes& slopes) const;

  Index count_rows(const Labels& labels, Index s) const;
  void fill_rows(const double* parameters, const Labels& labels, Index s, Rows& rows, double* J, double* r,
                 LossParts& loss) const;
  LossParts fill_rows_of(const double* parameters, const Labels& labels, const std::int64_t* batch,
                         Index batch_size, int n_threads, std::vector<Rows>& works, double* J,
                         double* r) const;
  void tangent_features(Index s, bool virial, Rows& rows) const;
  void add_row(const RowsOfSpecies& own, Index u, ConstMatrixMap features, double* row) const;
  void weigh_rows(const Labels& labels, Index s, double energy, const Rows& rows, double* J, double* r,
                  LossParts& loss) const;

  const Network& network_;
  const Descriptor& descriptor_;
  Neighbours neighbours_;
  AtomFeatures atoms_;
  const std::int64_t* order_;
  const double* inverse_scale_;
};

}  // namespace gprann
