#pragma once

#include "gprann/neighbours.hpp"

namespace gprann {

/// Neighbour lists of one structure that are made when they are needed, a few atoms at a time, so that they
/// stay in the cache.
class NeighbourSource {
 public:
  virtual ~NeighbourSource() = default;
  NeighbourSource() = default;
  NeighbourSource(const NeighbourSource&) = delete;
  NeighbourSource& operator=(const NeighbourSource&) = delete;

  /// Makes room for the threads from 0 to n_threads - 1.
  virtual void prepare(int n_threads) = 0;
  /// Lists of which those of the atoms from `begin` to `end` may be read, until the next call on this thread.
  virtual const Neighbours& lists(Index begin, Index end, int thread) = 0;
};

}  // namespace gprann
