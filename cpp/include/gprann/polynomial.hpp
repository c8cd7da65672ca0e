#pragma once

#include "gprann/atom_model.hpp"
#include "gprann/descriptor.hpp"

namespace gprann {

// clang-format off
/// Polynomials of the first or second degree in the standardised descriptor, one for each species:
///
///     eps(g) = c_0 + sum_k b_k g_k + sum_{k <= l} c_kl g_k g_l        (the last sum with degree 2)
///
/// (Thompson et al., J. Comput. Phys. 285, 316 (2015); Wood, Thompson, J. Chem. Phys. 148, 241721 (2018)).
/// Parameters: species by species c_0, b, then c_kl row by row. Energies and forces are linear in them.
// clang-format on
class Polynomial final : public AtomModel {
 public:
  /// degree: 1 or 2.
  Polynomial(Index input_size, Index degree, Index n_species);

  Index degree() const { return degree_; }
  Index n_species() const override { return n_species_; }
  Index input_size() const override { return size_; }
  Index n_parameters() const override { return n_species_ * n_terms(); }
  /// Terms of one species, K.
  Index n_terms() const { return 1 + size_ + (degree_ == 2 ? size_ * (size_ + 1) / 2 : 0); }

  std::unique_ptr<Workspace> make_workspace() const override;
  /// Degree 2: one product of the features with a symmetric matrix, 2 D^2 flops for each atom.
  Result evaluate(const double* parameters, Index species, ConstMatrixMap features,
                  Workspace& workspace) const override;

  /// Adds the terms at g, (K).
  void add_terms(const double* g, double* terms) const;
  /// Adds factor times the change of the terms at g along `change` (D): (K).
  void add_tangent(const double* g, const double* change, double factor, double* terms) const;

 private:
  Index size_, degree_, n_species_;
};

/// Where the equations of structures go: derivatives of labels by the parameters, all (rows, P) row-major.
struct PolynomialRows {
  double* energies;           // (n_structures, P)
  double* forces;             // (3 n_atoms, P), or null
  double* strains = nullptr;  // (6 n_structures, P): dE/d(strain) in Voigt's order, or null
};

/// Rows of the linear equations of a polynomial for a batch of structures. Every derivative of an atom's
/// terms is linear in that of its descriptor: K multiplications for each pair and direction, (3 pairs + 9) K
/// for an atom. features: (n_atoms, D), standardised; inverse_scale: (S, D). The same bits for any number of
/// threads.
void polynomial_rows(const Polynomial& model, const Descriptor& descriptor, const Neighbours& batch,
                     const double* features, const double* inverse_scale, int n_threads,
                     const PolynomialRows& rows);

}  // namespace gprann
