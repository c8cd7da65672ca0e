/// Covariances of energies and forces under the atoms kernel: the lower triangle of K, rows of the energies
/// alone, prediction from folded rows and the product with K that never exists, for molecules of 20 atoms
/// with the Chebyshev descriptor (36 numbers an atom).

#include <benchmark/benchmark.h>

#include "bench_counts.hpp"
#include "bench_peak.hpp"
#include "bench_systems.hpp"
#include "gprann/covariance.hpp"
#include "gprann/covariance_product.hpp"

namespace gprann::bench {
namespace {

constexpr Index n_species = molecule_species;
constexpr std::int64_t species_atoms[n_species] = {6, 8, 6};
constexpr Index directions = 3 * molecule_atoms;
constexpr double length = 20.0;

/// Descriptors of random molecules with their dense Jacobians. Atoms of a molecule are sorted by species
/// already.
struct Setup {
  Index n;
  Index size;
  Matrix features;
  std::vector<double> jacobians;
  std::vector<std::int64_t> first_row{0}, kind_rows, first_jacobian{0}, first_observation{0};

  explicit Setup(Index structures) : n(structures) {
    const System system = make_molecules(n, 6.5);
    const ChebyshevDescriptor descriptor = Shape{}.make();
    size = descriptor.size();
    features.resize(system.n_atoms(), size);
    descriptor.values(system.view(), 1, features.data());
    const Index block = molecule_atoms * size * directions;
    jacobians.resize(static_cast<std::size_t>(n * block));
    for (Index s = 0; s < n; ++s) {
      descriptor.jacobian(system.view(), s, false, jacobians.data() + s * block);
      std::int64_t row = s * molecule_atoms;
      kind_rows.push_back(row);
      for (const auto count : species_atoms) kind_rows.push_back(row += count);
      first_row.push_back(row);
      first_jacobian.push_back((s + 1) * block);
      first_observation.push_back((s + 1) * (directions + 1));
    }
  }

  FeatureSets sets() const {
    return {n,
            n_species,
            size,
            first_row.data(),
            kind_rows.data(),
            features.data(),
            first_jacobian.data(),
            jacobians.data(),
            first_observation.data()};
  }
  Index observations() const { return n * (directions + 1); }
  double bytes() const {
    return 8.0 * static_cast<double>(features.size() + static_cast<Index>(jacobians.size()));
  }
};

/// Pairs of atoms of the same species of two molecules.
double atom_pairs() {
  double count = 0;
  for (const auto k : species_atoms) count += static_cast<double>(k * k);
  return count;
}

void BM_covariance(benchmark::State& state) {
  const Setup setup(state.range(0));
  const auto n_threads = static_cast<int>(state.range(1));
  const Index N = setup.observations();
  Matrix K = Matrix::Zero(N, N);
  const auto D = static_cast<double>(setup.size);
  const double m = directions;
  const double pair = 2 * molecule_atoms * D * m * m  // J^T (weighted J')
                      + atom_pairs() * (2 * D * m     // J'^T d
                                        + 4 * D * m   // weighted J', rank-one terms
                                        + 11 * D);    // distances, energies with gradients
  const double pairs = static_cast<double>(setup.n * (setup.n + 1)) / 2;
  const Work work{pairs, pair * pairs, setup.bytes() + pairs * 8 * (m + 1) * (m + 1)};
  run(state, "pairs", work, n_threads, [&] {
    covariance(setup.sets(), setup.sets(), SquaredExponential{length}, blas(), true, n_threads,
               {K.data(), N, N, N});
    benchmark::DoNotOptimize(K.data());
  });
}

void BM_energy_covariance(benchmark::State& state) {
  const Setup training(state.range(0));
  const Setup queries(128);
  const auto n_threads = static_cast<int>(state.range(1));
  Matrix K = Matrix::Zero(queries.n, training.observations());
  const auto D = static_cast<double>(training.size);
  const double pair = 2 * molecule_atoms * D * directions + atom_pairs() * 7 * D;
  const auto energies = static_cast<double>(queries.n);
  const Work work{energies, energies * static_cast<double>(training.n) * pair,
                  training.bytes() + 8.0 * static_cast<double>(K.size())};
  run(state, "energies", work, n_threads, [&] {
    energy_covariance(queries.sets(), training.sets(), SquaredExponential{length}, blas(), n_threads,
                      {K.data(), K.rows(), K.cols(), K.cols()});
    benchmark::DoNotOptimize(K.data());
  });
}

/// Distances of all pairs of atoms of a molecule that are of the same species, 3 D each.
void BM_energy_variance(benchmark::State& state) {
  const Setup setup(state.range(0));
  Vector variance = Vector::Zero(setup.n);
  const auto structures = static_cast<double>(setup.n);
  const double bytes = 8.0 * static_cast<double>(setup.features.size());
  run(state, "structures",
      {structures, structures * atom_pairs() * 3 * static_cast<double>(setup.size), bytes}, 1, [&] {
        energy_variance(setup.sets(), SquaredExponential{length}, variance.data());
        benchmark::DoNotOptimize(variance.data());
      });
}

/// Rows of random structures, sorted by species, folded with random weights.
struct Folded {
  static constexpr Index size = 36;
  std::vector<std::int64_t> first{0};
  Matrix features, slope;
  Vector weight;

  explicit Folded(Index structures) {
    for (const auto count : species_atoms) first.push_back(first.back() + count * structures);
    features = Matrix::Random(first.back(), size);
    slope = Matrix::Random(first.back(), size);
    weight = Vector::Random(first.back());
  }

  FoldedRows rows() const {
    return {n_species, size, first.data(), features.data(), weight.data(), slope.data()};
  }
};

void BM_prediction(benchmark::State& state) {
  constexpr Index n_query = 128;
  const Folded training(state.range(0)), query(n_query);
  const auto n_threads = static_cast<int>(state.range(1));
  Vector energies = Vector::Zero(query.features.rows());
  Matrix slopes = Matrix::Zero(query.features.rows(), Folded::size);
  const double pairs = atom_pairs() * static_cast<double>(n_query * state.range(0));
  const double bytes = 8.0 * static_cast<double>(2 * (training.features.size() + query.features.size()));
  run(state, "structures", {n_query, pairs * (8 * Folded::size + 20), bytes}, n_threads, [&] {
    predict_rows(training.rows(), query.features.data(), query.first.data(), SquaredExponential{length},
                 blas(), n_threads, energies.data(), slopes.data());
    benchmark::DoNotOptimize(slopes.data());
  });
}

/// K x without K, what an iteration of conjugate gradients costs.
void BM_covariance_product(benchmark::State& state) {
  const Folded x(state.range(0));
  const auto n_threads = static_cast<int>(state.range(1));
  Vector energies = Vector::Zero(x.features.rows());
  Matrix slopes = Matrix::Zero(x.features.rows(), Folded::size);
  const auto structures = static_cast<double>(state.range(0));
  const double pairs = atom_pairs() * structures * structures / 2;
  const double bytes = 8.0 * static_cast<double>(4 * x.features.size());
  run(state, "pairs", {pairs, pairs * (14 * Folded::size + 20), bytes}, n_threads, [&] {
    covariance_product(x.rows(), SquaredExponential{length}, blas(), n_threads, energies.data(),
                       slopes.data());
    benchmark::DoNotOptimize(slopes.data());
  });
}

void structures_and_threads(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"structures", "threads"})
      ->ArgsProduct({{8, 32}, thread_counts()})
      ->Unit(benchmark::kMillisecond)
      ->UseRealTime();
}

BENCHMARK(BM_covariance)->Apply(structures_and_threads);
BENCHMARK(BM_energy_covariance)->Apply(structures_and_threads);
BENCHMARK(BM_energy_variance)->ArgName("structures")->Arg(32)->UseRealTime();
void large_sets_and_threads(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"structures", "threads"})
      ->ArgsProduct({{32, 250}, thread_counts()})
      ->Unit(benchmark::kMillisecond)
      ->UseRealTime();
}

BENCHMARK(BM_prediction)->Apply(large_sets_and_threads);
BENCHMARK(BM_covariance_product)->Apply(large_sets_and_threads);

}  // namespace
}  // namespace gprann::bench
