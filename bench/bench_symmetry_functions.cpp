/// The symmetry functions: values, and the two products with their Jacobian, against the number of neighbours
/// and the kind of the angular functions.

#include <benchmark/benchmark.h>

#include "bench_peak.hpp"
#include "bench_systems.hpp"
#include "gprann/symmetry.hpp"

namespace gprann::bench {
namespace {

enum class Product { values, jvp, vjp };

constexpr Index n_radial = 8, n_widths = 2, n_powers = 2;
constexpr int narrow = 3, wide = 9;

/// Eight radial functions and eight angular ones: two widths, powers 1 and 4, both signs.
Matrix make_functions(int kind, double cutoff) {
  Matrix rows(n_radial + 2 * n_widths * n_powers, SymmetryFunctionDescriptor::n_columns);
  Index row = 0;
  for (Index k = 0; k < n_radial; ++k)
    rows.row(row++) << 0, 2, 0, 0, 1.0, 0.5 * static_cast<double>(k), 0, 1, cutoff;
  for (const double eta : {0.02, 0.1})
    for (const double zeta : {1.0, 4.0})
      for (const double sign : {-1.0, 1.0}) rows.row(row++) << 0, kind, 0, 0, eta, 0, sign, zeta, cutoff;
  return rows;
}

/// Multiplications and additions, read off the loops of symmetry_products.cpp; roots and quotients count as
/// one, exponentials and cosines as 20. Triangles beyond the cutoff of the third side are computed, too.
double flops(Product product, const System& system, int kind) {
  double triangles = 0;
  for (Index i = 0; i < system.n_atoms(); ++i) {
    const auto n = static_cast<double>(system.first_pair[static_cast<std::size_t>(i) + 1] -
                                       system.first_pair[static_cast<std::size_t>(i)]);
    triangles += n * (n - 1) / 2;
  }
  const bool slopes = product != Product::values;
  const double radial = n_radial * (24 + (slopes ? 12 : 0));
  const double survey = 40;  // unit vector and cutoff function of a neighbour
  const double geometry = (kind == narrow ? 55 : 8) + (slopes ? 45 : 0);
  const double angular = 2 * n_widths * n_powers * (9.0 + (slopes ? 20 : 0)) + n_widths * 25;
  return static_cast<double>(system.n_pairs()) * (survey + radial) + triangles * (geometry + angular);
}

template <Product product, int kind>
void BM_crystal(benchmark::State& state) {
  const double cutoff = cutoff_for(static_cast<double>(state.range(0)));
  const System system = make_crystal(500, cutoff, 1);
  const SymmetryFunctionDescriptor descriptor(1, make_functions(kind, cutoff), 1, 0.0);
  const Matrix cotangent = Matrix::Random(system.n_atoms(), descriptor.size());
  Matrix direction = Matrix::Random(system.n_atoms(), 3);
  Matrix out = Matrix::Zero(system.n_atoms(), descriptor.size()), virials = Matrix::Zero(1, 9);
  const auto atoms = static_cast<double>(system.n_atoms());
  const double numbers = static_cast<double>(descriptor.size()) + (product == Product::values ? 0 : 3);
  const Work work{atoms, flops(product, system, kind), system.bytes() + 8 * numbers * atoms};
  run(state, "atoms", work, 1, [&] {
    const Neighbours batch = system.view();
    if (product == Product::values) descriptor.values(batch, 1, out.data());
    if (product == Product::jvp) descriptor.jvp(batch, direction.data(), nullptr, 1, out.data());
    if (product == Product::vjp) descriptor.vjp(batch, cotangent.data(), 1, direction.data(), virials.data());
    benchmark::DoNotOptimize(out.data());
    benchmark::DoNotOptimize(direction.data());
  });
  state.counters["neighbours"] = system.neighbours_per_atom();
}

void neighbours(benchmark::internal::Benchmark* bench) {
  bench->ArgName("neighbours")->Arg(15)->Arg(30)->Arg(100)->UseRealTime();
}

BENCHMARK_TEMPLATE(BM_crystal, Product::values, narrow)->Apply(neighbours);
BENCHMARK_TEMPLATE(BM_crystal, Product::jvp, narrow)->Apply(neighbours);
BENCHMARK_TEMPLATE(BM_crystal, Product::vjp, narrow)->Apply(neighbours);
BENCHMARK_TEMPLATE(BM_crystal, Product::values, wide)->Apply(neighbours);
BENCHMARK_TEMPLATE(BM_crystal, Product::jvp, wide)->Apply(neighbours);
BENCHMARK_TEMPLATE(BM_crystal, Product::vjp, wide)->Apply(neighbours);

}  // namespace
}  // namespace gprann::bench
