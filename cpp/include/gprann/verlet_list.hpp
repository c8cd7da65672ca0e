#pragma once

#include <array>
#include <limits>
#include <vector>

#include "gprann/neighbour_source.hpp"
#include "gprann/types.hpp"

namespace gprann {

/// A short pair: its atoms and the square of its length, Å^2.
struct NearestPair {
  Index atom = -1, neighbour = -1;
  double squared = std::numeric_limits<double>::infinity();

  /// Whether this pair stands before the other one: shorter, or as long and of an earlier atom.
  bool precedes(const NearestPair& other) const {
    return squared < other.squared || (squared == other.squared && atom < other.atom);
  }
};

/// Neighbour lists of one structure that moves, by linked cells in time O(N), for any cell and any atom,
/// however far outside of it.
///
// clang-format off
/// Candidates are the pairs within `cutoff + skin`. They are kept until atoms or cell have moved so far that
/// one may be missing, or the periodic directions or the number of atoms change. With the strain F of the cell
/// since then, h' = h F, and the displacements u_i = x'_i - x_i F a pair within the cutoff was shorter than (cutoff + 2 max |u|) / s before, s the smallest singular value of F: the lists hold while
///
///     cutoff + 2 max |u| <= s (cutoff + skin).
///
/// What is given out are always the pairs within the cutoff, sorted by atom, neighbour and image, with vectors
/// from the positions of now: to the last bit the same whenever the candidates were found. So a simulation
/// that is resumed needs nothing of the lists before.
// clang-format on
class VerletList {
 public:
  VerletList(double cutoff, double skin) : cutoff_(cutoff), skin_(skin) {}

  /// positions (n, 3), cell (3, 3) with rows as lattice vectors, Å; periodic (3). Returns whether candidates
  /// were looked for. The pairs of now are known after `measure` alone, or through a `VerletSource`. Throws
  /// std::domain_error if a position is not finite or too many cells away.
  bool update(const double* positions, Index n_atoms, const double* cell, const std::uint8_t* periodic);

  /// Makes the lists of the positions of now, unless they are there.
  void measure();
  bool measured() const { return measured_; }

  Index n_atoms() const { return static_cast<Index>(now_.size()) / 3; }
  Index n_pairs() const { return first_pair_.back(); }
  const std::vector<std::int64_t>& first_pair() const { return first_pair_; }  // (n + 1)
  const std::int32_t* neighbour() const { return neighbour_.data(); }          // (n_pairs)
  const double* vectors() const { return vectors_.data(); }                    // (n_pairs, 3), Å
  Index n_candidates() const { return static_cast<Index>(candidates_.size()); }

  /// The shortest pair within the cutoff, if it is known: after `measure` or `set_nearest`.
  bool nearest_known() const { return nearest_known_; }
  const NearestPair& nearest() const { return nearest_; }
  void set_nearest(const NearestPair& pair) {
    nearest_ = pair;
    nearest_known_ = true;
  }
  /// A length that no pair is below, from the shortest pair before and the way of the atoms since; 0 if
  /// nothing is known. Å.
  double lower_bound() const { return lower_bound_; }

 private:
  friend class VerletSource;
  using Image = std::array<std::int16_t, 3>;
  struct Candidate {
    std::int32_t neighbour;
    Image image;
  };
  struct Bins;

  bool is_valid(const double* positions, Index n_atoms, const double* cell,
                const std::uint8_t* periodic) const;
  double bound_shortest(const double* positions, Index n_atoms, const double* cell,
                        const std::uint8_t* periodic) const;
  void search(double reach);
  void sort_candidates(const std::vector<Candidate>& found, const std::vector<std::int64_t>& first);
  Index n_candidates(Index atom) const {
    return first_candidate_[static_cast<std::size_t>(atom + 1)] -
           first_candidate_[static_cast<std::size_t>(atom)];
  }
  Index write_pairs(Index atom, std::int32_t* neighbour, double* vectors, NearestPair& nearest) const;

  double cutoff_, skin_;
  std::vector<double> now_;              // positions of the last update
  std::array<double, 9> cell_now_ = {};  // of the last update
  std::array<double, 9> full_cell_ =
      {};  // the same with directions that are not periodic, see `complete_cell`
  double lower_bound_ = 0.0;
  bool measured_ = false, nearest_known_ = false;
  NearestPair nearest_;
  std::vector<double> positions_;    // when the candidates were found
  std::array<double, 9> cell_ = {};  // of the candidates
  std::array<std::uint8_t, 3> periodic_ = {};
  std::vector<std::int64_t> first_candidate_ = {0};
  std::vector<Candidate> candidates_;
  std::vector<std::int64_t> first_pair_ = {0};
  std::vector<std::int32_t> neighbour_;
  std::vector<double> vectors_;
};

/// The pairs of a `VerletList` a few atoms at a time.
class VerletSource final : public NeighbourSource {
 public:
  /// batch: the structure without lists. Both must outlive this.
  VerletSource(const VerletList& list, const Neighbours& batch) : list_(list), batch_(batch) {}

  /// The shortest of the pairs that were given out.
  NearestPair nearest() const;

  void prepare(int n_threads) override;
  const Neighbours& lists(Index begin, Index end, int thread) override;

 private:
  /// What one thread works with.
  struct Block : ListBlock {
    NearestPair nearest;
  };

  const VerletList& list_;
  const Neighbours& batch_;
  std::vector<Block> blocks_;
};

}  // namespace gprann
