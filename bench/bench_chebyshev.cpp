/// Chebyshev descriptor: values, the two products with its Jacobian, and the dense Jacobian, against the
/// number of neighbours, the angular order and the threads.

#include <benchmark/benchmark.h>

#include "bench_counts.hpp"
#include "bench_peak.hpp"

namespace gprann::bench {
namespace {

constexpr double angular_share = 4.0 / 6.5;  // of the radial cutoff, as in the usual settings 6.5 Å and 4.0 Å
constexpr Index n_species = 3;

enum class Product { values, jvp, vjp };

struct Setup {
  System system;
  Shape shape;
  ChebyshevDescriptor descriptor;
  Matrix direction, cotangent, out, virials;

  Setup(System made, const Shape& settings)
      : system(std::move(made)),
        shape(settings),
        descriptor(shape.make()),
        direction(Matrix::Random(system.n_atoms(), 3)),
        cotangent(Matrix::Random(system.n_atoms(), descriptor.size())),
        out(Matrix::Zero(system.n_atoms(), descriptor.size())),
        virials(Matrix::Zero(system.view().n_structures, 9)) {}

  void apply(Product product, int n_threads) {
    const Neighbours batch = system.view();
    if (product == Product::values) descriptor.values(batch, n_threads, out.data());
    if (product == Product::jvp) descriptor.jvp(batch, direction.data(), nullptr, n_threads, out.data());
    if (product == Product::vjp)
      descriptor.vjp(batch, cotangent.data(), n_threads, direction.data(), virials.data());
  }
};

Work work_of(Product product, const Setup& setup) {
  const DescriptorFlops flops(setup.system, setup.shape);
  const double sweep = product == Product::values ? flops.values
                       : product == Product::jvp  ? flops.jvp
                                                  : flops.vjp;
  const auto atoms = static_cast<double>(setup.system.n_atoms());
  const double numbers = static_cast<double>(setup.descriptor.size()) + (product == Product::values ? 0 : 3);
  return {atoms, flops.survey + sweep, setup.system.bytes() + 8 * numbers * atoms};
}

void run_product(benchmark::State& state, Product product, Setup& setup, int n_threads) {
  run(state, "atoms", work_of(product, setup), n_threads, [&] {
    setup.apply(product, n_threads);
    benchmark::DoNotOptimize(setup.out.data());
    benchmark::DoNotOptimize(setup.direction.data());
  });
  state.counters["neighbours"] = setup.system.neighbours_per_atom();
}

Shape scaled_shape(double cutoff, int angular_order) {
  return {cutoff, n_species, angular_share * cutoff, angular_order};
}

template <Product product>
void BM_crystal(benchmark::State& state) {
  const double cutoff = cutoff_for(static_cast<double>(state.range(0)));
  Setup setup(make_crystal(1000, cutoff, n_species), scaled_shape(cutoff, 4));
  run_product(state, product, setup, static_cast<int>(state.range(1)));
}

template <Product product>
void BM_angular_order(benchmark::State& state) {
  const double cutoff = cutoff_for(100);
  const auto order = static_cast<int>(state.range(0));
  Setup setup(make_crystal(1000, cutoff, n_species), scaled_shape(cutoff, order));
  run_product(state, product, setup, 1);
}

template <Product product>
void BM_molecules(benchmark::State& state) {
  Setup setup(make_molecules(state.range(0), 6.5), {});
  run_product(state, product, setup, static_cast<int>(state.range(1)));
}

void BM_jacobian(benchmark::State& state) {
  const Setup setup(make_molecules(1, 6.5), {});
  const Index n = molecule_atoms;
  Matrix J = Matrix::Zero(n * setup.descriptor.size(), 3 * n);
  const DescriptorFlops flops(setup.system, setup.shape);
  const Work work{static_cast<double>(n), flops.survey + flops.jacobian,
                  setup.system.bytes() + 8.0 * static_cast<double>(J.size())};
  run(state, "atoms", work, 1, [&] {
    setup.descriptor.jacobian(setup.system.view(), 0, false, J.data());
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
BENCHMARK_TEMPLATE(BM_molecules, Product::jvp)->Apply(molecules_and_threads);
BENCHMARK_TEMPLATE(BM_molecules, Product::vjp)->Apply(molecules_and_threads);
BENCHMARK(BM_jacobian)->UseRealTime();

}  // namespace
}  // namespace gprann::bench
