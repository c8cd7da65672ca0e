/// Potentials in use: energies, forces and virials of one or ten members, 36-10-10-1 tanh, from neighbour
/// lists or from positions.

#include <benchmark/benchmark.h>

#include "bench_counts.hpp"
#include "bench_peak.hpp"
#include "gprann/committee.hpp"

namespace gprann::bench {
namespace {

const std::vector<Index> sizes{36, 10, 10, 1};

struct Setup {
  System system;
  Shape shape;
  ChebyshevDescriptor descriptor;
  Network network;
  Matrix mean, scale, parameters;  // (S, D), (S, D), (members, P)
  Vector energies, gradients, virials;

  Setup(System made, const Shape& settings, Index members)
      : system(std::move(made)),
        shape(settings),
        descriptor(shape.make()),
        network(sizes, Activation::tanh, shape.n_species),
        mean(Matrix::Random(shape.n_species, descriptor.size())),
        scale(0.1 * Matrix::Ones(shape.n_species, descriptor.size())),
        parameters(0.3 * Matrix::Random(members, network.n_parameters())),
        energies(members * system.n_atoms()),
        gradients(3 * members * system.n_atoms()),
        virials(9 * members * system.n_structures()) {}

  void evaluate(int n_threads) {
    const Committee committee(network, descriptor, mean.data(), scale.data());
    committee.evaluate(parameters.data(), parameters.rows(), system.view(), n_threads, energies.data(),
                       gradients.data(), virials.data());
    benchmark::DoNotOptimize(gradients.data());
  }

  /// Descriptors once, standardised; for each member the networks there and back and a sweep over the
  /// neighbours.
  Work work() const {
    const DescriptorFlops flops(system, shape);
    const auto atoms = static_cast<double>(system.n_atoms());
    const auto members = static_cast<double>(parameters.rows());
    const auto D = static_cast<double>(descriptor.size());
    const double networks = atoms * (NetworkFlops(sizes).slopes() + D);
    return {atoms, flops.survey + flops.values + 2 * D * atoms + members * (networks + flops.vjp),
            system.bytes() + members * 32 * atoms};
  }
};

void run_members(benchmark::State& state, System system, Index n_species) {
  Setup setup(std::move(system), shape_at(state.range(1), n_species), state.range(0));
  const auto n_threads = static_cast<int>(state.range(2));
  run(state, "atoms", setup.work(), n_threads, [&] { setup.evaluate(n_threads); });
  state.counters["neighbours"] = setup.system.neighbours_per_atom();
}

void BM_molecules(benchmark::State& state) {
  run_members(state, make_molecules(250, 0.01 * static_cast<double>(state.range(1))), molecule_species);
}

void BM_slabs(benchmark::State& state) {
  run_members(state, make_slabs(20, 0.01 * static_cast<double>(state.range(1))), slab_species);
}

/// What a call from a program costs: the lists are made anew. Their flops (two passes over all pairs of
/// atoms, 41 each) count as well.
void BM_molecules_from_positions(benchmark::State& state) {
  Setup setup(make_molecules(state.range(0), 6.5), {}, 1);
  const auto n_threads = static_cast<int>(state.range(1));
  const Cells cells = setup.system.geometry();
  Work work = setup.work();
  work.flops += 2.0 * 41 * molecule_atoms * static_cast<double>(setup.system.n_atoms());
  run(state, "atoms", work, n_threads, [&] {
    System& system = setup.system;
    const NeighbourList list(cells, 6.5, n_threads, system.first_pair.data());
    list.fill(system.first_pair.data(), n_threads, system.neighbour.data(), system.vectors.data());
    setup.evaluate(n_threads);
  });
}

void members_and_cutoffs(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"members", "cutoff_pm", "threads"})
      ->ArgsProduct({{1, 10}, usual_cutoffs, thread_counts()})
      ->UseRealTime();
}

BENCHMARK(BM_molecules)->Apply(members_and_cutoffs);
BENCHMARK(BM_slabs)->Apply(members_and_cutoffs);
BENCHMARK(BM_molecules_from_positions)
    ->ArgNames({"structures", "threads"})
    ->ArgsProduct({{1, 250}, thread_counts()})
    ->UseRealTime();

}  // namespace
}  // namespace gprann::bench
