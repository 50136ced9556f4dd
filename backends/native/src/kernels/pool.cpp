#include "pool.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <new>
#include <thread>

#ifdef __linux__
#include <sched.h>
#endif
#ifdef __APPLE__
#include <sys/sysctl.h>
#endif
#ifndef _WIN32
#include <unistd.h>
#endif

namespace lstsq::kernels {

namespace {

int available_cores() {
#ifdef __linux__
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
#endif
#ifdef __APPLE__
  // The fast cores alone, where there are two kinds: shares are equal, and a slow core keeps the others waiting.
  int fast = 0;
  std::size_t size = sizeof fast;
  if (sysctlbyname("hw.perflevel0.logicalcpu", &fast, &size, nullptr, 0) == 0 && fast > 0) return fast;
#endif
  return std::max(1u, std::thread::hardware_concurrency());
}

int process_id() {
#ifdef _WIN32
  return 0;  // no fork there
#else
  return static_cast<int>(getpid());
#endif
}

struct Job {
  int64_t tasks;
  void (*call)(void*, int64_t);
  void* context;
  std::atomic<int64_t> next{0};
  std::atomic<bool> failed{false};
  std::exception_ptr error{};  // the first; read by the caller when nobody is at work any more

  // Keeps what a task throws, since it must not leave a helper, nor leave the caller while helpers are at work.
  void work() noexcept {
    try {
      for (int64_t task; (task = next.fetch_add(1, std::memory_order_relaxed)) < tasks;) call(context, task);
    } catch (...) {
      if (!failed.exchange(true)) error = std::current_exception();
      next.store(tasks, std::memory_order_relaxed);  // those that nobody has begun are left out
    }
  }
};

class Pool {
 public:
  explicit Pool(int threads) : process(process_id()), helpers_(threads - 1) {}

  // False: the pool is at work on another job, nothing was done.
  bool run(Job& job) {
    if (busy_.exchange(true)) return false;
    {
      std::lock_guard lock(mutex_);
      // Threads start at the first use, so that importing costs nothing and a process that forks early is unharmed.
      try {
        for (; started_ < helpers_; ++started_) std::thread(&Pool::serve, this).detach();
      } catch (...) {
        // The system has no more threads or no memory for one now: go on with those there are.
      }
      job_ = &job;
      ++generation_;
    }
    wake_.notify_all();
    job.work();
    {
      std::unique_lock lock(mutex_);
      job_ = nullptr;  // whoever wakes late finds nothing to do
      idle_.wait(lock, [&] { return active_ == 0; });
    }
    busy_.store(false);
    return true;
  }

  const int process;

 private:
  void serve() {
    prepare_for_exceptions();
    uint64_t seen = 0;
    std::unique_lock lock(mutex_);
    for (;;) {
      wake_.wait(lock, [&] { return generation_ != seen; });
      seen = generation_;
      Job* job = job_;
      if (!job) continue;
      ++active_;
      lock.unlock();
      job->work();
      lock.lock();
      if (--active_ == 0) idle_.notify_one();
    }
  }

  // Not a mutex: a task may ask for the pool again, in the thread that has it.
  std::atomic<bool> busy_{false};
  std::mutex mutex_;
  std::condition_variable wake_, idle_;
  Job* job_ = nullptr;
  uint64_t generation_ = 0;
  int active_ = 0, started_ = 0;
  const int helpers_;
};

// Never destroyed: detached threads wait on its members until the process ends. A child of fork() has none of its
// parent's threads, so it gets a pool of its own. Null where there is no memory for one.
Pool* pool() {
  static std::atomic<Pool*> current{nullptr};
  Pool* found = current.load(std::memory_order_acquire);
  if (found && found->process == process_id()) return found;
  Pool* made = new (std::nothrow) Pool(thread_count());
  if (!made || current.compare_exchange_strong(found, made)) return made;
  delete made;
  return found;
}

}  // namespace

int thread_count() {
  static const int count = [] {
    const char* setting = std::getenv("LSTSQ_NUM_THREADS");
    const int wanted = setting ? std::atoi(setting) : 0;
    return wanted > 0 ? std::min(wanted, 1024) : available_cores();
  }();
  return count;
}

void detail::parallel(int64_t tasks, void (*call)(void*, int64_t), void* context) {
  Job job{tasks, call, context};
  Pool* const helpers = tasks > 1 && thread_count() > 1 ? pool() : nullptr;
  if (!helpers || !helpers->run(job)) job.work();
  if (job.failed) std::rethrow_exception(job.error);
}

}  // namespace lstsq::kernels
