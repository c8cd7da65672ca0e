#pragma once

#include <benchmark/benchmark.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "gprann/blas.hpp"

namespace gprann::bench {

/// The BLAS of the large products: Eigen, or the system's if built with GPRANN_BENCH_BLAS.
const Blas& blas();
const char* blas_name();

/// What this machine can do with `n_threads`, measured once in the same run: flop/s of square matrix products
/// with `blas()`, and bytes/s of reading two arrays and writing a third, all larger than the caches (of a
/// core).
double peak_flops(int n_threads);
double peak_bandwidth(int n_threads);

/// 1, 2, 4, ... up to the number of processors.
std::vector<std::int64_t> thread_counts();

/// Operations of one call of a kernel, counted from its loops; bytes that it must read and write at least.
struct Work {
  double items = 0.0;
  double flops = 0.0;
  double bytes = 0.0;
};

/// The loop of a benchmark: times `call`, with `prepare` before each call off the clock.
///
/// Counters: <items>/s, flop/s and bytes/s; `of_gemm` and `of_memory`, the same as fractions of the peaks;
/// `busy`, the part of the time in which each thread had a processor: less than 1 for what only one thread
/// does, or if something else runs on the machine;
/// `extra_MB`, by how much the resident memory rises during a call above what stands before it (Linux alone).
void run(benchmark::State& state, const char* items, const Work& work, int n_threads,
         const std::function<void()>& call, const std::function<void()>& prepare = {});

}  // namespace gprann::bench
