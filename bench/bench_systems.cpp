#include "bench_systems.hpp"

#include <algorithm>
#include <cmath>
#include <random>

namespace gprann::bench {

namespace {

using Random = std::mt19937_64;
using Kinds = std::vector<std::int32_t>;

/// The first n points of a cubic lattice, `nx` and `ny` points along x and y before the next layer begins.
Matrix lattice(Index n, Index nx, Index ny, double spacing) {
  Matrix positions(n, 3);
  for (Index i = 0; i < n; ++i) {
    const Index point[3] = {i % nx, i / nx % ny, i / (nx * ny)};
    for (int d = 0; d < 3; ++d) positions(i, d) = spacing * static_cast<double>(point[d]);
  }
  return positions;
}

/// Moves every coordinate by up to `shift`, Å.
void rattle(Matrix& positions, double shift, Random& random) {
  std::uniform_real_distribution<double> uniform(-shift, shift);
  for (Index k = 0; k < positions.size(); ++k) positions.data()[k] += uniform(random);
}

Kinds random_kinds(Index n, Index n_species, Random& random) {
  Kinds kinds;
  for (Index i = 0; i < n; ++i)
    kinds.push_back(static_cast<std::int32_t>(random() % static_cast<std::uint64_t>(n_species)));
  return kinds;
}

}  // namespace

void System::add(const Matrix& at, const Kinds& kinds, const Eigen::RowVector3d& edges) {
  positions.insert(positions.end(), at.data(), at.data() + at.size());
  species.insert(species.end(), kinds.begin(), kinds.end());
  first_atom.push_back(first_atom.back() + at.rows());
  for (int d = 0; d < 3; ++d) {
    for (int e = 0; e < 3; ++e) cells.push_back(d == e ? edges[d] : 0.0);
    periodic.push_back(edges[d] > 0.0 ? 1 : 0);
  }
}

void System::find_neighbours(double cutoff) {
  first_pair.resize(static_cast<std::size_t>(n_atoms() + 1));
  const Cells all = geometry();
  const NeighbourList list(all, cutoff, 1, first_pair.data());
  neighbour.resize(static_cast<std::size_t>(first_pair.back()));
  vectors.resize(3 * neighbour.size());
  list.fill(first_pair.data(), 1, neighbour.data(), vectors.data());
}

Cells System::geometry() const {
  return {n_structures(), first_atom.data(), positions.data(), cells.data(), periodic.data()};
}

Neighbours System::view() const {
  return {n_structures(),   n_atoms(),      first_atom.data(), first_pair.data(),
          neighbour.data(), vectors.data(), species.data()};
}

Index System::n_pairs(double cutoff) const {
  const Eigen::Map<const Matrix> v(vectors.data(), n_pairs(), 3);
  return (v.rowwise().squaredNorm().array() < cutoff * cutoff).count();
}

Features::Features(const System& system, Index n_species, Index size)
    : n_structures(system.n_structures()),
      values(Matrix::Random(system.n_atoms(), size)),
      scale(Matrix::Ones(n_species, size)) {
  for (Index t = 0; t < n_species; ++t) {
    for (Index s = 0; s < n_structures; ++s) {
      rows.push_back(static_cast<std::int64_t>(order.size()));
      for (auto i = system.first_atom[static_cast<std::size_t>(s)];
           i < system.first_atom[static_cast<std::size_t>(s + 1)]; ++i)
        if (system.species[static_cast<std::size_t>(i)] == t) order.push_back(i);
    }
    rows.push_back(static_cast<std::int64_t>(order.size()));
  }
}

double cutoff_for(double neighbours) { return std::cbrt(3.0 * neighbours / (4.0 * pi * density)); }

System make_boxes(Index n, Index n_atoms, bool periodic, double cutoff, Index n_species) {
  Random random(1);
  const auto side = static_cast<Index>(std::ceil(std::cbrt(static_cast<double>(n_atoms))));
  const double edge = std::cbrt(static_cast<double>(n_atoms) / density);
  System system;
  for (Index s = 0; s < n; ++s) {
    Matrix positions = lattice(n_atoms, side, side, edge / static_cast<double>(side));
    rattle(positions, 0.2, random);
    system.add(positions, random_kinds(n_atoms, n_species, random),
               Eigen::RowVector3d::Constant(periodic ? edge : 0.0));
  }
  system.find_neighbours(cutoff);
  return system;
}

System make_crystal(Index n_atoms, double cutoff, Index n_species) {
  const double edge = std::max(std::cbrt(static_cast<double>(n_atoms)), 2.0 * cutoff * std::cbrt(density));
  const auto side = static_cast<Index>(std::ceil(edge));
  return make_boxes(1, side * side * side, true, cutoff, n_species);
}

System make_molecules(Index n, double cutoff) {
  Random random(2);
  Kinds kinds;
  for (Index i = 0; i < molecule_atoms; ++i) kinds.push_back(i < 6 ? 0 : i < 14 ? 1 : 2);
  System system;
  for (Index molecule = 0; molecule < n; ++molecule) {
    Matrix positions(molecule_atoms, 3);
    const Matrix half = lattice(molecule_atoms / 2, 3, 2, 1.5);
    positions << half, half.rowwise() + Eigen::RowVector3d(4.0, 4.0, 0.0);
    rattle(positions, 0.25, random);
    system.add(positions, kinds, Eigen::RowVector3d::Zero());
  }
  system.find_neighbours(cutoff);
  return system;
}

System make_slabs(Index n, double cutoff) {
  constexpr Index metal = 36;
  constexpr Index above = 10;
  constexpr double a = 3.439;  // lattice constant, Å
  Random random(3);
  Kinds kinds(metal, 0);
  for (Index i = 0; i < above; ++i) kinds.push_back(i < 3 ? 1 : i < 6 ? 2 : 3);
  System system;
  for (Index slab = 0; slab < n; ++slab) {
    Matrix positions(metal + above, 3);
    for (Index i = 0; i < metal; ++i) {
      const Index layer = i / 9;
      const double shift = layer % 2 == 0 ? 0.0 : a / 2;
      positions.row(i) << a * static_cast<double>(i % 3) + shift, a * static_cast<double>(i / 3 % 3) + shift,
          a / 2 * static_cast<double>(layer);
    }
    positions.bottomRows(above) =
        lattice(above, 3, 2, 1.5).rowwise() + Eigen::RowVector3d(3.0, 3.0, 2.0 * a + 1.0);
    rattle(positions, 0.2, random);
    system.add(positions, kinds, {3 * a, 3 * a, 32.0});
  }
  system.find_neighbours(cutoff);
  return system;
}

}  // namespace gprann::bench
