#include "bench_peak.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <ctime>
#include <fstream>
#include <map>
#include <string>
#include <thread>

#include "gprann/parallel.hpp"
#include "gprann/types.hpp"

#if defined(__GLIBC__)
#include <malloc.h>
#endif

#if defined(GPRANN_BENCH_BLAS)
extern "C" {
void dgemm_(char*, char*, int*, int*, int*, double*, double*, int*, double*, int*, double*, double*, int*);
void dsyrk_(char*, char*, int*, int*, double*, double*, int*, double*, double*, int*);
void dtrsm_(char*, char*, char*, char*, int*, int*, double*, double*, int*, double*, int*);
void dpotrf_(char*, int*, double*, int*, int*);
#if defined(__GNUC__)
void openblas_set_num_threads(int) __attribute__((weak));
#endif
}
#endif

namespace gprann::bench {

namespace {

using Clock = std::chrono::steady_clock;

Blas make_blas() {
#if defined(GPRANN_BENCH_BLAS)
#if defined(__GNUC__)
  if (openblas_set_num_threads != nullptr)
    openblas_set_num_threads(1);  // the core calls it from its own threads
#endif
  return {dgemm_, dsyrk_, dtrsm_, dpotrf_};
#else
  return {};
#endif
}

/// Processor time of this process, all threads together, s.
double processor_time() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

double since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

/// Shortest processor time of each of `n_threads` in a few calls, s: what else runs on the machine does not
/// count. The first call warms up the caches and the clock of the processor.
double shortest(int n_threads, const std::function<void()>& call) {
  call();
  double best = 1e9;
  for (int repeat = 0; repeat < 5; ++repeat) {
    const double start = processor_time();
    call();
    best = std::min(best, (processor_time() - start) / n_threads);
  }
  return best;
}

double measure_flops(int n_threads) {
  constexpr Index n = 512;
  struct Operands {
    Matrix A = Matrix::Constant(n, n, 0.5), B = Matrix::Constant(n, n, 0.25), C = Matrix::Zero(n, n);
  };
  std::vector<Operands> own(static_cast<std::size_t>(n_threads));
  const double seconds = shortest(n_threads, [&] {
    parallel_for(n_threads, n_threads, [&](Index item, int) {
      Operands& o = own[static_cast<std::size_t>(item)];
      for (int repeat = 0; repeat < 2; ++repeat)
        multiply(blas(), 1.0, {o.A.data(), n, n, n}, {o.B.data(), n, n, n}, 0.0, {o.C.data(), n, n, n});
    });
  });
  return n_threads * 2 * 2.0 * n * n * n / seconds;
}

double measure_bandwidth(int n_threads) {
  constexpr Index n = Index{1} << 23;  // three arrays of 67 MB
  Vector a = Vector::Ones(n), b = Vector::Ones(n), c = Vector::Zero(n);
  const double seconds = shortest(n_threads, [&] {
    parallel_for(n_threads, n_threads, [&](Index item, int) {
      const Index begin = n * item / n_threads;
      const Index count = n * (item + 1) / n_threads - begin;
      c.segment(begin, count) = a.segment(begin, count) + 0.5 * b.segment(begin, count);
    });
  });
  return 3.0 * sizeof(double) * n / seconds;
}

double cached(std::map<int, double>& known, int n_threads, double (*measure)(int)) {
  const auto found = known.find(n_threads);
  return found != known.end() ? found->second : known.emplace(n_threads, measure(n_threads)).first->second;
}

#if defined(__GLIBC__)
/// A number of kB from /proc/self/status, or -1.
double status_kb(const std::string& key) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);)
    if (line.compare(0, key.size(), key) == 0) return std::stod(line.substr(key.size()));
  return -1.0;
}

/// Rise of the resident memory during a call, MB, or -1. What the allocator kept from before is given back
/// first.
double memory_rise(const std::function<void()>& call) {
  malloc_trim(0);
  std::ofstream("/proc/self/clear_refs") << "5";  // the peak counts from here
  const double before = status_kb("VmRSS:");
  call();
  const double peak = status_kb("VmHWM:");
  return before > 0 && peak >= before ? std::round((peak - before) / 1.024) / 1000 : -1.0;
}
#else
double memory_rise(const std::function<void()>& call) {
  call();
  return -1.0;
}
#endif

}  // namespace

const Blas& blas() {
  static const Blas chosen = make_blas();
  return chosen;
}

const char* blas_name() { return blas().gemm != nullptr ? "BLAS of the system" : "Eigen"; }

double peak_flops(int n_threads) {
  static std::map<int, double> known;
  return cached(known, n_threads, measure_flops);
}

double peak_bandwidth(int n_threads) {
  static std::map<int, double> known;
  return cached(known, n_threads, measure_bandwidth);
}

std::vector<std::int64_t> thread_counts() {
  std::vector<std::int64_t> counts;
  for (std::int64_t n = 1; n <= std::max(1u, std::thread::hardware_concurrency()); n *= 2)
    counts.push_back(n);
  return counts;
}

void run(benchmark::State& state, const char* items, const Work& work, int n_threads,
         const std::function<void()>& call, const std::function<void()>& prepare) {
  using benchmark::Counter;
  const double memory = memory_rise(call);
  double seconds = 0.0;
  double processor = 0.0;
  for (auto _ : state) {
    if (prepare) {
      state.PauseTiming();
      prepare();
      state.ResumeTiming();
    }
    const double begin = processor_time();
    const auto start = Clock::now();
    call();
    benchmark::ClobberMemory();
    seconds += since(start);
    processor += processor_time() - begin;
  }
  const auto calls = static_cast<double>(state.iterations());
  state.counters[std::string(items) + "/s"] = calls * work.items / seconds;
  state.counters["flop/s"] = calls * work.flops / seconds;
  state.counters["bytes/s"] = calls * work.bytes / seconds;
  state.counters["of_gemm"] = calls * work.flops / seconds / peak_flops(n_threads);
  state.counters["of_memory"] = calls * work.bytes / seconds / peak_bandwidth(n_threads);
  state.counters["busy"] = processor / (seconds * n_threads);
  if (memory >= 0) state.counters["extra_MB"] = memory;
}

}  // namespace gprann::bench
