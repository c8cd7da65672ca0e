/// Would it be faster to store the Jacobian of the descriptors? The two products that a gradient of the
/// combined loss takes, (dG/dR)^T . beta and dG/dR . v, structure by structure: with blocks that are kept, or
/// with the neighbours looked at once and swept over twice, as CombinedLoss does. Compare atoms/s.
///
/// Stored is what differs from zero: for each atom D x 3 (k + 1) numbers, k the atoms among its neighbours.
/// The second product finds the block of its structure in the cache that the first one filled.

#include <benchmark/benchmark.h>

#include <algorithm>

#include "bench_counts.hpp"
#include "bench_peak.hpp"
#include "gprann/parallel.hpp"

namespace gprann::bench {
namespace {

enum class Of { molecules, slabs };

struct Setup {
  System system;
  Shape shape;
  ChebyshevDescriptor descriptor;
  Matrix cotangent, gradient, tangent;

  Setup(System made, const Shape& settings)
      : system(std::move(made)),
        shape(settings),
        descriptor(shape.make()),
        cotangent(Matrix::Random(system.n_atoms(), descriptor.size())),
        gradient(Matrix::Zero(system.n_atoms(), 3)),
        tangent(Matrix::Zero(system.n_atoms(), descriptor.size())) {}

  double atoms() const { return static_cast<double>(system.n_atoms()); }
  double array_bytes() const { return 8.0 * static_cast<double>(cotangent.size() + tangent.size()); }
};

template <Of kind>
Setup make_setup(std::int64_t pm) {
  const double cutoff = 0.01 * static_cast<double>(pm);
  if (kind == Of::molecules) return {make_molecules(250, cutoff), shape_at(pm, molecule_species)};
  return {make_slabs(50, cutoff), shape_at(pm, slab_species)};
}

/// The blocks of all atoms, one after the other.
struct StoredJacobian {
  std::vector<std::int32_t> others;  // atoms whose coordinates count, the atom itself first
  std::vector<Index> first_other{0}, first_number{0};
  std::vector<double> numbers;  // (3 (k + 1), D) of each atom

  explicit StoredJacobian(const Setup& setup) {
    const System& system = setup.system;
    const Index D = setup.descriptor.size();
    numbers.reserve(static_cast<std::size_t>(3 * D * (system.n_pairs() + system.n_atoms())));
    for (Index s = 0; s < system.n_structures(); ++s) {
      const Index begin = system.first_atom[static_cast<std::size_t>(s)];
      const Index n = system.first_atom[static_cast<std::size_t>(s + 1)] - begin;
      Matrix dense(n * D, 3 * n);
      setup.descriptor.jacobian(system.view(), s, false, dense.data());
      for (Index i = 0; i < n; ++i) append(system, begin, i, dense.middleRows(i * D, D));
    }
  }

  template <class Rows>
  void append(const System& system, Index begin, Index i, const Rows& rows) {
    const auto atom = static_cast<std::size_t>(begin + i);
    std::vector<std::int32_t> own(system.neighbour.begin() + system.first_pair[atom],
                                  system.neighbour.begin() + system.first_pair[atom + 1]);
    std::sort(own.begin(), own.end());
    own.erase(std::unique(own.begin(), own.end()), own.end());
    own.erase(std::remove(own.begin(), own.end(), static_cast<std::int32_t>(atom)), own.end());
    own.insert(own.begin(), static_cast<std::int32_t>(atom));
    others.insert(others.end(), own.begin(), own.end());
    for (const auto j : own)
      for (Index d = 0; d < 3; ++d)
        for (Index a = 0; a < rows.rows(); ++a) numbers.push_back(rows(a, 3 * (j - begin) + d));
    first_other.push_back(static_cast<Index>(others.size()));
    first_number.push_back(static_cast<Index>(numbers.size()));
  }

  ConstMatrixMap block(Index i, Index D) const {
    const auto atom = static_cast<std::size_t>(i);
    return {numbers.data() + first_number[atom], 3 * (first_other[atom + 1] - first_other[atom]), D};
  }
};

/// Both products of one structure, block by block.
void multiply_blocks(const StoredJacobian& J, Index s, Setup& setup, Vector& local) {
  const Index D = setup.descriptor.size();
  const Index begin = setup.system.first_atom[static_cast<std::size_t>(s)];
  const Index end = setup.system.first_atom[static_cast<std::size_t>(s + 1)];
  auto other = [&](Index i, Index k) {
    return J.others[static_cast<std::size_t>(J.first_other[static_cast<std::size_t>(i)] + k)];
  };
  setup.gradient.middleRows(begin, end - begin).setZero();
  for (Index i = begin; i < end; ++i) {
    local.noalias() = J.block(i, D) * setup.cotangent.row(i).transpose();
    for (Index k = 0; k < local.size() / 3; ++k) setup.gradient.row(other(i, k)) += local.segment<3>(3 * k);
  }
  for (Index i = begin; i < end; ++i) {
    const ConstMatrixMap block = J.block(i, D);
    local.resize(block.rows());
    for (Index k = 0; k < local.size() / 3; ++k) local.segment<3>(3 * k) = setup.gradient.row(other(i, k));
    setup.tangent.row(i).noalias() = local.transpose() * block;
  }
}

template <Of kind>
void BM_stored(benchmark::State& state) {
  Setup setup = make_setup<kind>(state.range(0));
  const auto n_threads = static_cast<int>(state.range(1));
  const StoredJacobian J(setup);
  const auto count = static_cast<double>(J.numbers.size());
  std::vector<Vector> locals(static_cast<std::size_t>(n_threads));
  run(state, "atoms", {setup.atoms(), 4 * count, 8 * count + setup.array_bytes()}, n_threads, [&] {
    parallel_for(setup.system.n_structures(), n_threads, [&](Index s, int thread) {
      multiply_blocks(J, s, setup, locals[static_cast<std::size_t>(thread)]);
    });
    benchmark::DoNotOptimize(setup.tangent.data());
  });
  state.counters["stored_MB"] = 8e-6 * count;
  state.counters["neighbours"] = setup.system.neighbours_per_atom();
}

template <Of kind>
void BM_recomputed(benchmark::State& state) {
  Setup setup = make_setup<kind>(state.range(0));
  const auto n_threads = static_cast<int>(state.range(1));
  const Index D = setup.descriptor.size();
  const DescriptorFlops flops(setup.system, setup.shape);
  const Work work{setup.atoms(), flops.survey + flops.vjp + flops.jvp,
                  setup.system.bytes() + setup.array_bytes()};
  const Neighbours batch = setup.system.view();
  std::vector<std::unique_ptr<Descriptor::Surroundings>> works(static_cast<std::size_t>(n_threads));
  for (auto& found : works) found = setup.descriptor.make_surroundings();
  run(state, "atoms", work, n_threads, [&] {
    setup.gradient.setZero();
    parallel_for(batch.n_structures, n_threads, [&](Index s, int thread) {
      Descriptor::Surroundings& found = *works[static_cast<std::size_t>(thread)];
      const Index begin = batch.first_atom[s];
      setup.descriptor.survey(batch, s, found);
      setup.descriptor.add_vjp(batch, found, setup.cotangent.data() + begin * D,
                               setup.gradient.data() + 3 * begin, nullptr);
      setup.descriptor.jvp(batch, found, setup.gradient.data() + 3 * begin, nullptr,
                           setup.tangent.data() + begin * D);
    });
    benchmark::DoNotOptimize(setup.tangent.data());
  });
  state.counters["stored_MB"] = 0;
  state.counters["neighbours"] = setup.system.neighbours_per_atom();
}

void cutoffs_and_threads(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"cutoff_pm", "threads"})
      ->ArgsProduct({usual_cutoffs, thread_counts()})
      ->Unit(benchmark::kMillisecond)
      ->UseRealTime();
}

BENCHMARK_TEMPLATE(BM_stored, Of::molecules)->Apply(cutoffs_and_threads);
BENCHMARK_TEMPLATE(BM_recomputed, Of::molecules)->Apply(cutoffs_and_threads);
BENCHMARK_TEMPLATE(BM_stored, Of::slabs)->Apply(cutoffs_and_threads);
BENCHMARK_TEMPLATE(BM_recomputed, Of::slabs)->Apply(cutoffs_and_threads);

}  // namespace
}  // namespace gprann::bench
