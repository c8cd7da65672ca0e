#include "gprann/blas.hpp"

#include <Eigen/Cholesky>
#include <cmath>

#include "gprann/parallel.hpp"

namespace gprann {

namespace {

// Row-major C = op(A) op(B) is column-major C^T = op(B)^T op(A)^T, so the operands change places and nothing
// is moved.

using Strided = Eigen::Map<Matrix, 0, Eigen::OuterStride<>>;
using ConstStrided = Eigen::Map<const Matrix, 0, Eigen::OuterStride<>>;

Strided map(Block b) { return {b.data, b.rows, b.columns, Eigen::OuterStride<>(b.stride)}; }
ConstStrided map(ConstBlock b) { return {b.data, b.rows, b.columns, Eigen::OuterStride<>(b.stride)}; }

void gemm(const Blas& blas, bool ta, bool tb, double alpha, ConstBlock A, ConstBlock B, double beta,
          Block C) {
  if (C.rows == 0 || C.columns == 0) return;
  char a = ta ? 'T' : 'N';
  char b = tb ? 'T' : 'N';
  auto m = static_cast<int>(C.columns);
  auto n = static_cast<int>(C.rows);
  auto k = static_cast<int>(ta ? A.rows : A.columns);
  auto lda = static_cast<int>(A.stride);
  auto ldb = static_cast<int>(B.stride);
  auto ldc = static_cast<int>(C.stride);
  blas.gemm(&b, &a, &m, &n, &k, &alpha, const_cast<double*>(B.data), &ldb, const_cast<double*>(A.data), &lda,
            &beta, C.data, &ldc);
}

void scale(double beta, Block C) {
  if (beta == 0.0)
    map(C).setZero();
  else if (beta != 1.0)
    map(C) *= beta;
}

void syrk(const Blas& blas, bool transposed, double alpha, ConstBlock A, double beta, Block C) {
  char uplo = 'U';  // the lower triangle in row-major order
  char trans = transposed ? 'N' : 'T';
  auto n = static_cast<int>(C.rows);
  auto k = static_cast<int>(transposed ? A.rows : A.columns);
  auto lda = static_cast<int>(A.stride);
  auto ldc = static_cast<int>(C.stride);
  blas.syrk(&uplo, &trans, &n, &k, &alpha, const_cast<double*>(A.data), &lda, &beta, C.data, &ldc);
}

constexpr Index tile = 512;

Block tile_of(Block K, Index i, Index j) {
  return {K.data + i * tile * K.stride + j * tile, std::min(tile, K.rows - i * tile),
          std::min(tile, K.columns - j * tile), K.stride};
}

/// Calls work(row, column) for the tiles of a lower triangle of n x n tiles, row by row.
template <class Work>
void for_each_lower_tile(Index n, int n_threads, Work&& work) {
  parallel_for(n * (n + 1) / 2, n_threads, [&](Index item, int) {
    Index row = 0;
    Index column = item;
    while (column > row) column -= ++row;
    work(row, column);
  });
}

/// Factorises one diagonal tile; returns -1 or the failing row.
Index factor_tile(const Blas& blas, Block T) {
  if (blas.potrf == nullptr) {
    // Not Eigen's blocked LLT: it does not say which row failed.
    auto A = map(T);
    for (Index k = 0; k < T.rows; ++k) {
      const double pivot = A(k, k) - A.row(k).head(k).squaredNorm();
      if (!(pivot > 0 && std::isfinite(pivot))) return k;
      A(k, k) = std::sqrt(pivot);
      const Index below = T.rows - k - 1;
      A.col(k).tail(below) -= A.bottomLeftCorner(below, k) * A.row(k).head(k).transpose();
      A.col(k).tail(below) /= A(k, k);
    }
    return -1;
  }
  char uplo = 'U';
  auto n = static_cast<int>(T.rows);
  auto lda = static_cast<int>(T.stride);
  int info = 0;
  blas.potrf(&uplo, &n, T.data, &lda, &info);
  if (info > 0) return info - 1;
  for (Index k = 0; k < T.rows; ++k)  // OpenBLAS lets NaN and infinity pass
    if (!std::isfinite(T.data[k * T.stride + k])) return k;
  return -1;
}

/// B <- B L^-T (transposed = true) or B L^-1, row-major: the right-hand sides are the rows of B.
void solve_right(const Blas& blas, bool transposed, ConstBlock L, Block B) {
  if (B.rows == 0) return;
  if (blas.trsm == nullptr) {
    Strided X = map(B);
    const ConstStrided factor = map(L);
    if (transposed)
      factor.transpose().triangularView<Eigen::Upper>().solveInPlace<Eigen::OnTheRight>(X);
    else
      factor.triangularView<Eigen::Lower>().solveInPlace<Eigen::OnTheRight>(X);
    return;
  }
  char side = 'L';
  char uplo = 'U';
  char trans = transposed ? 'T' : 'N';
  char diag = 'N';
  auto m = static_cast<int>(L.rows);
  auto n = static_cast<int>(B.rows);
  auto lda = static_cast<int>(L.stride);
  auto ldb = static_cast<int>(B.stride);
  double one = 1.0;
  blas.trsm(&side, &uplo, &trans, &diag, &m, &n, &one, const_cast<double*>(L.data), &lda, B.data, &ldb);
}

void solve_rows(const Blas& blas, bool transposed, ConstBlock L, Block B, int n_threads) {
  constexpr Index chunk = 128;
  parallel_for(chunk_count(B.rows, chunk), n_threads, [&](Index item, int) {
    const Index begin = item * chunk;
    solve_right(blas, transposed, L,
                {B.data + begin * B.stride, std::min(chunk, B.rows - begin), B.columns, B.stride});
  });
}

}  // namespace

void multiply(const Blas& blas, double alpha, ConstBlock A, ConstBlock B, double beta, Block C) {
  if (blas.gemm != nullptr) return gemm(blas, false, false, alpha, A, B, beta, C);
  scale(beta, C);
  map(C).noalias() += alpha * map(A) * map(B);
}

void multiply_tn(const Blas& blas, double alpha, ConstBlock A, ConstBlock B, double beta, Block C) {
  if (blas.gemm != nullptr) return gemm(blas, true, false, alpha, A, B, beta, C);
  scale(beta, C);
  map(C).noalias() += alpha * map(A).transpose() * map(B);
}

void multiply_nt(const Blas& blas, double alpha, ConstBlock A, ConstBlock B, double beta, Block C) {
  if (blas.gemm != nullptr) return gemm(blas, false, true, alpha, A, B, beta, C);
  scale(beta, C);
  map(C).noalias() += alpha * map(A) * map(B).transpose();
}

void rank_update(const Blas& blas, double alpha, ConstBlock A, double beta, Block C) {
  if (blas.syrk != nullptr) return syrk(blas, false, alpha, A, beta, C);
  scale(beta, C);
  map(C).selfadjointView<Eigen::Lower>().rankUpdate(map(A), alpha);
}

void rank_update_t(const Blas& blas, double alpha, ConstBlock A, double beta, Block C) {
  if (blas.syrk != nullptr) return syrk(blas, true, alpha, A, beta, C);
  scale(beta, C);
  map(C).selfadjointView<Eigen::Lower>().rankUpdate(map(A).transpose(), alpha);
}

void add_gram(const Blas& blas, ConstBlock A, Block C, int n_threads) {
  auto columns = [&](Index i) {
    return ConstBlock(A.data + i * tile, A.rows, std::min(tile, A.columns - i * tile), A.stride);
  };
  for_each_lower_tile(chunk_count(C.rows, tile), n_threads, [&](Index i, Index j) {
    if (i == j)
      rank_update_t(blas, 1.0, columns(i), 1.0, tile_of(C, i, i));
    else
      multiply_tn(blas, 1.0, columns(i), columns(j), 1.0, tile_of(C, i, j));
  });
}

void add_gram_of_rows(const Blas& blas, ConstBlock A, Block C, int n_threads) {
  auto rows = [&](Index i) {
    return ConstBlock(A.data + i * tile * A.stride, std::min(tile, A.rows - i * tile), A.columns, A.stride);
  };
  for_each_lower_tile(chunk_count(C.rows, tile), n_threads, [&](Index i, Index j) {
    if (i == j)
      rank_update(blas, 1.0, rows(i), 1.0, tile_of(C, i, i));
    else
      multiply_nt(blas, 1.0, rows(i), rows(j), 1.0, tile_of(C, i, j));
  });
}

Index cholesky(const Blas& blas, Block K, int n_threads) {
  const Index n_tiles = chunk_count(K.rows, tile);
  for (Index k = 0; k < n_tiles; ++k) {
    const Block diagonal = tile_of(K, k, k);
    const Index failed = factor_tile(blas, diagonal);
    if (failed >= 0) return k * tile + failed;
    const Index below = n_tiles - k - 1;
    parallel_for(below, n_threads,
                 [&](Index item, int) { solve_right(blas, true, diagonal, tile_of(K, k + 1 + item, k)); });
    for_each_lower_tile(below, n_threads, [&](Index row, Index column) {
      const Index i = k + 1 + row;
      const Index j = k + 1 + column;
      if (i == j)
        rank_update(blas, -1.0, tile_of(K, i, k), 1.0, tile_of(K, i, i));
      else
        multiply_nt(blas, -1.0, tile_of(K, i, k), tile_of(K, j, k), 1.0, tile_of(K, i, j));
    });
  }
  return -1;
}

void solve_lower(const Blas& blas, ConstBlock L, Block B, int n_threads) {
  solve_rows(blas, true, L, B, n_threads);
}

void solve_lower_transposed(const Blas& blas, ConstBlock L, Block B, int n_threads) {
  solve_rows(blas, false, L, B, n_threads);
}

}  // namespace gprann
