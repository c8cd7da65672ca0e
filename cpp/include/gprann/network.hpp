#pragma once

#include <vector>

#include "gprann/atom_model.hpp"
#include "gprann/blas.hpp"
#include "gprann/mlp.hpp"
#include "gprann/types.hpp"

namespace gprann {

/// Standardised descriptors of many structures, sorted by species and within a species by structure. Views.
///
/// The atoms of species t of structure s are the rows [rows[t (n+1) + s], rows[t (n+1) + s + 1]) of
/// `features`.
struct AtomFeatures {
  Index n_structures = 0;
  Index size = 0;                      // D
  const double* features = nullptr;    // (n_atoms, D)
  const std::int64_t* rows = nullptr;  // (S, n + 1)

  Index begin(Index species, Index structure) const { return rows[species * (n_structures + 1) + structure]; }
};

/// One multilayer perceptron per species (Behler, Parrinello, PRL 98, 146401 (2007)), E = sum_i
/// eps_t(i)(g_i).
///
/// A pure function of one parameter vector, species by species. Sums over atoms run in an order that does not
/// depend on the number of threads.
class Network final : public AtomModel {
 public:
  /// sizes: D, hidden layers..., 1.
  Network(std::vector<Index> sizes, Activation activation, Index n_species);

  Index n_parameters() const override { return n_species_ * mlp_.n_parameters(); }
  Index n_species() const override { return n_species_; }
  Index input_size() const override { return mlp_.input_size(); }
  std::unique_ptr<Workspace> make_workspace() const override;
  Result evaluate(const double* parameters, Index species, ConstMatrixMap features,
                  Workspace& workspace) const override;
  /// The shape that all species share.
  const Mlp& mlp() const { return mlp_; }

  /// energies: (n).
  void energies(const double* parameters, const AtomFeatures& atoms, int n_threads, double* energies) const;

  /// atom_energies: (n_atoms); slopes: (n_atoms, D) = d eps / d g, or null; both in the order of the feature
  /// rows.
  void atoms(const double* parameters, const AtomFeatures& atoms, int n_threads, double* atom_energies,
             double* slopes) const;

  /// Loss sum_s weight_s (E_s - target_s)^2 over the structures `batch`; its gradient goes to `gradient` (P).
  double energy_loss(const double* parameters, const AtomFeatures& atoms, const std::int64_t* batch,
                     Index batch_size, const double* targets, const double* weights, int n_threads,
                     double* gradient) const;

  /// rows: (end - begin, P): dE_s/dw of the structures [begin, end); energies: (end - begin).
  void energy_rows(const double* parameters, const AtomFeatures& atoms, Index begin, Index end,
                   double* energies, double* rows) const;

  /// Normal equations of the energies, r_s = E_s - target_s: lower triangle of H = sum w_s g_s g_s^T (P, P)
  /// with g_s = dE_s/dw, and b = sum w_s g_s r_s (P). Returns sum w_s r_s^2. J is never stored; n P^2 flops.
  double normal_equations(const double* parameters, const AtomFeatures& atoms, const double* targets,
                          const double* weights, const Blas& blas, int n_threads, double* H, double* b) const;

 private:
  Mlp mlp_;
  Index n_species_;
};

/// target (out, in) += sum over k rows of dz_row^T a_row; dz: (k, out), a: (k, in). For a handful of rows,
/// with which a general product costs more to set up than to compute: eight columns of the target are kept in
/// a register.
void add_outer_products(const double* dz, Index out, const double* a, Index in, Index k, double* target);

/// Adds the rows of J (n, P) to the lower triangle of H (P, P): H += J^T J, tiles side by side.
void add_normal_rows(const Blas& blas, const double* J, Index n, Index P, int n_threads, double* H);

}  // namespace gprann
