/// Density descriptor: values, the two products with its Jacobian, and values with gradient together, against
/// the number of neighbours, of radial functions and of bodies.

#include <benchmark/benchmark.h>

#include "bench_peak.hpp"
#include "bench_systems.hpp"
#include "gprann/density.hpp"

namespace gprann::bench {
namespace {

constexpr Index n_species = 3;
constexpr int l_max = 4;
constexpr int l_four = 3;
constexpr int radial_order = 12;

enum class Product { values, jvp, vjp, values_and_vjp };

/// Multiplications and additions, read off the loops of density_expansion.cpp and density_invariants.cpp.
struct DensityFlops {
  double survey = 0, values = 0, jvp = 0, vjp = 0;

  DensityFlops(double atoms, double neighbours, int n_max, int n_four) {
    add_sweep(neighbours, radial_order + 1, 0);
    if (n_max > 0) add_sweep(neighbours, n_max, l_max);
    if (n_four > 0) add_sweep(neighbours, n_four, l_four);
    add_power_spectrum(n_max);
    add_four_body(n_four);
    for (double* part : {&survey, &values, &jvp, &vjp}) *part *= atoms;
  }

 private:
  void add_sweep(double neighbours, double n_max, double L) {
    const double m = (L + 1) * (L + 1);
    const double harmonics = 1.5 * (L + 1) * (L + 2) + 6 * L + m;
    const double gather = 10 + 45 + 25;  // unit vector, cutoff function, exponential coordinate
    survey += neighbours * (gather + harmonics + n_max * (2 + 2 * m));
    jvp += neighbours * (19 + harmonics + 10 * m + n_max * (7 + 4 * m));
    vjp += neighbours * (54 + harmonics + 12 * m + n_max * (7 + 4 * m));
  }
  void add_power_spectrum(double n_max) {
    const double Q = n_species * n_max;
    const double m = (l_max + 1) * (l_max + 1);
    values += Q * Q * m;  // 2 for each of Q (Q + 1) / 2 pairs and m
    jvp += 2 * Q * Q * m;
    vjp += 2 * Q * Q * m;
  }
  void add_four_body(double n_four) {
    const double Q = n_species * n_four;
    const double coefficients[] = {11, 17, 45, 49};  // Gaunt coefficients of (112), (222), (123), (233)
    const double width[] = {5, 5, 7, 7};
    for (int k = 0; k < 4 && n_four > 0; ++k) {
      const double fold = 2 * coefficients[k] * Q * Q;
      const double close = 2 * width[k] * Q * Q * Q;
      values += fold + close;
      jvp += 3 * fold + 2 * close;
      vjp += 3 * fold + 2 * close;
    }
  }
};

struct Setup {
  System system;
  DensityDescriptor descriptor;
  Matrix direction, cotangent, out, virials;

  Setup(double neighbours, int n_max, int n_four)
      : system(make_crystal(1000, cutoff_for(neighbours), n_species)),
        descriptor({radial_order + 1, 0, cutoff_for(neighbours)}, {n_max, l_max, cutoff_for(neighbours)},
                   {n_four, l_four, cutoff_for(neighbours)}, 3.0, Matrix::Identity(n_species, n_species)),
        direction(Matrix::Random(system.n_atoms(), 3)),
        cotangent(Matrix::Random(system.n_atoms(), descriptor.size())),
        out(Matrix::Zero(system.n_atoms(), descriptor.size())),
        virials(Matrix::Zero(1, 9)) {}

  /// As training does it: what the neighbours give is found once for both.
  void values_and_vjp() {
    const Neighbours batch = system.view();
    const auto found = descriptor.make_surroundings();
    direction.setZero();
    for (Index i = 0; i < batch.n_atoms; ++i) {
      descriptor.survey(batch, 0, i, i + 1, *found);
      descriptor.values(*found, out.data() + i * descriptor.size());
      descriptor.add_vjp(batch, *found, cotangent.data() + i * descriptor.size(), direction.data(),
                         virials.data());
    }
  }

  void apply(Product product) {
    const Neighbours batch = system.view();
    if (product == Product::values) descriptor.values(batch, 1, out.data());
    if (product == Product::jvp) descriptor.jvp(batch, direction.data(), nullptr, 1, out.data());
    if (product == Product::vjp) descriptor.vjp(batch, cotangent.data(), 1, direction.data(), virials.data());
    if (product == Product::values_and_vjp) values_and_vjp();
  }
};

template <Product product>
void BM_density(benchmark::State& state) {
  const auto n_max = static_cast<int>(state.range(1)), n_four = static_cast<int>(state.range(2));
  Setup setup(static_cast<double>(state.range(0)), n_max, n_four);
  const auto atoms = static_cast<double>(setup.system.n_atoms());
  const DensityFlops flops(atoms, setup.system.neighbours_per_atom(), n_max, n_four);
  double count = flops.survey;
  if (product == Product::values || product == Product::values_and_vjp) count += flops.values;
  if (product == Product::jvp) count += flops.jvp;
  if (product == Product::vjp || product == Product::values_and_vjp) count += flops.vjp;
  const double numbers = static_cast<double>(setup.descriptor.size()) + 3;
  run(state, "atoms", {atoms, count, setup.system.bytes() + 8 * numbers * atoms}, 1, [&] {
    setup.apply(product);
    benchmark::DoNotOptimize(setup.out.data());
    benchmark::DoNotOptimize(setup.direction.data());
  });
  state.counters["neighbours"] = setup.system.neighbours_per_atom();
  state.counters["components"] = static_cast<double>(setup.descriptor.size());
}

void shapes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"neighbours", "n_max", "four_body"})
      ->Args({48, 4, 0})
      ->Args({48, 4, 1})
      ->Args({48, 4, 2})
      ->Args({48, 6, 0})
      ->Args({48, 6, 1})
      ->Args({100, 4, 0})
      ->Args({100, 6, 1})
      ->UseRealTime();
}

BENCHMARK_TEMPLATE(BM_density, Product::values)->Apply(shapes);
BENCHMARK_TEMPLATE(BM_density, Product::jvp)->Apply(shapes);
BENCHMARK_TEMPLATE(BM_density, Product::vjp)->Apply(shapes);
BENCHMARK_TEMPLATE(BM_density, Product::values_and_vjp)->Apply(shapes);

}  // namespace
}  // namespace gprann::bench
