#pragma once

#include <optional>
#include <string>
#include <vector>

#include "gprann/committee.hpp"
#include "gprann/guard.hpp"
#include "position_lists.hpp"
#include "stored_potential.hpp"

namespace gprann {

/// A potential and the memory of its evaluations: what `gprann_potential` points to.
class Evaluation {
 public:
  explicit Evaluation(StoredPotential potential);
  Evaluation(const Evaluation&) = delete;
  Evaluation& operator=(const Evaluation&) = delete;

  const StoredPotential& potential() const { return potential_; }
  double cutoff() const { return cutoff_; }

  /// Raises `Failure` or whatever the core does.
  void run(const gprann_atoms& atoms, int n_threads, const gprann_results& results);

 private:
  void add_networks(int n_threads, bool atom_virials, double* grades);
  void add_repulsion(bool atom_virials);
  void write_energies(const gprann_results& results) const;
  void write_atom_energies(const gprann_results& results) const;
  void write_forces(const gprann_results& results) const;
  void write_virials(const gprann_results& results) const;

  StoredPotential potential_;
  double cutoff_, near_;
  std::optional<Guard> guard_;
  Committee committee_;
  Committee::Workspace workspace_;
  PositionLists lists_;
  Index n_atoms_ = 0, n_centres_ = 0;
  // Networks in units of the energy scale, then all in eV.
  std::vector<double> energies_;      // (members, n_centres)
  std::vector<double> gradients_;     // (members, n_atoms, 3)
  std::vector<double> virials_;       // (members, 9)
  std::vector<double> atom_virials_;  // (n_atoms, 9), mean
};

}  // namespace gprann
