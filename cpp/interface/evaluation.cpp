#include "evaluation.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

namespace gprann {

namespace {

double nearest_cutoff(const StoredPotential& potential) {
  double cutoff = 0.0;
  for (const ScreenedRepulsion& repulsion : potential.repulsions)
    cutoff = std::max(cutoff, repulsion.cutoff());
  return cutoff;
}

std::optional<Guard> make_guard(const StoredPotential& potential) {
  if (potential.guard_factors.empty()) return std::nullopt;
  const Index n_species = static_cast<Index>(potential.species.size());
  return Guard(potential.guard_factors.data(), potential.guard_offset.data(), n_species,
               potential.descriptor->size(), static_cast<Index>(potential.guard_offset.size()) / n_species);
}

/// Mean and standard deviation of numbers that stand `stride` apart.
struct Spread {
  Spread(const double* values, Index n, Index stride) {
    for (Index k = 0; k < n; ++k) mean += values[k * stride];
    mean /= static_cast<double>(n);
    for (Index k = 0; k < n; ++k) deviation += (values[k * stride] - mean) * (values[k * stride] - mean);
    deviation = std::sqrt(deviation / static_cast<double>(n));
  }
  double mean = 0.0, deviation = 0.0;
};

}  // namespace

Evaluation::Evaluation(StoredPotential potential)
    : potential_(std::move(potential)),
      cutoff_(potential_.cutoff()),
      near_(nearest_cutoff(potential_)),
      guard_(make_guard(potential_)),
      committee_(*potential_.model, *potential_.descriptor, potential_.mean.data(),
                 potential_.inverse_scale.data(), guard_ ? &*guard_ : nullptr) {}

void Evaluation::run(const gprann_atoms& atoms, int n_threads, const gprann_results& results) {
  const bool atom_virials = results.atom_virials != nullptr;
  lists_.set(atoms, static_cast<int>(potential_.species.size()), cutoff_, near_);
  n_atoms_ = atoms.n_atoms;
  n_centres_ = atoms.n_centres;
  if (results.grades != nullptr && !guard_) std::fill_n(results.grades, n_centres_, 0.0);
  add_networks(n_threads, atom_virials, results.grades);
  add_repulsion(atom_virials);
  write_energies(results);
  write_atom_energies(results);
  write_forces(results);
  write_virials(results);
}

void Evaluation::add_networks(int n_threads, bool atom_virials, double* grades) {
  const Index members = potential_.members;
  energies_.resize(static_cast<std::size_t>(members * n_centres_));
  gradients_.resize(static_cast<std::size_t>(members * n_atoms_ * 3));
  virials_.resize(static_cast<std::size_t>(members * 9));
  atom_virials_.resize(static_cast<std::size_t>(atom_virials ? n_atoms_ * 9 : 0));
  committee_.evaluate(potential_.parameters.data(), members, {lists_.batch(), &lists_, n_centres_}, n_threads,
                      workspace_,
                      {energies_.data(), gradients_.data(), virials_.data(),
                       atom_virials ? atom_virials_.data() : nullptr, grades});
  const double scale = potential_.energy_scale;
  for (double& value : gradients_) value *= scale;
  for (double& value : virials_) value *= scale;
  for (double& value : atom_virials_) value *= scale / static_cast<double>(members);
  for (Index member = 0; member < members; ++member)
    for (Index i = 0; i < n_centres_; ++i) {
      double& energy = energies_[static_cast<std::size_t>(member * n_centres_ + i)];
      energy = energy * scale + potential_.reference[static_cast<std::size_t>(lists_.batch().species[i])];
    }
}

/// Half of the energy of each pair, as every pair of centres stands in both lists.
void Evaluation::add_repulsion(bool atom_virials) {
  if (potential_.repulsions.empty()) return;
  const std::int32_t* species = lists_.batch().species;
  for (const NearPair& pair : lists_.near_pairs()) {
    const double* v = pair.vector;
    const double r = std::sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]);
    for (const ScreenedRepulsion& repulsion : potential_.repulsions) {
      double energy = 0.0, slope = 0.0;
      repulsion.pair(species[pair.centre], species[pair.neighbour], r, energy, slope);
      for (Index member = 0; member < potential_.members; ++member) {
        energies_[static_cast<std::size_t>(member * n_centres_ + pair.centre)] += 0.5 * energy;
        double* gradient = gradients_.data() + member * n_atoms_ * 3;
        for (Index a = 0; a < 3; ++a) {
          const double g = 0.5 * slope / r * v[a];
          gradient[3 * pair.neighbour + a] += g;
          gradient[3 * pair.centre + a] -= g;
          for (Index b = 0; b < 3; ++b)
            virials_[static_cast<std::size_t>(9 * member + 3 * b + a)] += v[b] * g;
        }
      }
      for (Index k = 0; atom_virials && k < 9; ++k)
        atom_virials_[static_cast<std::size_t>(9 * pair.neighbour + k)] +=
            0.5 * slope / r * v[k / 3] * v[k % 3];
    }
  }
}

void Evaluation::write_energies(const gprann_results& results) const {
  std::vector<double> sums(static_cast<std::size_t>(potential_.members), 0.0);
  for (std::size_t member = 0; member < sums.size(); ++member)
    for (Index i = 0; i < n_centres_; ++i)
      sums[member] += energies_[member * static_cast<std::size_t>(n_centres_) + static_cast<std::size_t>(i)];
  const Spread spread(sums.data(), potential_.members, 1);
  if (results.energy != nullptr) *results.energy = spread.mean;
  if (results.energy_std != nullptr) *results.energy_std = potential_.energy_std_factor * spread.deviation;
  if (results.member_energies != nullptr) std::copy(sums.begin(), sums.end(), results.member_energies);
}

void Evaluation::write_atom_energies(const gprann_results& results) const {
  if (results.atom_energies == nullptr && results.atom_energies_std == nullptr) return;
  for (Index i = 0; i < n_centres_; ++i) {
    const Spread spread(energies_.data() + i, potential_.members, n_centres_);
    if (results.atom_energies != nullptr) results.atom_energies[i] = spread.mean;
    if (results.atom_energies_std != nullptr)
      results.atom_energies_std[i] = potential_.energy_std_factor * spread.deviation;
  }
}

void Evaluation::write_forces(const gprann_results& results) const {
  const Index members = potential_.members, size = 3 * n_atoms_;
  if (results.forces != nullptr && members == 1 && lists_.same_numbers()) {
    for (Index k = 0; k < size; ++k) results.forces[k] = -gradients_[static_cast<std::size_t>(k)];
  } else if (results.forces != nullptr || results.forces_std != nullptr) {
    for (Index k = 0; k < size; ++k) {
      const Spread spread(gradients_.data() + k, members, size);
      const Index at = 3 * lists_.given(k / 3) + k % 3;
      if (results.forces != nullptr) results.forces[at] = -spread.mean;
      if (results.forces_std != nullptr)
        results.forces_std[at] = potential_.force_std_factor * spread.deviation;
    }
  }
  if (results.forces_std != nullptr && members == 1 && lists_.same_numbers())
    std::fill_n(results.forces_std, size, 0.0);
  if (results.member_forces == nullptr) return;
  for (Index member = 0; member < members; ++member)
    for (Index k = 0; k < size; ++k)
      results.member_forces[member * size + 3 * lists_.given(k / 3) + k % 3] =
          -gradients_[static_cast<std::size_t>(member * size + k)];
}

/// Counted as forces are: minus the derivatives by the strain.
void Evaluation::write_virials(const gprann_results& results) const {
  for (Index k = 0; results.virial != nullptr && k < 9; ++k)
    results.virial[k] = -Spread(virials_.data() + k, potential_.members, 9).mean;
  if (results.atom_virials == nullptr) return;
  for (Index i = 0; i < n_atoms_; ++i)
    for (Index k = 0; k < 9; ++k)
      results.atom_virials[9 * lists_.given(i) + k] = -atom_virials_[static_cast<std::size_t>(9 * i + k)];
}

}  // namespace gprann
