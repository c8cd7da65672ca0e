#pragma once

#include <stdexcept>
#include <utility>

#include "gprann/verlet_list.hpp"
#include "owned.hpp"

namespace gprann::bindings {

/// The neighbour lists of a structure that moves.
struct MovingNeighbours {
  VerletList list;
  Int32s kinds;
  std::int64_t first_atoms[2] = {0, 0};

  MovingNeighbours(Int32s kinds_, double cutoff, double skin) : list(cutoff, skin), kinds(std::move(kinds_)) {
    if (!(cutoff > 0.0)) throw std::invalid_argument("cutoff must be positive");
    if (!(skin >= 0.0)) throw std::invalid_argument("skin must not be negative");
    first_atoms[1] = kinds.size();
  }

  /// The structure, without lists unless they have been made.
  Neighbours view() const {
    if (list.n_atoms() != kinds.size()) throw std::invalid_argument("update has not been called");
    Neighbours batch = {1, kinds.size(), first_atoms, nullptr, nullptr, nullptr, kinds.data()};
    if (list.measured()) {
      batch.first_pair = list.first_pair().data();
      batch.neighbour = list.neighbour();
      batch.vectors = list.vectors();
    }
    return batch;
  }
};

}  // namespace gprann::bindings
