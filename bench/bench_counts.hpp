#pragma once

#include "bench_systems.hpp"

namespace gprann::bench {

/// Settings of the descriptor. The usual ones: orders 12 and 4, angular cutoff 2.5 Å below the radial one.
struct Shape {
  double radial_cutoff = 6.5;
  Index n_species = molecule_species;
  double angular_cutoff = radial_cutoff - 2.5;
  int angular_order = 4;
  int radial_order = 12;
  Index n_channels = 2;

  ChebyshevDescriptor make() const;
};

/// Cutoffs of the literature's cost figure as arguments of a benchmark: 6.5, 8.5 and 10.5 Å, in pm.
inline const std::vector<std::int64_t> usual_cutoffs{650, 850, 1050};
inline Shape shape_at(std::int64_t pm, Index n_species) {
  const double cutoff = 0.01 * static_cast<double>(pm);
  return {cutoff, n_species, cutoff - 2.5};
}

/// Multiplications and additions of all atoms of a system, read off the loops of chebyshev.cpp,
/// chebyshev_jacobian.cpp and harmonics.cpp; roots and quotients count as one.
///
/// Every sweep over the neighbours begins with `survey` (unit vectors, cutoff functions, moments) and goes on
/// with one or several of the others.
struct DescriptorFlops {
  double survey, values, jvp, vjp, jacobian;

  DescriptorFlops(const System& system, const Shape& shape);
};

/// Weights of one perceptron; a forward or backward pass costs an atom two operations for each.
struct NetworkFlops {
  double weights, first, output;

  explicit NetworkFlops(const std::vector<Index>& sizes);
  /// Energies alone.
  double energies() const { return 2 * weights; }
  /// Energies, and their gradient with respect to the weights: the way back (all but the lowest), one outer
  /// product for every layer.
  double gradient() const { return 6 * weights - 2 * first; }
  /// Energies, and d eps / d g.
  double slopes() const { return 4 * weights; }
  /// After `slopes`, Mlp::add_second_gradient: tangents of all layers but the output, three products for
  /// every layer on the way back, of which the lowest needs two.
  double second_gradient() const { return 2 * (weights - output) + 6 * weights - 2 * first; }
  /// After `slopes`, Mlp::parameter_tangent: two products for every layer both ways, the lowest one up.
  double parameter_tangent() const { return 8 * weights - 2 * first; }
  /// One row of the Jacobian for one direction and atom: tangents (hidden layers), the way back (all but the
  /// lowest and the output), two outer products for every layer but the output.
  double row() const {
    return 2 * (weights - output) + 2 * (weights - first - output) + 4 * weights - 2 * output;
  }
};

}  // namespace gprann::bench
