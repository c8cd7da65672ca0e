/// Chebyshev descriptor: values, the two products with its Jacobian, and the dense Jacobian, against the
/// number of neighbours, the angular order and the threads.

#include <benchmark/benchmark.h>

#include "bench_peak.hpp"
#include "bench_systems.hpp"

namespace gprann::bench {
namespace {

constexpr int radial_order = 12;
constexpr double angular_share = 4.0 / 6.5;  // of the radial cutoff, as in the usual settings 6.5 Å and 4.0 Å
constexpr Index n_species = 3;
constexpr Index n_channels = 2;

enum class Product { values, jvp, vjp };

Matrix channel_weights() {
  Matrix weights(n_channels, n_species);
  weights << 1, 1, 1, -1, 0, 1;
  return weights;
}

struct Setup {
  System system;
  ChebyshevDescriptor descriptor;
  Index n_angular = 0;  // pairs within the angular cutoff
  Matrix direction, cotangent, out;

  Setup(System made, double cutoff, int angular_order)
      : system(std::move(made)),
        descriptor(radial_order, cutoff, angular_order, angular_share * cutoff, channel_weights()),
        direction(Matrix::Random(system.n_atoms(), 3)),
        cotangent(Matrix::Random(system.n_atoms(), descriptor.size())),
        out(Matrix::Zero(system.n_atoms(), descriptor.size())) {
    const Eigen::Map<const Matrix> vectors(system.vectors.data(), system.n_pairs(), 3);
    const double limit = angular_share * cutoff * angular_share * cutoff;
    if (angular_order >= 0) n_angular = (vectors.rowwise().squaredNorm().array() < limit).count();
  }

  void apply(Product product, int n_threads) {
    const Neighbours batch = system.view();
    if (product == Product::values) descriptor.values(batch, n_threads, out.data());
    if (product == Product::jvp) descriptor.jvp(batch, direction.data(), n_threads, out.data());
    if (product == Product::vjp)
      descriptor.vjp(batch, cotangent.data(), n_threads, direction.data(), nullptr);
  }
};

/// Multiplications and additions of one neighbour, read off the loops of chebyshev.cpp and harmonics.cpp.
Work work_of(Product product, const Setup& setup, int angular_order) {
  const double L = angular_order;
  const double m = (L + 1) * (L + 1);
  const double cutoff = 45;
  const double harmonics = 1.5 * (L + 1) * (L + 2) + 6 * L + m;
  const double gradients = harmonics + 4 * m;
  double radial = cutoff + n_channels * 4 * radial_order;
  double angular = cutoff + harmonics + n_channels * (2 * m + 3);  // the moments, which every product needs
  if (product == Product::jvp) {
    radial = cutoff + n_channels * 11 * radial_order;
    angular += gradients + 7 * m + n_channels * (2 * m + 5);
  }
  if (product == Product::vjp) {
    radial = cutoff + n_channels * 11 * radial_order;
    angular += gradients + n_channels * (8 * m + 10);
  }
  const auto atoms = static_cast<double>(setup.system.n_atoms());
  const double arrays = product == Product::values ? static_cast<double>(setup.descriptor.size())
                                                   : static_cast<double>(setup.descriptor.size()) + 3;
  return {
      atoms,
      radial * static_cast<double>(setup.system.n_pairs()) + angular * static_cast<double>(setup.n_angular),
      setup.system.bytes() + 8 * arrays * atoms};
}

void run_product(benchmark::State& state, Product product, Setup& setup, int angular_order, int n_threads) {
  run(state, "atoms", work_of(product, setup, angular_order), n_threads, [&] {
    setup.apply(product, n_threads);
    benchmark::DoNotOptimize(setup.out.data());
    benchmark::DoNotOptimize(setup.direction.data());
  });
}

template <Product product>
void BM_crystal(benchmark::State& state) {
  const double cutoff = cutoff_for(static_cast<double>(state.range(0)));
  Setup setup(make_crystal(1000, cutoff, n_species), cutoff, 4);
  run_product(state, product, setup, 4, static_cast<int>(state.range(1)));
}

template <Product product>
void BM_angular_order(benchmark::State& state) {
  const double cutoff = cutoff_for(100);
  const auto order = static_cast<int>(state.range(0));
  Setup setup(make_crystal(1000, cutoff, n_species), cutoff, order);
  run_product(state, product, setup, order, 1);
}

template <Product product>
void BM_molecules(benchmark::State& state) {
  Setup setup(make_molecules(state.range(0), 6.5), 6.5, 4);
  run_product(state, product, setup, 4, static_cast<int>(state.range(1)));
}

void BM_jacobian(benchmark::State& state) {
  Setup setup(make_molecules(1, 6.5), 6.5, 4);
  const Index n = molecule_atoms;
  Matrix J = Matrix::Zero(n * setup.descriptor.size(), 3 * n);
  Work work = work_of(Product::vjp, setup, 4);
  work.bytes = setup.system.bytes() + 8.0 * static_cast<double>(J.size());
  work.flops =
      6.0 * static_cast<double>(setup.system.n_pairs() * setup.descriptor.size());  // the scatter alone
  run(state, "atoms", work, 1, [&] {
    setup.descriptor.jacobian(setup.system.view(), 0, J.data());
    benchmark::DoNotOptimize(J.data());
  });
}

void neighbours_and_threads(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"neighbours", "threads"})->ArgsProduct({{30, 100, 300}, thread_counts()})->UseRealTime();
}
void orders(benchmark::internal::Benchmark* bench) {
  bench->ArgName("order")->Arg(-1)->Arg(0)->Arg(4)->Arg(8)->Arg(12)->UseRealTime();
}
void molecules_and_threads(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"structures", "threads"})->ArgsProduct({{1, 256}, thread_counts()})->UseRealTime();
}

BENCHMARK_TEMPLATE(BM_crystal, Product::values)->Apply(neighbours_and_threads);
BENCHMARK_TEMPLATE(BM_crystal, Product::jvp)->Apply(neighbours_and_threads);
BENCHMARK_TEMPLATE(BM_crystal, Product::vjp)->Apply(neighbours_and_threads);
BENCHMARK_TEMPLATE(BM_angular_order, Product::values)->Apply(orders);
BENCHMARK_TEMPLATE(BM_angular_order, Product::vjp)->Apply(orders);
BENCHMARK_TEMPLATE(BM_molecules, Product::values)->Apply(molecules_and_threads);
BENCHMARK_TEMPLATE(BM_molecules, Product::vjp)->Apply(molecules_and_threads);
BENCHMARK(BM_jacobian)->UseRealTime();

}  // namespace
}  // namespace gprann::bench
