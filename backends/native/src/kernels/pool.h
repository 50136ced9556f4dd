// A small persistent thread pool: parallel loops over a few tasks, callers take part, nobody spins.
#pragma once

#include <cstdint>
#include <exception>
#include <type_traits>

namespace lstsq::kernels {

// The number of threads in use: LSTSQ_NUM_THREADS if it is set to a positive number, else the cores this process may
// run on, of Apple's processors the fast ones. Read once.
int thread_count();

// The first use of exceptions in a thread takes a little memory, and ends the process if there is none. A thread calls
// this early, before its work has taken the memory.
inline void prepare_for_exceptions() {
  [[maybe_unused]] const volatile int none = std::uncaught_exceptions();
}

namespace detail {
void parallel(int64_t tasks, void (*call)(void*, int64_t), void* context);
}

// Call f(0), ..., f(tasks - 1), spread over the pool's threads and this one; return when all are done. Where another
// caller has the pool, or f is itself inside a parallel loop, this thread runs all the tasks. If f throws, no more
// tasks are begun, and the first exception is thrown here when no thread is at work on f any more.
template <class F>
void parallel(int64_t tasks, F&& f) {
  using Fn = std::remove_reference_t<F>;
  detail::parallel(
      tasks,
      [](void* context, int64_t task) { (*static_cast<Fn*>(context))(task); },
      const_cast<void*>(static_cast<const void*>(&f)));
}

}  // namespace lstsq::kernels
