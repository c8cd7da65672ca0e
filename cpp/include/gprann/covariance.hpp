#pragma once

#include "gprann/blas.hpp"
#include "gprann/radial_kernel.hpp"
#include "gprann/types.hpp"

namespace gprann {

/// Structures as sets of feature vectors with their Jacobians: views, not owned.
///
/// Structure A has feature rows [first_row[A], first_row[A+1]), sorted by kind (species): those of kind s are
/// [kind_rows[A (S+1) + s], kind_rows[A (S+1) + s + 1]). For the atoms kernel the rows are the atoms and the
/// features their descriptors; a fingerprint of the whole structure (pairs, Cartesian) is a single row of a
/// single kind. The Jacobian of structure A, d(features)/d(direction), is a row-major (rows_A D, m_A) matrix
/// at jacobians + first_jacobian[A]; the m_A directions are those in which gradients are observed.
struct FeatureSets {
  Index n_structures = 0;
  Index n_kinds = 0;
  Index size = 0;                                // D
  const std::int64_t* first_row = nullptr;       // (n + 1)
  const std::int64_t* kind_rows = nullptr;       // (n, S + 1)
  const double* features = nullptr;              // (rows, D)
  const std::int64_t* first_jacobian = nullptr;  // (n + 1)
  const double* jacobians = nullptr;
  const std::int64_t* first_observation = nullptr;  // (n + 1): row of E_A in K; its m_A gradients follow

  Index directions(Index a) const { return first_observation[a + 1] - first_observation[a] - 1; }
};

// clang-format off
/// Covariances of energies and gradients under k(A, B) = sum over rows i of A, i' of B of the same kind of
/// phi(|g_i - g_i'|^2) (Yeu et al., npj Comput. Mater. 11, 156 (2025), eqs. 9-12, for a sum of kernels):
///
///     cov(E, E')           = sum phi                                   d = g_i - g_i'
///     cov(E, dE'/dR')      = sum -2 phi' (J'_i'^T d)
///     cov(dE/dR, E')       = sum  2 phi' (J_i^T d)
///     cov(dE/dR, dE'/dR')  = sum J_i^T [ -2 phi' I - 4 phi'' d d^T ] J'_i'
///
/// K: (observations of A, observations of B), rows [E_A, gradients of A] structure by structure. With `lower`
/// (A and B the same) only the blocks on and below the diagonal are written. About 2 rows_A D m_A m_B flops a
/// pair of structures.
// clang-format on
void covariance(const FeatureSets& A, const FeatureSets& B, const RadialKernel& kernel, const Blas& blas,
                bool lower, int n_threads, Block K);

/// Rows cov(E_A, .) alone, from the values of A's features without their Jacobians. K: (n_A, observations of
/// B).
void energy_covariance(const FeatureSets& A, const FeatureSets& B, const RadialKernel& kernel,
                       const Blas& blas, int n_threads, Block K);

/// Prior variances cov(E_A, E_A): (n_A).
void energy_variance(const FeatureSets& A, const RadialKernel& kernel, double* variance);

/// Training rows folded with the solution alpha of K alpha = y, kind by kind, so that a prediction costs 8 D
/// flops for each pair of a query row and a training row and needs no Jacobian.
struct FoldedRows {
  Index n_kinds = 0;
  Index size = 0;
  const std::int64_t* first = nullptr;    // (S + 1): rows by kind
  const double* features = nullptr;       // (rows, D)
  const double* energy_weight = nullptr;  // (rows): alpha_E of the structure
  const double* slope = nullptr;          // (rows, D): a_i' = J'_i' alpha_F
};

/// energies: (rows) contribution of every query row (their sum over a structure is the mean prediction
/// without its constant); slopes: (rows, D) d(energy)/d(features), to be carried to forces by the
/// fingerprint's `vjp`. rows of kind s of the query: [first[s], first[s+1]).
void predict_rows(const FoldedRows& training, const double* features, const std::int64_t* first,
                  const RadialKernel& kernel, const Blas& blas, int n_threads, double* energies,
                  double* slopes);

}  // namespace gprann
