#pragma once

#include <functional>

namespace gprann {

/// Calls task(0) here and task(1), ..., task(helpers) on threads that wait for work from one call to the
/// next; returns when all have ended. A task that no thread has begun when task(0) ends is left out: what it
/// would have taken has been done by then. Any number of threads may call at once, and tasks may call again.
/// A task must not throw.
void run_on_threads(int helpers, const std::function<void(int)>& task);

}  // namespace gprann
