/// Cholesky factor of a covariance matrix and the triangular solutions with it.

#include <benchmark/benchmark.h>

#include "bench_peak.hpp"
#include "gprann/types.hpp"

namespace gprann::bench {
namespace {

/// Diagonally dominant, hence positive definite; filled at random below the diagonal, the only part that is
/// read.
Matrix make_matrix(Index n) {
  Matrix K = Matrix::Random(n, n);
  K.diagonal().setConstant(2.0 * static_cast<double>(n));
  return K;
}

void BM_cholesky(benchmark::State& state) {
  const Index n = state.range(0);
  const auto n_threads = static_cast<int>(state.range(1));
  const Matrix K = make_matrix(n);
  Matrix L = K;
  const auto N = static_cast<double>(n);
  auto factor = [&] {
    if (cholesky(blas(), {L.data(), n, n, n}, n_threads) >= 0) state.SkipWithError("not positive definite");
    benchmark::DoNotOptimize(L.data());
  };
  run(state, "rows", {N, N * N * N / 3, 8 * N * N}, n_threads, factor, [&] { L = K; });
}

template <void (*solve)(const Blas&, ConstBlock, Block, int)>
void BM_solve(benchmark::State& state) {
  const Index n = state.range(0);
  const Index n_rhs = state.range(1);
  const auto n_threads = static_cast<int>(state.range(2));
  Matrix L = make_matrix(n);
  const Matrix right = Matrix::Random(n_rhs, n);
  Matrix B = right;
  const auto N = static_cast<double>(n);
  const auto M = static_cast<double>(n_rhs);
  auto substitute = [&] {
    solve(blas(), {L.data(), n, n, n}, {B.data(), n_rhs, n, n}, n_threads);
    benchmark::DoNotOptimize(B.data());
  };
  run(state, "solutions", {M, N * N * M, 4 * N * N + 16 * N * M}, n_threads, substitute, [&] { B = right; });
}

void sizes_and_threads(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"rows", "threads"})
      ->ArgsProduct({{512, 1024, 2048, 3072}, thread_counts()})
      ->Unit(benchmark::kMillisecond)
      ->UseRealTime();
}
void right_sides(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"rows", "right_sides", "threads"})
      ->ArgsProduct({{2048}, {1, 512}, thread_counts()})
      ->Unit(benchmark::kMillisecond)
      ->UseRealTime();
}

BENCHMARK(BM_cholesky)->Apply(sizes_and_threads);
BENCHMARK_TEMPLATE(BM_solve, solve_lower)->Apply(right_sides);
BENCHMARK_TEMPLATE(BM_solve, solve_lower_transposed)->Apply(right_sides);

}  // namespace
}  // namespace gprann::bench
