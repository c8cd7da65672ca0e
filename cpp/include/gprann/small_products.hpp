#pragma once

#include <vector>

#include "gprann/types.hpp"

namespace gprann {

/// The right factor of products with many rows, copied once into rows padded to whole registers.
///
/// The layers of an atomic network are some ten numbers wide. A general matrix product spends more time there
/// on cutting its factors into pieces than on multiplying; here both stay where they are, and a tile of the
/// result, four rows by three registers, stays in registers until it is complete. 2 k m flops for each row;
/// read are the rows once and the factor, from the first cache, once for four rows.
class RightFactor {
 public:
  /// B: (k, m), row-major.
  void set(const double* B, Index k, Index m);
  /// B^T of B: (m, k), row-major.
  void set_transposed(const double* B, Index k, Index m);

  /// C (n, m) = A (n, k) B, in rows that begin with `start` (m) unless it is null.
  void multiply(const double* A, Index n, const double* start, double* C) const;
  /// C (n, m) += A (n, k) B.
  void multiply_add(const double* A, Index n, double* C) const;

 private:
  void resize(Index k, Index m);
  template <bool add>
  void run(const double* A, Index n, const double* start, double* C) const;

  Index k_ = 0, m_ = 0, padded_ = 0;
  std::vector<double> values_;         // (k, padded)
  mutable std::vector<double> start_;  // (padded)
};

/// C (p, q) += A^T B of A (n, p) and B (n, q). Every element is one sum over the rows in their order.
void add_transposed_product(const double* A, const double* B, Index n, Index p, Index q, double* C);

/// sums (m) += the columns of A (n, m).
void add_column_sums(const double* A, Index n, Index m, double* sums);

}  // namespace gprann
