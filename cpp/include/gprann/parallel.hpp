#pragma once

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>

#include "gprann/thread_pool.hpp"
#include "gprann/types.hpp"

namespace gprann {

/// Calls `work(item, thread)` for every item in [0, n_items) on at most `n_threads` threads (at least one).
///
/// Items are handed out one by one, so any of them may run on any thread: `work` must write to places that
/// belong to the item alone, and sums over items are taken afterwards in the order of the items. Then the
/// result has the same bits for every number of threads. `thread` counts from 0 and selects a workspace.
/// Threads wait for work from one call to the next; starting them each time would cost as much as a few
/// atoms. An exception thrown by `work` stops the hand-out and is rethrown on the caller.
template <class Work>
void parallel_for(Index n_items, int n_threads, Work&& work) {
  const int used = static_cast<int>(std::min<Index>(std::max(n_threads, 1), n_items));
  if (used <= 1) {
    for (Index item = 0; item < n_items; ++item) work(item, 0);
    return;
  }
  std::atomic<Index> next{0};
  std::exception_ptr failure;
  std::mutex failure_lock;
  auto run = [&](int thread) {
    try {
      for (Index item = next++; item < n_items; item = next++) work(item, thread);
    } catch (...) {
      const std::lock_guard<std::mutex> guard(failure_lock);
      if (!failure) failure = std::current_exception();
      next = n_items;
    }
  };
  run_on_threads(used - 1, run);
  if (failure) std::rethrow_exception(failure);
}

/// Number of pieces of `chunk` items that cover `n` items; the last piece may be shorter.
inline Index chunk_count(Index n, Index chunk) { return (n + chunk - 1) / chunk; }

}  // namespace gprann
