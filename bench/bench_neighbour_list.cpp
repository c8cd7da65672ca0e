/// Neighbour lists of many small structures, counted and filled, against the atoms of a structure, the
/// cutoff, periods and threads; and the pair fingerprints made from them.

#include <benchmark/benchmark.h>

#include "bench_counts.hpp"
#include "bench_peak.hpp"
#include "gprann/neighbour_list.hpp"
#include "gprann/pair_distances.hpp"

namespace gprann::bench {
namespace {

/// Images that are tried: along a periodic direction all whole numbers in an interval of twice the reach.
double trials(const System& system, double cutoff) {
  double total = 0;
  for (Index s = 0; s < system.n_structures(); ++s) {
    const auto k = static_cast<std::size_t>(s);
    const auto n = static_cast<double>(system.first_atom[k + 1] - system.first_atom[k]);
    double images = 1;
    for (std::size_t d = 0; d < 3; ++d)
      if (system.periodic[3 * k + d] != 0) images *= 2.0 * cutoff / system.cells[9 * k + 4 * d];
    total += n * n * images;
  }
  return total;
}

/// Two passes over all pairs of atoms and images: 3 + 15 for the vector and its place in the cell, 4 for the
/// bounds along each direction with a period; 18 for an image, 5 for its distance. Positions are read, lists
/// written.
Work work_of(const System& system, double cutoff) {
  double pairs = 0;
  for (std::size_t s = 0; s + 1 < system.first_atom.size(); ++s) {
    const auto n = static_cast<double>(system.first_atom[s + 1] - system.first_atom[s]);
    const double periods = system.periodic[3 * s] + system.periodic[3 * s + 1] + system.periodic[3 * s + 2];
    pairs += n * n * (18 + 4 * periods);
  }
  const auto atoms = static_cast<double>(system.n_atoms());
  return {atoms, 2 * (pairs + 23 * trials(system, cutoff)), system.bytes() + 24 * atoms};
}

void run_list(benchmark::State& state, System system, double cutoff, int n_threads) {
  const Cells cells = system.geometry();
  run(state, "atoms", work_of(system, cutoff), n_threads, [&] {
    const NeighbourList list(cells, cutoff, n_threads, system.first_pair.data());
    benchmark::DoNotOptimize(
        list.fill(system.first_pair.data(), n_threads, system.neighbour.data(), system.vectors.data()));
  });
  state.counters["neighbours"] = system.neighbours_per_atom();
}

/// About 2000 atoms, so that the lists of every size take similar room.
template <bool periodic>
void BM_boxes(benchmark::State& state) {
  const Index n_atoms = state.range(0);
  const double cutoff = 0.01 * static_cast<double>(state.range(1));
  run_list(state, make_boxes(2000 / n_atoms, n_atoms, periodic, cutoff, 3), cutoff,
           static_cast<int>(state.range(2)));
}

void BM_molecules(benchmark::State& state) {
  const double cutoff = 0.01 * static_cast<double>(state.range(0));
  run_list(state, make_molecules(250, cutoff), cutoff, static_cast<int>(state.range(1)));
}

void BM_slabs(benchmark::State& state) {
  const double cutoff = 0.01 * static_cast<double>(state.range(0));
  run_list(state, make_slabs(100, cutoff), cutoff, static_cast<int>(state.range(1)));
}

/// Half of the pairs count: 6 for the distance, a power, 4 for the value and its slope, 12 for the gradients
/// of both atoms; the dense Jacobian is written.
void BM_pair_distances(benchmark::State& state) {
  const System system = make_molecules(250, 20.0);
  constexpr Index n_pairs = molecule_atoms * (molecule_atoms - 1) / 2;
  Vector values = Vector::Zero(n_pairs);
  Matrix J = Matrix::Zero(system.n_structures() * n_pairs, 3 * molecule_atoms);
  const auto pairs = static_cast<double>(system.n_pairs()) / 2;
  const Work work{static_cast<double>(system.n_atoms()), 23 * pairs,
                  system.bytes() + 8.0 * static_cast<double>(J.size() + n_pairs * system.n_structures())};
  const PairDistances fingerprint;
  run(state, "atoms", work, 1, [&] {
    for (Index s = 0; s < system.n_structures(); ++s) {
      fingerprint.evaluate(system.view(), s, values.data(), J.row(s * n_pairs).data());
      benchmark::DoNotOptimize(J.data());
    }
  });
}

void sizes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"atoms", "cutoff_pm", "threads"})
      ->ArgsProduct({{20, 100, 300}, {650, 1050}, thread_counts()})
      ->UseRealTime();
}
void cutoffs_and_threads(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"cutoff_pm", "threads"})->ArgsProduct({usual_cutoffs, thread_counts()})->UseRealTime();
}

BENCHMARK_TEMPLATE(BM_boxes, false)->Apply(sizes);
BENCHMARK_TEMPLATE(BM_boxes, true)->Apply(sizes);
BENCHMARK(BM_molecules)->Apply(cutoffs_and_threads);
BENCHMARK(BM_slabs)->Apply(cutoffs_and_threads);
BENCHMARK(BM_pair_distances)->UseRealTime();

}  // namespace
}  // namespace gprann::bench
