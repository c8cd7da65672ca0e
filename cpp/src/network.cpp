#include "gprann/network.hpp"

#include <algorithm>
#include <stdexcept>

#include "gprann/parallel.hpp"

namespace gprann {

void add_outer_products(const double* dz, Index out, const double* a, Index in, Index k, double* target) {
  for (Index o = 0; o < out; ++o) {
    Index c = 0;
    for (; c + lane_width <= in; c += lane_width) {
      Lane sum = Eigen::Map<const Lane>(target + o * in + c);
      for (Index row = 0; row < k; ++row) sum += dz[row * out + o] * Eigen::Map<const Lane>(a + row * in + c);
      Eigen::Map<Lane>(target + o * in + c) = sum;
    }
    for (; c < in; ++c) {
      double sum = target[o * in + c];
      for (Index row = 0; row < k; ++row) sum += dz[row * out + o] * a[row * in + c];
      target[o * in + c] = sum;
    }
  }
}

void add_normal_rows(const Blas& blas, const double* J, Index n, Index P, int n_threads, double* H) {
  constexpr Index tile = 256;
  const Index n_tiles = chunk_count(P, tile);
  parallel_for(n_tiles * (n_tiles + 1) / 2, n_threads, [&](Index item, int) {
    Index row = 0;
    Index column = item;
    while (column > row) column -= ++row;
    const Index ni = std::min(tile, P - row * tile);
    const Index nj = std::min(tile, P - column * tile);
    const ConstBlock Ji{J + row * tile, n, ni, P};
    const ConstBlock Jj{J + column * tile, n, nj, P};
    const Block target{H + row * tile * P + column * tile, ni, nj, P};
    if (row == column)
      rank_update_t(blas, 1.0, Ji, 1.0, target);
    else
      multiply_tn(blas, 1.0, Ji, Jj, 1.0, target);
  });
}

Network::Network(std::vector<Index> sizes, Activation activation, Index n_species)
    : mlp_(std::move(sizes), activation), n_species_(n_species) {
  if (n_species < 1) throw std::invalid_argument("at least one species is needed");
}

namespace {

struct PassWorkspace final : AtomModel::Workspace {
  Mlp::Pass pass;
};

}  // namespace

std::unique_ptr<AtomModel::Workspace> Network::make_workspace() const {
  return std::make_unique<PassWorkspace>();
}

AtomModel::Result Network::evaluate(const double* parameters, Index species, ConstMatrixMap features,
                                    Workspace& workspace) const {
  Mlp::Pass& pass = static_cast<PassWorkspace&>(workspace).pass;
  const double* own = parameters + species * mlp_.n_parameters();
  mlp_.forward(own, features, pass);
  mlp_.backward(own, pass, true);
  return {pass.energy.data(), pass.input.data()};
}

void Network::atoms(const double* parameters, const AtomFeatures& atoms, int n_threads, double* atom_energies,
                    double* slopes) const {
  constexpr Index chunk = 256;
  struct Item {
    Index species, begin, count;
  };
  std::vector<Item> items;
  for (Index t = 0; t < n_species_; ++t) {
    const Index end = atoms.begin(t, atoms.n_structures);
    for (Index begin = atoms.begin(t, 0); begin < end; begin += chunk)
      items.push_back({t, begin, std::min(chunk, end - begin)});
  }
  std::vector<Mlp::Pass> passes(static_cast<std::size_t>(std::max(n_threads, 1)));
  parallel_for(static_cast<Index>(items.size()), n_threads, [&](Index item, int thread) {
    const auto [species, begin, count] = items[static_cast<std::size_t>(item)];
    const double* own = parameters + species * mlp_.n_parameters();
    Mlp::Pass& pass = passes[static_cast<std::size_t>(thread)];
    mlp_.forward(own, {atoms.features + begin * atoms.size, count, atoms.size}, pass);
    VectorMap(atom_energies + begin, count) = pass.energy;
    if (slopes == nullptr) return;
    mlp_.backward(own, pass, true);
    MatrixMap(slopes + begin * atoms.size, count, atoms.size) = pass.input.matrix();
  });
}

void Network::energies(const double* parameters, const AtomFeatures& atoms, int n_threads,
                       double* energies) const {
  const Index n = atoms.n_structures;
  Vector atom_energies(atoms.begin(n_species_ - 1, n));
  this->atoms(parameters, atoms, n_threads, atom_energies.data(), nullptr);
  for (Index s = 0; s < n; ++s) {
    energies[s] = 0.0;
    for (Index t = 0; t < n_species_; ++t)
      energies[s] +=
          atom_energies.segment(atoms.begin(t, s), atoms.begin(t, s + 1) - atoms.begin(t, s)).sum();
  }
}

namespace {

/// A few structures whose atoms go through the networks together. Kept by every thread from batch to batch,
/// so that minibatches allocate nothing.
struct LossBlock {
  struct OneSpecies {
    Matrix features;           // (rows, D)
    std::vector<Index> first;  // (count + 1), rows of each structure
    Mlp::Pass pass;
  };
  std::vector<OneSpecies> species;
  Vector energy, factor, atom_factor;

  /// Energies of the structures `chosen`.
  void predict(const Mlp& mlp, const double* parameters, const AtomFeatures& atoms,
               const std::int64_t* chosen, Index count) {
    energy.setZero(count);
    for (std::size_t t = 0; t < species.size(); ++t) {
      OneSpecies& own = species[t];
      const auto of = static_cast<Index>(t);
      own.first.assign(1, 0);
      for (Index s = 0; s < count; ++s)
        own.first.push_back(own.first.back() + atoms.begin(of, chosen[s] + 1) - atoms.begin(of, chosen[s]));
      own.features.resize(own.first.back(), atoms.size);
      for (Index s = 0; s < count; ++s)
        std::copy_n(atoms.features + atoms.begin(of, chosen[s]) * atoms.size, rows(own, s) * atoms.size,
                    own.features.data() + own.first[static_cast<std::size_t>(s)] * atoms.size);
      mlp.forward(parameters + of * mlp.n_parameters(), view(own), own.pass);
      for (Index s = 0; s < count; ++s)
        energy[s] += own.pass.energy.segment(own.first[static_cast<std::size_t>(s)], rows(own, s)).sum();
    }
  }

  /// Adds the gradient of sum_s factor_s E_s.
  void add_gradient(const Mlp& mlp, const double* parameters, double* gradient) {
    for (std::size_t t = 0; t < species.size(); ++t) {
      OneSpecies& own = species[t];
      const Index offset = static_cast<Index>(t) * mlp.n_parameters();
      mlp.backward(parameters + offset, own.pass, false);
      atom_factor.resize(own.features.rows());
      for (Index s = 0; s < factor.size(); ++s)
        atom_factor.segment(own.first[static_cast<std::size_t>(s)], rows(own, s)).setConstant(factor[s]);
      mlp.add_gradient(view(own), atom_factor.data(), own.pass, gradient + offset);
    }
  }

 private:
  static Index rows(const OneSpecies& own, Index s) {
    return own.first[static_cast<std::size_t>(s + 1)] - own.first[static_cast<std::size_t>(s)];
  }
  static ConstMatrixMap view(const OneSpecies& own) {
    return {own.features.data(), own.features.rows(), own.features.cols()};
  }
};

}  // namespace

double Network::energy_loss(const double* parameters, const AtomFeatures& atoms, const std::int64_t* batch,
                            Index batch_size, const double* targets, const double* weights, int n_threads,
                            double* gradient) const {
  constexpr Index together = 16;     // structures of a block
  constexpr Index most_groups = 32;  // blocks with a sum of their own, whatever the number of threads
  const Index n_blocks = chunk_count(batch_size, together);
  const Index n_groups = std::min(n_blocks, most_groups);
  Matrix partial = Matrix::Zero(n_groups, n_parameters());
  Vector losses = Vector::Zero(n_groups);
  // Starting a thread costs as much as two pieces of work.
  const int used = static_cast<int>(std::min<Index>(n_threads, n_blocks / 4));
  parallel_for(n_groups, used, [&](Index group, int) {
    thread_local LossBlock block;
    block.species.resize(static_cast<std::size_t>(n_species_));
    const Index end = std::min(batch_size, together * (n_blocks * (group + 1) / n_groups));
    for (Index begin = together * (n_blocks * group / n_groups); begin < end; begin += together) {
      const Index count = std::min(together, end - begin);
      const std::int64_t* chosen = batch + begin;
      block.predict(mlp_, parameters, atoms, chosen, count);
      block.factor.resize(count);
      for (Index s = 0; s < count; ++s) {
        const double residual = block.energy[s] - targets[chosen[s]];
        losses[group] += weights[chosen[s]] * residual * residual;
        block.factor[s] = 2.0 * weights[chosen[s]] * residual;  // dL/dE
      }
      block.add_gradient(mlp_, parameters, partial.row(group).data());
    }
  });
  VectorMap(gradient, n_parameters()) = partial.colwise().sum().transpose();
  return losses.sum();
}

void Network::energy_rows(const double* parameters, const AtomFeatures& atoms, Index begin, Index end,
                          double* energies, double* rows) const {
  std::fill_n(energies, end - begin, 0.0);
  std::fill_n(rows, (end - begin) * n_parameters(), 0.0);
  Mlp::Pass pass;
  for (Index t = 0; t < n_species_; ++t) {
    const Index first = atoms.begin(t, begin);
    const Index count = atoms.begin(t, end) - first;
    const double* own = parameters + t * mlp_.n_parameters();
    const ConstMatrixMap G(atoms.features + first * atoms.size, count, atoms.size);
    mlp_.forward(own, G, pass);
    mlp_.backward(own, pass, false);
    for (Index s = begin; s < end; ++s) {
      const Index r = atoms.begin(t, s) - first;
      const Index k = atoms.begin(t, s + 1) - first - r;
      energies[s - begin] += pass.energy.segment(r, k).sum();
      double* row = rows + (s - begin) * n_parameters() + t * mlp_.n_parameters();
      for (Index layer = 0; layer < mlp_.layers(); ++layer) {
        const Mlp::Array& dz = pass.backward[static_cast<std::size_t>(layer)];
        const Index in = mlp_.width(layer);
        const Index out = dz.cols();
        const double* below = layer == 0 ? G.data() : pass.value[static_cast<std::size_t>(layer - 1)].data();
        add_outer_products(dz.data() + r * out, out, below + r * in, in, k, row + mlp_.weight_at(layer));
        VectorMap(row + mlp_.bias_at(layer), out) = dz.middleRows(r, k).colwise().sum().transpose().matrix();
      }
    }
  }
}

double Network::normal_equations(const double* parameters, const AtomFeatures& atoms, const double* targets,
                                 const double* weights, const Blas& blas, int n_threads, double* H,
                                 double* b) const {
  constexpr Index panel = 256;  // rows of J at a time
  constexpr Index chunk = 32;
  const Index P = n_parameters();
  const Index n = atoms.n_structures;
  Matrix J(std::min(panel, n), P);
  Vector r(J.rows());
  MatrixMap(H, P, P).setZero();
  VectorMap gradient(b, P);
  gradient.setZero();
  double loss = 0.0;
  for (Index begin = 0; begin < n; begin += panel) {
    const Index count = std::min(panel, n - begin);
    parallel_for(chunk_count(count, chunk), n_threads, [&](Index item, int) {
      const Index lo = item * chunk;
      const Index hi = std::min(count, lo + chunk);
      energy_rows(parameters, atoms, begin + lo, begin + hi, r.data() + lo, J.data() + lo * P);
      for (Index s = lo; s < hi; ++s) {
        const double root = std::sqrt(weights[begin + s]);
        r[s] = root * (r[s] - targets[begin + s]);
        J.row(s) *= root;
      }
    });
    loss += r.head(count).squaredNorm();
    gradient.noalias() += J.topRows(count).transpose() * r.head(count);
    add_normal_rows(blas, J.data(), count, P, n_threads, H);
  }
  return loss;
}

}  // namespace gprann
