#pragma once

#include "gprann/types.hpp"

namespace gprann {

/// The five BLAS/LAPACK routines behind the large products. Given by the caller (Python passes those of
/// scipy's own library); a routine that is null is replaced by Eigen, slower but always there. Calls come
/// from several threads at once, so the library behind the pointers must be set to one thread.
struct Blas {
  using Gemm = void (*)(char* ta, char* tb, int* m, int* n, int* k, double* alpha, double* a, int* lda,
                        double* b, int* ldb, double* beta, double* c, int* ldc);
  using Syrk = void (*)(char* uplo, char* trans, int* n, int* k, double* alpha, double* a, int* lda,
                        double* beta, double* c, int* ldc);
  using Trsm = void (*)(char* side, char* uplo, char* trans, char* diag, int* m, int* n, double* alpha,
                        double* a, int* lda, double* b, int* ldb);
  using Potrf = void (*)(char* uplo, int* n, double* a, int* lda, int* info);

  Gemm gemm = nullptr;
  Syrk syrk = nullptr;
  Trsm trsm = nullptr;
  Potrf potrf = nullptr;
};

/// A row-major block of a larger array: `rows` x `columns` numbers, rows `stride` apart.
struct Block {
  double* data;
  Index rows;
  Index columns;
  Index stride;
};
struct ConstBlock {
  const double* data;
  Index rows;
  Index columns;
  Index stride;
  ConstBlock(const double* d, Index r, Index c, Index s) : data(d), rows(r), columns(c), stride(s) {}
  ConstBlock(const Block& b) : data(b.data), rows(b.rows), columns(b.columns), stride(b.stride) {}
};

/// C = alpha A B + beta C
void multiply(const Blas& blas, double alpha, ConstBlock A, ConstBlock B, double beta, Block C);
/// C = alpha A^T B + beta C
void multiply_tn(const Blas& blas, double alpha, ConstBlock A, ConstBlock B, double beta, Block C);
/// C = alpha A B^T + beta C
void multiply_nt(const Blas& blas, double alpha, ConstBlock A, ConstBlock B, double beta, Block C);
/// Lower triangle of C = alpha A A^T + beta C
void rank_update(const Blas& blas, double alpha, ConstBlock A, double beta, Block C);
/// Lower triangle of C = alpha A^T A + beta C
void rank_update_t(const Blas& blas, double alpha, ConstBlock A, double beta, Block C);

/// Lower triangle of C += A^T A, tiles in parallel: the same bits for any number of threads.
void add_gram(const Blas& blas, ConstBlock A, Block C, int n_threads);

/// Lower triangle of C += A A^T, in the same way.
void add_gram_of_rows(const Blas& blas, ConstBlock A, Block C, int n_threads);

/// Cholesky factor of a symmetric positive definite matrix, K = L L^T, in place in the lower triangle (the
/// upper one is not read): blocked right-looking algorithm, n^3/3 flops, tiles in parallel, no second copy of
/// K. Returns -1, or the first row at which the matrix is not positive definite or not finite. The same bits
/// for any number of threads.
Index cholesky(const Blas& blas, Block K, int n_threads);

/// B (n_rhs, n), one right-hand side a row, is replaced by the solutions x of L x = b.
void solve_lower(const Blas& blas, ConstBlock L, Block B, int n_threads);
/// B (n_rhs, n) is replaced by the solutions x of L^T x = b.
void solve_lower_transposed(const Blas& blas, ConstBlock L, Block B, int n_threads);

}  // namespace gprann
