#pragma once

#include "gprann/descriptor.hpp"
#include "gprann/guard.hpp"
#include "gprann/network.hpp"

namespace gprann {

struct GradientPiece;

/// Networks of one shape on one descriptor, in use: energies, forces and virials of all members from one look
/// at the neighbours of each atom. A few dozen atoms at a time, so that everything between neighbour list and
/// forces stays in the cache: values, networks forward and back, one sweep over the neighbours for each
/// member.
class Committee {
 public:
  /// mean, inverse_scale: (S, D), g = (G - mean) inverse_scale. guard: grades every atom, or null. All must
  /// outlive this.
  Committee(const Network& network, const Descriptor& descriptor, const double* mean,
            const double* inverse_scale, const Guard* guard = nullptr)
      : network_(network),
        descriptor_(descriptor),
        mean_(mean),
        inverse_scale_(inverse_scale),
        guard_(guard) {}

  const Network& network() const { return network_; }
  const Descriptor& descriptor() const { return descriptor_; }

  /// parameters: (members, P); energies: (members, n_atoms); gradients dE/dR: (members, n_atoms, 3);
  /// virials dE/d(strain): (members, n_structures, 9); grades: (n_atoms) of the guard, or null. The same bits
  /// for any number of threads.
  void evaluate(const double* parameters, Index members, const Neighbours& batch, int n_threads,
                double* energies, double* gradients, double* virials, double* grades = nullptr) const;

 private:
  struct Work;

  void evaluate_piece(const double* parameters, Index members, const Neighbours& batch, Work& work,
                      GradientPiece& piece, double* energies, double* grades) const;
  void grade_block(Work& work, double* grades) const;
  void sort_by_species(const Neighbours& batch, Index begin, Index count, Work& work) const;

  const Network& network_;
  const Descriptor& descriptor_;
  const double* mean_;
  const double* inverse_scale_;
  const Guard* guard_;
};

}  // namespace gprann
