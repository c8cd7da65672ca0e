#pragma once

#include <cstdint>
#include <vector>

#include "gprann.h"
#include "gprann/neighbour_source.hpp"

namespace gprann {

/// Two atoms that are nearer than the `near` distance of `PositionLists`.
struct NearPair {
  std::int32_t centre, neighbour;
  double vector[3];
};

/// Neighbour lists from positions and index lists of a program: the pairs within the cutoff. Atoms are
/// numbered anew where the centres are not the first ones.
class PositionLists final : public NeighbourSource {
 public:
  /// Takes what is to be evaluated; raises `Failure` where it is impossible. The arrays must outlive the
  /// evaluation.
  void set(const gprann_atoms& atoms, int n_species, double cutoff, double near);

  /// The structure without lists.
  const Neighbours& batch() const { return batch_; }
  /// Number that the program gives to an atom.
  Index given(Index atom) const { return given_.empty() ? atom : given_[static_cast<std::size_t>(atom)]; }
  /// Whether atoms have the numbers that the program gives them.
  bool same_numbers() const { return given_.empty(); }
  /// Pairs within the near distance that `lists` has come across since `set`, in the order of centres and
  /// lists.
  const std::vector<NearPair>& near_pairs();

  void prepare(int n_threads) override;
  const Neighbours& lists(Index begin, Index end, int thread) override;

 private:
  /// What one thread works with.
  struct Block : ListBlock {
    std::vector<NearPair> near;
  };

  void renumber(const gprann_atoms& atoms);
  std::size_t add_atom(Index atom, Block& block, std::size_t n_pairs) const;
  void add_near_pairs(Index atom, std::size_t first, std::size_t end, Block& block) const;

  gprann_atoms atoms_{};
  double squared_ = 0.0, near_squared_ = 0.0;
  const double* positions_ = nullptr;
  std::vector<std::int32_t> given_,
      place_;  // given number of each atom, and the reverse; empty where they agree
  std::vector<double> own_positions_;
  std::vector<std::int32_t> species_;
  std::int64_t first_atom_[2] = {0, 0};
  Neighbours batch_;
  std::vector<Block> blocks_;
  std::vector<NearPair> near_pairs_;
};

}  // namespace gprann
