#pragma once

#include <memory>

#include "gprann/types.hpp"

namespace gprann {

/// The energy of an atom as a function of its standardised descriptor, eps_t(g), with one parameter vector
/// for all species. What evaluations see of networks and of polynomials.
class AtomModel {
 public:
  /// Arrays that `evaluate` needs. One for each thread.
  class Workspace {
   public:
    Workspace() = default;
    Workspace(const Workspace&) = delete;
    Workspace& operator=(const Workspace&) = delete;
    virtual ~Workspace() = default;
  };

  /// Results for n atoms, which stand in the workspace until the next call.
  struct Result {
    const double* energies;  // (n)
    const double* slopes;    // (n, D): d eps / d g
  };

  AtomModel() = default;
  AtomModel(const AtomModel&) = default;
  AtomModel(AtomModel&&) = default;
  AtomModel& operator=(const AtomModel&) = default;
  AtomModel& operator=(AtomModel&&) = default;
  virtual ~AtomModel() = default;

  virtual Index n_species() const = 0;
  /// Components of the descriptor, D.
  virtual Index input_size() const = 0;
  /// Of all species, P.
  virtual Index n_parameters() const = 0;

  virtual std::unique_ptr<Workspace> make_workspace() const = 0;

  /// parameters: (P); features: (n, D), atoms of one species.
  virtual Result evaluate(const double* parameters, Index species, ConstMatrixMap features,
                          Workspace& workspace) const = 0;
};

}  // namespace gprann
