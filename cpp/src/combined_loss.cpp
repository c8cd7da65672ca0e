#include "gprann/combined_loss.hpp"

#include "gprann/parallel.hpp"
#include "huber.hpp"
#include "voigt.hpp"

namespace gprann {

/// A few structures whose atoms go through the networks together.
struct CombinedLoss::Block {
  struct OneSpecies {
    std::vector<Index> first;  // (count + 1), rows of each structure
    Matrix features;           // (rows, D)
    Vector factor;             // (rows), dL/d eps
    Matrix direction;          // (rows, D), what d eps / d g is contracted with
    Mlp::Pass pass;
  };
  const std::int64_t* chosen = nullptr;
  Index count = 0;
  std::vector<bool> forces;  // (count), whether more than the energy of a structure counts
  bool any_forces = false;
  std::vector<OneSpecies> species;
  std::unique_ptr<Descriptor::Surroundings> surroundings;
  Matrix descriptors;  // (N, D) of one structure: cotangents or tangents
  Slopes slopes, other;
};

CombinedLoss::CombinedLoss(const Network& network, const Descriptor& descriptor, const Neighbours& neighbours,
                           const AtomFeatures& atoms, const std::int64_t* order, const double* inverse_scale)
    : network_(network),
      descriptor_(descriptor),
      neighbours_(neighbours),
      atoms_(atoms),
      order_(order),
      inverse_scale_(inverse_scale) {}

bool CombinedLoss::has_forces(const Labels& labels, Index s) const {
  const double* begin = labels.force_weights + 3 * neighbours_.first_atom[s];
  const double* end = labels.force_weights + 3 * neighbours_.first_atom[s + 1];
  auto counts = [](double weight) { return weight > 0.0; };
  return std::any_of(begin, end, counts) ||
         std::any_of(labels.virial_weights + 6 * s, labels.virial_weights + 6 * (s + 1), counts);
}

void CombinedLoss::load(const double* parameters, const Labels& labels, const std::int64_t* chosen,
                        Index count, bool with_gradient, Block& block) const {
  const Mlp& mlp = network_.mlp();
  block.chosen = chosen;
  block.count = count;
  block.forces.clear();
  for (Index k = 0; k < count; ++k) block.forces.push_back(has_forces(labels, chosen[k]));
  block.any_forces = std::find(block.forces.begin(), block.forces.end(), true) != block.forces.end();
  block.species.resize(static_cast<std::size_t>(network_.n_species()));
  for (Index t = 0; t < network_.n_species(); ++t) {
    Block::OneSpecies& own = block.species[static_cast<std::size_t>(t)];
    own.first.assign(1, 0);
    for (Index k = 0; k < count; ++k)
      own.first.push_back(own.first.back() + atoms_.begin(t, chosen[k] + 1) - atoms_.begin(t, chosen[k]));
    own.features.resize(own.first.back(), atoms_.size);
    for (Index k = 0; k < count; ++k) {
      const Index begin = atoms_.begin(t, chosen[k]);
      const Index rows = atoms_.begin(t, chosen[k] + 1) - begin;
      own.features.middleRows(own.first[static_cast<std::size_t>(k)], rows) =
          ConstMatrixMap(atoms_.features + begin * atoms_.size, rows, atoms_.size);
    }
    const double* w = parameters + t * mlp.n_parameters();
    mlp.forward(w, {own.features.data(), own.features.rows(), atoms_.size}, own.pass,
                with_gradient && block.any_forces);
    if (with_gradient || block.any_forces) mlp.backward(w, own.pass, block.any_forces);
    if (!with_gradient) continue;
    own.factor.setZero(own.features.rows());
    if (block.any_forces) own.direction.setZero(own.features.rows(), atoms_.size);
  }
}

void CombinedLoss::predict(Block& block, Index k, Of what, Slopes& slopes) const {
  const Index s = block.chosen[k];
  const bool forces = block.forces[static_cast<std::size_t>(k)];
  const Index first_atom = neighbours_.first_atom[s];
  const Index n = neighbours_.first_atom[s + 1] - first_atom;
  slopes.energy = 0.0;
  if (forces) block.descriptors.resize(n, atoms_.size);
  for (Index t = 0; t < network_.n_species(); ++t) {
    const Block::OneSpecies& own = block.species[static_cast<std::size_t>(t)];
    const Index first = own.first[static_cast<std::size_t>(k)];
    const Index rows = own.first[static_cast<std::size_t>(k + 1)] - first;
    const Vector& energy = what == Of::energies ? own.pass.energy : own.pass.energy_tangent;
    slopes.energy += energy.segment(first, rows).sum();
    if (!forces) continue;
    const Mlp::Array& input = what == Of::energies ? own.pass.input : own.pass.input_tangent;
    const ConstVectorMap scale(inverse_scale_ + t * atoms_.size, atoms_.size);
    for (Index row = 0; row < rows; ++row)
      block.descriptors.row(order_[atoms_.begin(t, s) + row] - first_atom) =
          input.row(first + row).matrix().cwiseProduct(scale.transpose());
  }
  if (!forces) return;
  slopes.gradient.setZero(n, 3);
  slopes.virial.setZero();
  descriptor_.add_vjp(neighbours_, *block.surroundings, block.descriptors.data(), slopes.gradient.data(),
                      slopes.virial.data());
}

void CombinedLoss::pull_back(Block& block, Index k, const Slopes& slopes) const {
  const Index s = block.chosen[k];
  const bool forces = block.forces[static_cast<std::size_t>(k)];
  const Index first_atom = neighbours_.first_atom[s];
  if (forces)
    descriptor_.jvp(neighbours_, *block.surroundings, slopes.gradient.data(), slopes.virial.data(),
                    block.descriptors.data());
  for (Index t = 0; t < network_.n_species(); ++t) {
    Block::OneSpecies& own = block.species[static_cast<std::size_t>(t)];
    const Index first = own.first[static_cast<std::size_t>(k)];
    const Index rows = own.first[static_cast<std::size_t>(k + 1)] - first;
    own.factor.segment(first, rows).setConstant(slopes.energy);
    if (!forces) continue;
    const ConstVectorMap scale(inverse_scale_ + t * atoms_.size, atoms_.size);
    for (Index row = 0; row < rows; ++row)
      own.direction.row(first + row) = block.descriptors.row(order_[atoms_.begin(t, s) + row] - first_atom)
                                           .cwiseProduct(scale.transpose());
  }
}

template <class Adjoint>
void CombinedLoss::for_each_structure(const double* parameters, const Labels& labels,
                                      const std::int64_t* batch, Index batch_size, int n_threads,
                                      double* result, Adjoint&& adjoint) const {
  constexpr Index together = 8;  // structures in a block
  const Mlp& mlp = network_.mlp();
  const Index P = network_.n_parameters();
  const Index n_groups = group_count(batch_size);
  Matrix partial = Matrix::Zero(result == nullptr ? 0 : n_groups, P);
  std::vector<Block> blocks(static_cast<std::size_t>(std::max(n_threads, 1)));
  auto run = [&](Index group, int thread) {
    Block& block = blocks[static_cast<std::size_t>(thread)];
    if (block.surroundings == nullptr) block.surroundings = descriptor_.make_surroundings();
    const Index last = batch_size * (group + 1) / n_groups;
    for (Index begin = batch_size * group / n_groups; begin < last; begin += together) {
      load(parameters, labels, batch + begin, std::min(together, last - begin), result != nullptr, block);
      for (Index k = 0; k < block.count; ++k) {
        if (block.forces[static_cast<std::size_t>(k)])
          descriptor_.survey(neighbours_, block.chosen[k], *block.surroundings);
        adjoint(group, block, k);
        if (result != nullptr) pull_back(block, k, block.slopes);
      }
      if (result == nullptr) continue;
      for (Index t = 0; t < network_.n_species(); ++t) {
        Block::OneSpecies& own = block.species[static_cast<std::size_t>(t)];
        const ConstMatrixMap features(own.features.data(), own.features.rows(), atoms_.size);
        double* gradient = partial.row(group).data() + t * mlp.n_parameters();
        if (block.any_forces)
          mlp.add_second_gradient(parameters + t * mlp.n_parameters(), features, own.factor.data(),
                                  {own.direction.data(), features.rows(), atoms_.size}, own.pass, gradient);
        else
          mlp.add_gradient(features, own.factor.data(), own.pass, gradient);
      }
    }
  };
  // Starting a thread costs as much as a structure or two.
  parallel_for(n_groups, batch_size < 16 ? 1 : n_threads, run);
  if (result != nullptr) VectorMap(result, P) = partial.colwise().sum().transpose();
}

Index CombinedLoss::group_count(Index batch_size) { return std::clamp<Index>(batch_size / 8, 1, 64); }

void CombinedLoss::residuals(const Labels& labels, Index s, bool forces, Slopes& slopes,
                             LossParts& loss) const {
  const Huber energy(slopes.energy - labels.energies[s], labels.energy_threshold);
  const double energy_weight = labels.energy_weights[s];
  if (energy_weight > 0.0) loss.energy += energy_weight * energy.value;
  slopes.energy = energy_weight > 0.0 ? energy_weight * energy.slope : 0.0;
  if (!forces) return;
  const Index first = 3 * neighbours_.first_atom[s];
  for (Index c = 0; c < slopes.gradient.size(); ++c) {
    double& gradient = slopes.gradient.data()[c];
    const double weight = labels.force_weights[first + c];
    const Huber force(gradient + labels.forces[first + c], labels.force_threshold);
    if (weight > 0.0) loss.force += weight * force.value;
    gradient = weight > 0.0 ? weight * force.slope : 0.0;
  }
  Eigen::Matrix<double, 9, 1> slope = Eigen::Matrix<double, 9, 1>::Zero();
  for (int v = 0; v < 6; ++v) {
    const double weight = labels.virial_weights[6 * s + v];
    if (!(weight > 0.0)) continue;
    const double virial = 0.5 * (slopes.virial[voigt_first[v]] + slopes.virial[voigt_second[v]]);
    const Huber stress(virial - labels.virials[6 * s + v], labels.virial_threshold);
    loss.virial += weight * stress.value;
    slope[voigt_first[v]] += 0.5 * weight * stress.slope;
    slope[voigt_second[v]] += 0.5 * weight * stress.slope;
  }
  slopes.virial = slope;
}

LossParts CombinedLoss::evaluate(const double* parameters, const Labels& labels, const std::int64_t* batch,
                                 Index batch_size, int n_threads, double* gradient) const {
  std::vector<LossParts> parts(static_cast<std::size_t>(group_count(batch_size)));
  for_each_structure(parameters, labels, batch, batch_size, n_threads, gradient,
                     [&](Index group, Block& block, Index k) {
                       predict(block, k, Of::energies, block.slopes);
                       residuals(labels, block.chosen[k], block.forces[static_cast<std::size_t>(k)],
                                 block.slopes, parts[static_cast<std::size_t>(group)]);
                     });
  LossParts total;
  for (const LossParts& part : parts) total += part;
  return total;
}

void CombinedLoss::weigh(const Labels& labels, Index s, bool forces, const Slopes* at, Slopes& slopes) const {
  auto robust = [](double residual, double threshold) { return Huber(residual, threshold).weight; };
  slopes.energy *= labels.energy_weights[s];
  if (at != nullptr && labels.energy_weights[s] > 0.0)
    slopes.energy *= robust(at->energy - labels.energies[s], labels.energy_threshold);
  if (!forces) return;
  const Index first = 3 * neighbours_.first_atom[s];
  for (Index c = 0; c < slopes.gradient.size(); ++c) {
    double weight = labels.force_weights[first + c];
    if (at != nullptr && weight > 0.0)
      weight *= robust(at->gradient.data()[c] + labels.forces[first + c], labels.force_threshold);
    slopes.gradient.data()[c] *= weight;
  }
  Eigen::Matrix<double, 9, 1> weighted = Eigen::Matrix<double, 9, 1>::Zero();
  for (int v = 0; v < 6; ++v) {
    double weight = labels.virial_weights[6 * s + v];
    if (!(weight > 0.0)) continue;
    const int a = voigt_first[v];
    const int b = voigt_second[v];
    if (at != nullptr)
      weight *=
          robust(0.5 * (at->virial[a] + at->virial[b]) - labels.virials[6 * s + v], labels.virial_threshold);
    const double virial = 0.5 * (slopes.virial[a] + slopes.virial[b]);
    weighted[a] += 0.5 * weight * virial;
    weighted[b] += 0.5 * weight * virial;
  }
  slopes.virial = weighted;
}

void CombinedLoss::gauss_newton(const double* parameters, const Labels& labels, const std::int64_t* batch,
                                Index batch_size, const double* v, int n_threads, double* result) const {
  const Mlp& mlp = network_.mlp();
  const bool robust =
      std::isfinite(std::min({labels.energy_threshold, labels.force_threshold, labels.virial_threshold}));
  for_each_structure(
      parameters, labels, batch, batch_size, n_threads, result, [&](Index, Block& block, Index k) {
        if (k == 0)
          for (Index t = 0; t < network_.n_species(); ++t) {
            Block::OneSpecies& own = block.species[static_cast<std::size_t>(t)];
            mlp.parameter_tangent(parameters + t * mlp.n_parameters(), v + t * mlp.n_parameters(),
                                  {own.features.data(), own.features.rows(), atoms_.size}, own.pass,
                                  block.any_forces);
          }
        if (robust) predict(block, k, Of::energies, block.other);
        predict(block, k, Of::tangents, block.slopes);
        weigh(labels, block.chosen[k], block.forces[static_cast<std::size_t>(k)],
              robust ? &block.other : nullptr, block.slopes);
      });
}

void CombinedLoss::adjoint_product(const double* parameters, const Labels& labels, const std::int64_t* batch,
                                   Index batch_size, const double* energies, const double* forces,
                                   const double* virials, int n_threads, double* result) const {
  for_each_structure(
      parameters, labels, batch, batch_size, n_threads, result, [&](Index, Block& block, Index k) {
        const Index s = block.chosen[k];
        const Index first = 3 * neighbours_.first_atom[s];
        Slopes& slopes = block.slopes;
        slopes.energy = std::sqrt(labels.energy_weights[s]) * energies[s];
        if (!block.forces[static_cast<std::size_t>(k)]) return;
        slopes.gradient.resize(neighbours_.atoms_of(s), 3);
        block.descriptors.resize(slopes.gradient.rows(), atoms_.size);
        for (Index c = 0; c < slopes.gradient.size(); ++c)
          slopes.gradient.data()[c] = -std::sqrt(labels.force_weights[first + c]) * forces[first + c];
        slopes.virial.setZero();
        for (int v = 0; v < 6; ++v) {
          const double pulled = 0.5 * std::sqrt(labels.virial_weights[6 * s + v]) * virials[6 * s + v];
          slopes.virial[voigt_first[v]] += pulled;
          slopes.virial[voigt_second[v]] += pulled;
        }
      });
}

}  // namespace gprann
