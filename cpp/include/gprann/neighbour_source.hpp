#pragma once

#include <vector>

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

/// The lists of a few atoms that one thread makes, atom by atom, and their memory.
struct ListBlock {
  std::vector<std::int64_t> first_pair;
  std::vector<std::int32_t> neighbour;
  std::vector<double> vectors;
  Neighbours view;

  /// Makes room for `more` pairs behind the first `n_pairs`.
  void reserve(std::size_t n_pairs, std::size_t more) {
    const std::size_t room = n_pairs + more;
    if (neighbour.size() >= room) return;
    neighbour.resize(2 * room);
    vectors.resize(6 * room);
  }

  /// Lists of the atoms from `begin` to `end`; add(atom, n_pairs) appends the pairs of an atom and returns
  /// how many there are then.
  template <class Add>
  const Neighbours& fill(const Neighbours& batch, Index begin, Index end, Add&& add) {
    first_pair.resize(static_cast<std::size_t>(end - begin + 1));
    std::size_t n_pairs = 0;
    for (Index atom = begin; atom < end; ++atom) {
      first_pair[static_cast<std::size_t>(atom - begin)] = static_cast<std::int64_t>(n_pairs);
      n_pairs = add(atom, n_pairs);
    }
    first_pair.back() = static_cast<std::int64_t>(n_pairs);
    view = batch;
    view.first_pair = first_pair.data() - begin;
    view.neighbour = neighbour.data();
    view.vectors = vectors.data();
    return view;
  }
};

}  // namespace gprann
