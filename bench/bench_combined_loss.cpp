/// The combined loss of energies and forces, 36-10-10-1 tanh: value, gradient, Gauss-Newton product and
/// normal equations, on molecules of 20 atoms and on periodic cells of 46, against cutoffs and threads.

#include <benchmark/benchmark.h>

#include <limits>
#include <memory>
#include <numeric>

#include "bench_counts.hpp"
#include "bench_peak.hpp"
#include "gprann/combined_loss.hpp"

namespace gprann::bench {
namespace {

const std::vector<Index> sizes{36, 10, 10, 1};
const NetworkFlops network_flops(sizes);

struct Setup {
  System system;
  Shape shape;
  ChebyshevDescriptor descriptor;
  Network network;
  Features features;
  CombinedLoss loss;
  Vector parameters, energies, energy_weights, forces, force_weights, virials, virial_weights;
  std::vector<std::int64_t> everything;

  Setup(System made, const Shape& settings)
      : system(std::move(made)),
        shape(settings),
        descriptor(shape.make()),
        network(sizes, Activation::tanh, shape.n_species),
        features(system, shape.n_species, descriptor.size()),
        loss(network, descriptor, system.view(), features.view(), features.order.data(),
             features.scale.data()),
        parameters(0.3 * Vector::Random(network.n_parameters())),
        energies(Vector::Random(system.n_structures())),
        energy_weights(Vector::Ones(system.n_structures())),
        forces(Vector::Random(3 * system.n_atoms())),
        force_weights(Vector::Ones(3 * system.n_atoms())),
        virials(Vector::Zero(6 * system.n_structures())),
        virial_weights(Vector::Zero(6 * system.n_structures())),
        everything(static_cast<std::size_t>(system.n_structures())) {
    std::iota(everything.begin(), everything.end(), 0);
  }
  Setup(const Setup&) = delete;  // the loss looks into the arrays beside it

  Labels labels() const {
    constexpr double all = std::numeric_limits<double>::infinity();  // every residual is squared
    return {energies.data(),
            energy_weights.data(),
            forces.data(),
            force_weights.data(),
            virials.data(),
            virial_weights.data(),
            all,
            all,
            all};
  }
  double atoms() const { return static_cast<double>(system.n_atoms()); }
  /// Lists, features, forces with their weights.
  double bytes() const {
    return system.bytes() + (8.0 * static_cast<double>(descriptor.size()) + 48) * atoms();
  }
};

enum class Of { molecules, slabs };

/// Lists larger than the second cache; fewer structures for the normal equations.
template <Of kind>
std::unique_ptr<Setup> make_setup(std::int64_t pm, Index molecules = 250, Index slabs = 50) {
  const double cutoff = 0.01 * static_cast<double>(pm);
  if (kind == Of::molecules)
    return std::make_unique<Setup>(make_molecules(molecules, cutoff), shape_at(pm, molecule_species));
  return std::make_unique<Setup>(make_slabs(slabs, cutoff), shape_at(pm, slab_species));
}

/// Networks there and back, one sweep for the forces.
double value_flops(const Setup& setup) {
  const DescriptorFlops flops(setup.system, setup.shape);
  return flops.survey + flops.vjp + setup.atoms() * network_flops.slopes();
}

/// A second sweep, and the second-derivative pass.
double gradient_flops(const Setup& setup) {
  return value_flops(setup) + DescriptorFlops(setup.system, setup.shape).jvp +
         setup.atoms() * network_flops.second_gradient();
}

template <Of kind>
void BM_value(benchmark::State& state) {
  const auto setup = make_setup<kind>(state.range(0));
  const auto n_threads = static_cast<int>(state.range(1));
  run(state, "atoms", {setup->atoms(), value_flops(*setup), setup->bytes()}, n_threads, [&] {
    benchmark::DoNotOptimize(setup->loss.evaluate(setup->parameters.data(), setup->labels(),
                                                  setup->everything.data(), setup->system.n_structures(),
                                                  n_threads, nullptr));
  });
  state.counters["neighbours"] = setup->system.neighbours_per_atom();
}

template <Of kind>
void BM_gradient(benchmark::State& state) {
  const auto setup = make_setup<kind>(state.range(0));
  const auto n_threads = static_cast<int>(state.range(1));
  Vector gradient = Vector::Zero(setup->network.n_parameters());
  run(state, "atoms", {setup->atoms(), gradient_flops(*setup), setup->bytes()}, n_threads, [&] {
    benchmark::DoNotOptimize(setup->loss.evaluate(setup->parameters.data(), setup->labels(),
                                                  setup->everything.data(), setup->system.n_structures(),
                                                  n_threads, gradient.data()));
    benchmark::DoNotOptimize(gradient.data());
  });
  state.counters["neighbours"] = setup->system.neighbours_per_atom();
}

/// Energies alone: no force and no virial has a weight. The networks forward, and back for a gradient.
template <bool with_gradient>
void BM_energies(benchmark::State& state) {
  const auto setup = make_setup<Of::molecules>(650);
  setup->force_weights.setZero();
  const auto n_threads = static_cast<int>(state.range(0));
  Vector gradient = Vector::Zero(setup->network.n_parameters());
  const double flops = setup->atoms() * (with_gradient ? network_flops.gradient() : network_flops.energies());
  run(state, "atoms", {setup->atoms(), flops, setup->bytes()}, n_threads, [&] {
    benchmark::DoNotOptimize(setup->loss.evaluate(setup->parameters.data(), setup->labels(),
                                                  setup->everything.data(), setup->system.n_structures(),
                                                  n_threads, with_gradient ? gradient.data() : nullptr));
  });
}

/// The same gradient by the network's own loss of energies.
void BM_energy_loss(benchmark::State& state) {
  const auto setup = make_setup<Of::molecules>(650);
  const auto n_threads = static_cast<int>(state.range(0));
  Vector gradient = Vector::Zero(setup->network.n_parameters());
  run(state, "atoms", {setup->atoms(), setup->atoms() * network_flops.gradient(), setup->bytes()}, n_threads,
      [&] {
        benchmark::DoNotOptimize(setup->network.energy_loss(
            setup->parameters.data(), setup->features.view(), setup->everything.data(),
            setup->system.n_structures(), setup->energies.data(), setup->energy_weights.data(), n_threads,
            gradient.data()));
      });
}

/// As a gradient, with the change of energies and slopes along v before it.
template <Of kind>
void BM_gauss_newton(benchmark::State& state) {
  const auto setup = make_setup<kind>(state.range(0));
  const auto n_threads = static_cast<int>(state.range(1));
  const Vector v = Vector::Random(setup->network.n_parameters());
  Vector result = Vector::Zero(v.size());
  const double flops = gradient_flops(*setup) + setup->atoms() * network_flops.parameter_tangent();
  run(state, "atoms", {setup->atoms(), flops, setup->bytes()}, n_threads, [&] {
    setup->loss.gauss_newton(setup->parameters.data(), setup->labels(), setup->everything.data(),
                             setup->system.n_structures(), v.data(), n_threads, result.data());
    benchmark::DoNotOptimize(result.data());
  });
  state.counters["neighbours"] = setup->system.neighbours_per_atom();
}

/// Rows of the Jacobian, one per energy and force component, from the dense Jacobian of the descriptor: for
/// every direction and atom a row of the network, 3 D to standardise and to take the derivative. The
/// products: P (P + 1) flops for each row of the lower triangle, 3 P for its weight and the gradient.
template <Of kind>
void BM_normal_equations(benchmark::State& state) {
  const auto setup = make_setup<kind>(state.range(0), 16, 4);
  const auto n_threads = static_cast<int>(state.range(1));
  const Index P = setup->network.n_parameters();
  const auto n = static_cast<double>(setup->system.n_structures());
  const double per_structure = setup->atoms() / n;
  const double rows = n * (1 + 3 * per_structure);
  const DescriptorFlops flops(setup->system, setup->shape);
  const double triangle = static_cast<double>(P) * static_cast<double>(P + 1);
  const auto D = static_cast<double>(setup->descriptor.size());
  const Work work{rows,
                  flops.survey + flops.jacobian +
                      3 * per_structure * setup->atoms() * (network_flops.row() + 3 * D) +
                      rows * (triangle + 3 * static_cast<double>(P)),
                  setup->bytes() + 4 * triangle};
  Matrix H = Matrix::Zero(P, P);
  Vector b = Vector::Zero(P);
  run(state, "rows", work, n_threads, [&] {
    benchmark::DoNotOptimize(
        setup->loss.normal_equations(setup->parameters.data(), setup->labels(), setup->everything.data(),
                                     setup->system.n_structures(), blas(), n_threads, H.data(), b.data()));
    benchmark::DoNotOptimize(H.data());
  });
  state.counters["neighbours"] = setup->system.neighbours_per_atom();
  state.counters["of_products"] = rows * triangle / work.flops;
}

void cutoffs_and_threads(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"cutoff_pm", "threads"})
      ->ArgsProduct({usual_cutoffs, thread_counts()})
      ->Unit(benchmark::kMillisecond)
      ->UseRealTime();
}

/// The cutoff hardly matters beside the products.
void ends_and_threads(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"cutoff_pm", "threads"})
      ->ArgsProduct({{650, 1050}, thread_counts()})
      ->Unit(benchmark::kMillisecond)
      ->UseRealTime();
}

BENCHMARK_TEMPLATE(BM_energies, false)->ArgNames({"threads"})->Arg(1)->UseRealTime();
BENCHMARK_TEMPLATE(BM_energies, true)->ArgNames({"threads"})->Arg(1)->UseRealTime();
BENCHMARK(BM_energy_loss)->ArgNames({"threads"})->Arg(1)->UseRealTime();
BENCHMARK_TEMPLATE(BM_value, Of::molecules)->Apply(cutoffs_and_threads);
BENCHMARK_TEMPLATE(BM_value, Of::slabs)->Apply(cutoffs_and_threads);
BENCHMARK_TEMPLATE(BM_gradient, Of::molecules)->Apply(cutoffs_and_threads);
BENCHMARK_TEMPLATE(BM_gradient, Of::slabs)->Apply(cutoffs_and_threads);
BENCHMARK_TEMPLATE(BM_gauss_newton, Of::molecules)->Apply(cutoffs_and_threads);
BENCHMARK_TEMPLATE(BM_gauss_newton, Of::slabs)->Apply(cutoffs_and_threads);
BENCHMARK_TEMPLATE(BM_normal_equations, Of::molecules)->Apply(ends_and_threads);
BENCHMARK_TEMPLATE(BM_normal_equations, Of::slabs)->Apply(ends_and_threads);

}  // namespace
}  // namespace gprann::bench
