#pragma once

#include "gprann/covariance.hpp"

namespace gprann {

// clang-format off
/// y = K x for the covariance matrix K of energies and gradients of a set with itself, without K.
///
/// With x folded into its rows (`FoldedRows`: w_i = x_E of the structure of row i, a_i = J_i x_F) and with
/// d = g_i - g_j, s = |d|^2 the product is, before J^T brings the slopes back to gradients,
///
///     energy_i = sum_j phi w_j - 2 phi' (d . a_j)
///     slope_i  = sum_j [ 2 phi' w_j - 4 phi'' (d . a_j) ] d - 2 phi' a_j         j of the kind of i
///
/// The same numbers as `predict_rows` of the rows themselves, but distances and kernel are found once for the
/// pair (i, j) and (j, i): 14 D flops a pair of rows instead of 16 D, and half the exponentials. Rows are
/// taken in square tiles, in rounds in which every tile occurs once, so that no two threads meet and the sums
/// are taken in one order for any number of them.
///
/// energies: (rows), slopes: (rows, D), rows kind by kind as in `x`.
// clang-format on
void covariance_product(const FoldedRows& x, const RadialKernel& kernel, const Blas& blas, int n_threads,
                        double* energies, double* slopes);

}  // namespace gprann
