/// Networks: energies, slopes, the gradient of the loss, rows of the Jacobian and the normal equations,
/// 36-10-10-1 tanh for three species on molecules of 20 atoms; and what the activation costs and how exact it
/// is.

#include <benchmark/benchmark.h>

#include <cmath>
#include <numeric>

#include "bench_counts.hpp"
#include "bench_peak.hpp"
#include "gprann/network.hpp"

namespace gprann::bench {
namespace {

const std::vector<Index> sizes{36, 10, 10, 1};
const NetworkFlops count(sizes);
constexpr Index n_species = molecule_species;
constexpr Index species_atoms[n_species] = {6, 8, 6};

struct Setup {
  Index n;
  Network network{sizes, Activation::tanh, n_species};
  Matrix features;
  std::vector<std::int64_t> rows, everything;
  Vector parameters, targets, weights;

  explicit Setup(Index structures)
      : n(structures),
        features(Matrix::Random(structures * molecule_atoms, sizes.front())),
        everything(static_cast<std::size_t>(structures)),
        parameters(0.5 * Vector::Random(network.n_parameters())),
        targets(Vector::Random(structures)),
        weights(Vector::Ones(structures)) {
    std::int64_t row = 0;
    for (const Index own : species_atoms) {
      for (Index s = 0; s <= n; ++s) rows.push_back(row + s * own);
      row += n * own;
    }
    std::iota(everything.begin(), everything.end(), 0);
  }

  AtomFeatures atoms() const { return {n, sizes.front(), features.data(), rows.data()}; }
  double n_atoms() const { return static_cast<double>(n * molecule_atoms); }
  double feature_bytes() const { return 8.0 * n_atoms() * static_cast<double>(sizes.front()); }
};

void BM_energies(benchmark::State& state) {
  const Setup setup(state.range(0));
  const auto n_threads = static_cast<int>(state.range(1));
  Vector energies = Vector::Zero(setup.n);
  const Work work{setup.n_atoms(), 2 * count.weights * setup.n_atoms(), setup.feature_bytes()};
  run(state, "atoms", work, n_threads, [&] {
    setup.network.energies(setup.parameters.data(), setup.atoms(), n_threads, energies.data());
    benchmark::DoNotOptimize(energies.data());
  });
}

void BM_slopes(benchmark::State& state) {
  const Setup setup(state.range(0));
  const auto n_threads = static_cast<int>(state.range(1));
  Vector energies = Vector::Zero(setup.features.rows());
  Matrix slopes = Matrix::Zero(setup.features.rows(), setup.features.cols());
  const Work work{setup.n_atoms(), count.slopes() * setup.n_atoms(), 2 * setup.feature_bytes()};
  run(state, "atoms", work, n_threads, [&] {
    setup.network.atoms(setup.parameters.data(), setup.atoms(), n_threads, energies.data(), slopes.data());
    benchmark::DoNotOptimize(slopes.data());
  });
}

/// Forward, backward to the first hidden layer, and the gradients of the weights.
double gradient_flops(const Setup& setup) { return (6 * count.weights - 2 * count.first) * setup.n_atoms(); }

void BM_loss_gradient(benchmark::State& state) {
  const Setup setup(state.range(0));
  const auto n_threads = static_cast<int>(state.range(1));
  Vector gradient = Vector::Zero(setup.network.n_parameters());
  const Work work{setup.n_atoms(), gradient_flops(setup), setup.feature_bytes()};
  run(state, "atoms", work, n_threads, [&] {
    benchmark::DoNotOptimize(setup.network.energy_loss(setup.parameters.data(), setup.atoms(),
                                                       setup.everything.data(), setup.n, setup.targets.data(),
                                                       setup.weights.data(), n_threads, gradient.data()));
    benchmark::DoNotOptimize(gradient.data());
  });
}

void BM_energy_rows(benchmark::State& state) {
  const Setup setup(state.range(0));
  Vector energies = Vector::Zero(setup.n);
  Matrix rows = Matrix::Zero(setup.n, setup.network.n_parameters());
  const double bytes = setup.feature_bytes() + 8.0 * static_cast<double>(rows.size());
  run(state, "atoms", {setup.n_atoms(), gradient_flops(setup), bytes}, 1, [&] {
    setup.network.energy_rows(setup.parameters.data(), setup.atoms(), 0, setup.n, energies.data(),
                              rows.data());
    benchmark::DoNotOptimize(rows.data());
  });
}

void BM_normal_equations(benchmark::State& state) {
  const Setup setup(state.range(0));
  const auto n_threads = static_cast<int>(state.range(1));
  const Index P = setup.network.n_parameters();
  Matrix H = Matrix::Zero(P, P);
  Vector b = Vector::Zero(P);
  const double triangle = static_cast<double>(P) * static_cast<double>(P + 1);
  const auto structures = static_cast<double>(setup.n);
  const Work work{structures, structures * triangle + gradient_flops(setup),
                  setup.feature_bytes() + 4 * triangle};
  run(state, "structures", work, n_threads, [&] {
    benchmark::DoNotOptimize(setup.network.normal_equations(setup.parameters.data(), setup.atoms(),
                                                            setup.targets.data(), setup.weights.data(),
                                                            blas(), n_threads, H.data(), b.data()));
    benchmark::DoNotOptimize(H.data());
  });
}

template <Activation kind>
void BM_activation(benchmark::State& state) {
  using Array = Eigen::Array<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const Array input = 8.0 * Array::Random(256, 10);
  Array z(input), slope(input.rows(), input.cols());
  const auto numbers = static_cast<double>(input.size());
  run(state, "numbers", {numbers, 0, 24 * numbers}, 1, [&] {
    z = input;
    activate(kind, z, slope);
    benchmark::DoNotOptimize(z.data());
    benchmark::DoNotOptimize(slope.data());
  });
  if (kind != Activation::tanh) return;
  double error = 0.0;
  for (Index i = 0; i < input.size(); ++i)
    error = std::max(error, std::abs(z.data()[i] - std::tanh(input.data()[i])));
  state.counters["max_error"] = error;
}

void structures_and_threads(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"structures", "threads"})->ArgsProduct({{32, 256, 9000}, thread_counts()})->UseRealTime();
}

BENCHMARK(BM_energies)->Apply(structures_and_threads);
BENCHMARK(BM_slopes)->Apply(structures_and_threads);
BENCHMARK(BM_loss_gradient)->Apply(structures_and_threads);
BENCHMARK(BM_energy_rows)->ArgName("structures")->Arg(32)->Arg(1024)->UseRealTime();
BENCHMARK(BM_normal_equations)
    ->ArgNames({"structures", "threads"})
    ->ArgsProduct({{1024, 4096}, thread_counts()})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK_TEMPLATE(BM_activation, Activation::tanh)->UseRealTime();
BENCHMARK_TEMPLATE(BM_activation, Activation::softplus)->UseRealTime();
BENCHMARK_TEMPLATE(BM_activation, Activation::silu)->UseRealTime();
BENCHMARK_TEMPLATE(BM_activation, Activation::twist)->UseRealTime();

}  // namespace
}  // namespace gprann::bench
