#pragma once

#include <array>
#include <vector>

#include "gprann/types.hpp"

namespace gprann {

/// Neighbour lists of one structure that moves, by linked cells in time O(N), for any cell and any atom,
/// however far outside of it.
///
/// Candidates are the pairs within `cutoff + skin`. They are kept until an atom has moved by half the skin,
/// or the cell, the periodic directions or the number of atoms change. What is given out are always the pairs
/// within the cutoff, sorted by atom, neighbour and image, with vectors from the positions of now: to the
/// last bit the same whenever the candidates were found. So a simulation that is resumed needs nothing of the
/// lists before.
class VerletList {
 public:
  VerletList(double cutoff, double skin) : cutoff_(cutoff), skin_(skin) {}

  /// positions (n, 3), cell (3, 3) with rows as lattice vectors, Å; periodic (3). Returns whether candidates
  /// were looked for. Throws std::domain_error if a position is not finite or too many cells away.
  bool update(const double* positions, Index n_atoms, const double* cell, const std::uint8_t* periodic);

  Index n_pairs() const { return first_pair_.back(); }
  const std::vector<std::int64_t>& first_pair() const { return first_pair_; }  // (n + 1)
  const std::int32_t* neighbour() const { return neighbour_.data(); }          // (n_pairs)
  const double* vectors() const { return vectors_.data(); }                    // (n_pairs, 3), Å
  Index n_candidates() const { return static_cast<Index>(candidates_.size()); }

  /// The shortest pair and its atom, or -1 if there is none.
  std::int64_t nearest_pair() const { return nearest_pair_; }
  Index nearest_atom() const { return nearest_atom_; }

 private:
  using Image = std::array<std::int16_t, 3>;
  struct Candidate {
    std::int32_t neighbour;
    Image image;
  };
  struct Bins;

  bool is_valid(const double* positions, Index n_atoms, const double* cell,
                const std::uint8_t* periodic) const;
  void search(double reach);
  void sort_candidates(const std::vector<Candidate>& found, const std::vector<std::int64_t>& first);
  void measure(const double* positions);

  double cutoff_, skin_;
  double used_skin_ = 0.0;           // of the candidates
  std::vector<double> positions_;    // when the candidates were found
  std::array<double, 9> cell_ = {};  // of the candidates
  std::array<std::uint8_t, 3> periodic_ = {};
  std::vector<std::int64_t> first_candidate_ = {0};
  std::vector<Candidate> candidates_;
  std::vector<std::int64_t> first_pair_ = {0};
  std::vector<std::int32_t> neighbour_;
  std::vector<double> vectors_;
  std::int64_t nearest_pair_ = -1;
  Index nearest_atom_ = -1;
};

}  // namespace gprann
