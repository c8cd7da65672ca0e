#include "bench_systems.hpp"

#include <cmath>
#include <numeric>
#include <random>

namespace gprann::bench {

namespace {

/// The first n points of a cubic lattice of `side` points an edge, moved by up to `shift` along each axis, Å.
Matrix rattled_lattice(Index n, Index side, double spacing, double shift, std::mt19937_64& random) {
  std::uniform_real_distribution<double> uniform(-shift, shift);
  Matrix positions(n, 3);
  for (Index i = 0; i < n; ++i) {
    const Index point[3] = {i / (side * side), i / side % side, i % side};
    for (int d = 0; d < 3; ++d) positions(i, d) = spacing * static_cast<double>(point[d]) + uniform(random);
  }
  return positions;
}

/// Appends one structure with all pairs within the cutoff; `box` is the edge of a cubic cell, 0 for none.
void append(System& system, const Matrix& positions, double box, double cutoff) {
  const auto first = static_cast<std::int32_t>(system.first_atom.back());
  for (Index i = 0; i < positions.rows(); ++i) {
    for (Index j = 0; j < positions.rows(); ++j) {
      Eigen::RowVector3d v = positions.row(j) - positions.row(i);
      if (box > 0) v -= box * (v / box).array().round().matrix();
      if (i == j || v.squaredNorm() >= cutoff * cutoff) continue;
      system.neighbour.push_back(first + static_cast<std::int32_t>(j));
      system.vectors.insert(system.vectors.end(), {v[0], v[1], v[2]});
    }
    system.first_pair.push_back(system.n_pairs());
  }
  system.first_atom.push_back(first + positions.rows());
}

}  // namespace

Neighbours System::view() const {
  return {static_cast<Index>(first_atom.size()) - 1,
          n_atoms(),
          first_atom.data(),
          first_pair.data(),
          neighbour.data(),
          vectors.data(),
          species.data()};
}

double cutoff_for(double neighbours) { return std::cbrt(3.0 * neighbours / (4.0 * pi * density)); }

System make_crystal(Index n_atoms, double cutoff, int n_species) {
  std::mt19937_64 random(1);
  const double spacing = 1.0 / std::cbrt(density);
  const double edge = std::max(std::cbrt(static_cast<double>(n_atoms)), 2.0 * cutoff / spacing);
  const auto side = static_cast<Index>(std::ceil(edge));
  System system;
  for (Index i = 0; i < side * side * side; ++i)
    system.species.push_back(static_cast<std::int32_t>(random() % static_cast<std::uint64_t>(n_species)));
  append(system, rattled_lattice(side * side * side, side, spacing, 0.4, random),
         spacing * static_cast<double>(side), cutoff);
  return system;
}

System make_molecules(Index n, double cutoff) {
  std::mt19937_64 random(2);
  System system;
  for (Index molecule = 0; molecule < n; ++molecule) {
    for (Index i = 0; i < molecule_atoms; ++i) system.species.push_back(i < 6 ? 0 : i < 14 ? 1 : 2);
    append(system, rattled_lattice(molecule_atoms, 3, 1.5, 0.25, random), 0.0, cutoff);
  }
  return system;
}

}  // namespace gprann::bench
