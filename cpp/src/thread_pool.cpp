#include "gprann/thread_pool.hpp"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <system_error>
#include <thread>

#ifndef _WIN32
#include <unistd.h>
#endif

namespace gprann {

namespace {

long process_id() {
#ifdef _WIN32
  return 0;
#else
  return static_cast<long>(getpid());
#endif
}

/// One call of `run_on_threads`; lives on the stack of the caller.
struct Call {
  const std::function<void(int)>& task;
  int running = 0;
  std::condition_variable ended;
};

class Pool {
 public:
  void run(int helpers, const std::function<void(int)>& task) {
    Call call{task, 0, {}};
    {
      const std::lock_guard<std::mutex> guard(lock_);
      for (int thread = 1; thread <= helpers; ++thread) waiting_.push_back({&call, thread});
      while (idle_ < static_cast<int>(waiting_.size()) && start_thread()) ++idle_;
    }
    wake_.notify_all();
    task(0);
    std::unique_lock<std::mutex> guard(lock_);
    waiting_.erase(std::remove_if(waiting_.begin(), waiting_.end(),
                                  [&](const Item& item) { return item.call == &call; }),
                   waiting_.end());
    call.ended.wait(guard, [&] { return call.running == 0; });
  }

 private:
  struct Item {
    Call* call;
    int thread;
  };

  /// False where the system gives no more threads: the caller then does the work alone.
  bool start_thread() {
    try {
      std::thread([this] { serve(); }).detach();
    } catch (const std::system_error&) {
      return false;
    }
    return true;
  }

  void serve() {
    std::unique_lock<std::mutex> guard(lock_);
    for (;;) {
      wake_.wait(guard, [&] { return !waiting_.empty(); });
      const Item item = waiting_.front();
      waiting_.pop_front();
      --idle_;
      ++item.call->running;
      guard.unlock();
      item.call->task(item.thread);
      guard.lock();
      ++idle_;
      if (--item.call->running == 0) item.call->ended.notify_all();
    }
  }

  std::mutex lock_;
  std::condition_variable wake_;
  std::deque<Item> waiting_;
  int idle_ = 0;  // threads that wait for work, those that are about to included
};

struct Owned {
  long process;
  Pool pool;
};

/// The pool of this process. It is never destroyed: its threads end with the process, whatever the order in
/// which libraries are taken down. A forked process has none of its parent's threads and makes its own.
Pool& pool() {
  static std::atomic<Owned*> current{nullptr};
  Owned* found = current.load();
  const long process = process_id();
  while (found == nullptr || found->process != process) {
    auto* fresh = new Owned{process, {}};
    if (current.compare_exchange_strong(found, fresh)) return fresh->pool;
    delete fresh;
  }
  return found->pool;
}

}  // namespace

void run_on_threads(int helpers, const std::function<void(int)>& task) {
  if (helpers <= 0)
    task(0);
  else
    pool().run(helpers, task);
}

}  // namespace gprann
