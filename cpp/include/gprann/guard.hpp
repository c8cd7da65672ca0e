#pragma once

#include "gprann/types.hpp"

namespace gprann {

// clang-format off
/// How far environments lie outside those of a training set: the length of
///
///     z = T_t^T g + b_t,
///
/// g the standardised descriptor of an atom of species t. T and b whiten the training environments and scale
/// the edge of what was seen to 1.
// clang-format on
class Guard {
 public:
  /// factors T: (S, D, R); offset b: (S, R); R a multiple of the lane width. Both must outlive this.
  Guard(const double* factors, const double* offset, Index n_species, Index size, Index rank)
      : factors_(factors), offset_(offset), n_species_(n_species), size_(size), rank_(rank) {}

  Index n_species() const { return n_species_; }
  Index size() const { return size_; }

  /// Grades of `rows` atoms of one species from their features (rows, D); those of an atom have the same bits
  /// whichever atoms stand beside it.
  void grade(Index species, const double* features, Index rows, double* grades) const;

 private:
  const double* factors_;
  const double* offset_;
  Index n_species_, size_, rank_;
};

}  // namespace gprann
