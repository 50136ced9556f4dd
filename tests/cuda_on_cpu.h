// Enough of CUDA to run a kernel on the processor, for the tests. The threads of a block take turns in one thread of
// the system: one runs until it waits for the others, at the barrier of the block or that of its warp, of 32 threads.

#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __launch_bounds__(threads, blocks)
#define SHARED(name) double* name = shared_memory
#define __syncthreads() turns->wait(turns->block)

struct Index {
  int x;
};

inline Index threadIdx, blockIdx, blockDim, gridDim;
inline double* shared_memory;

using std::fabs, std::sqrt, std::nan;

inline void atomicAdd(int* to, int value) {
  *to += value;
}

// Threads that wait for each other.
struct Group {
  int alive = 0, waiting = 0;
  long round = 0;
  double numbers[2][32] = {};  // What a warp exchanges, and what it exchanged before.

  void go_on_if_complete() {
    if (waiting == alive) waiting = 0, ++round;
  }
};

class Turns {
 public:
  Group block;

  Turns(int threads, std::function<void()> work)
      : work_(std::move(work)), fibers_(threads), warps_((threads + 31) / 32) {
    block.alive = threads;
    for (int i = 0; i < threads; ++i) ++warps_[i / 32].alive;
  }

  void run() {
    for (auto& fiber : fibers_) {
      fiber.stack.reset(new char[stack_size]);
      getcontext(&fiber.context);
      fiber.context.uc_stack.ss_sp = fiber.stack.get();
      fiber.context.uc_stack.ss_size = stack_size;
      fiber.context.uc_link = nullptr;
      makecontext(&fiber.context, begin, 0);
    }
    threadIdx.x = 0;
    swapcontext(&outside_, &fibers_[0].context);
  }

  void wait(Group& group) {
    long round = group.round;
    ++group.waiting;
    group.go_on_if_complete();
    while (group.round == round) yield();
  }

  Group& warp() { return warps_[threadIdx.x / 32]; }

 private:
  static constexpr std::size_t stack_size = 1 << 17;
  struct Fiber {
    ucontext_t context;
    std::unique_ptr<char[]> stack;
    bool done = false;
  };

  static void begin();

  int next() const {
    int thread = threadIdx.x;
    do thread = (thread + 1) % static_cast<int>(fibers_.size());
    while (fibers_[thread].done);
    return thread;
  }

  void yield() {
    const int me = threadIdx.x, other = next();
    if (other == me) std::abort();  // It waits for threads that have ended.
    threadIdx.x = other;
    swapcontext(&fibers_[me].context, &fibers_[other].context);
    threadIdx.x = me;
  }

  void end() {
    fibers_[threadIdx.x].done = true;
    for (Group* group : {&block, &warp()}) {
      if (--group->alive > 0) group->go_on_if_complete();
    }
    if (block.alive == 0) setcontext(&outside_);
    threadIdx.x = next();
    setcontext(&fibers_[threadIdx.x].context);
  }

  std::function<void()> work_;
  std::vector<Fiber> fibers_;
  std::vector<Group> warps_;
  ucontext_t outside_;
};

inline Turns* turns;

inline void Turns::begin() {
  turns->work_();
  turns->end();
}

inline double __shfl_sync(unsigned, double mine, int lane) {
  Group& warp = turns->warp();
  double* numbers = warp.numbers[warp.round % 2];
  numbers[threadIdx.x % 32] = mine;
  turns->wait(warp);
  return numbers[lane % 32];
}

inline double __shfl_xor_sync(unsigned mask, double mine, int distance) {
  return __shfl_sync(mask, mine, threadIdx.x % 32 ^ distance);
}

// As the driver of CUDA does: `arguments` holds the address of each.
template <class... Argument, std::size_t... Place>
void run(void (*kernel)(Argument...),
         int blocks,
         int threads,
         std::size_t bytes,
         void** arguments,
         std::index_sequence<Place...>) {
  for (int block = 0; block < blocks; ++block) {
    // Shared memory holds what was there before, on a GPU; here, what nobody would take for a result. The end of it is
    // the end of an allocation, so that tools for memory see who goes beyond.
    std::vector<double> memory((bytes + 7) / 8, std::nan("7"));
    shared_memory = memory.data();
    blockIdx.x = block, blockDim.x = threads, gridDim.x = blocks;
    Turns all(threads, [&] { kernel(*static_cast<Argument*>(arguments[Place])...); });
    turns = &all;
    all.run();
  }
}

template <class... Argument>
void run(void (*kernel)(Argument...), int blocks, int threads, std::size_t bytes, void** arguments) {
  run(kernel, blocks, threads, bytes, arguments, std::index_sequence_for<Argument...>());
}
