#include <sstream>

#include "bench_peak.hpp"

/// As BENCHMARK_MAIN, with the peaks of this machine in the head of the report.
int main(int argc, char** argv) {
  using namespace gprann::bench;
  for (const auto n : thread_counts()) {
    std::ostringstream peaks;
    peaks.precision(3);
    peaks << peak_flops(static_cast<int>(n)) * 1e-9 << " Gflop/s, "
          << peak_bandwidth(static_cast<int>(n)) * 1e-9 << " GB/s";
    benchmark::AddCustomContext("peak of " + std::to_string(n) + (n == 1 ? " thread" : " threads"),
                                peaks.str());
  }
  benchmark::AddCustomContext("products", blas_name());
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
