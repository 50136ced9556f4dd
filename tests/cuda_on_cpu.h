// Enough of CUDA to run a kernel on the processor, for the tests: a block's threads are threads, and its barrier is
// one. So has each warp, of 32 threads, whose numbers are exchanged through memory.

#include <algorithm>
#include <atomic>
#include <barrier>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __launch_bounds__(threads, blocks)
#define SHARED(name) double* name = shared_memory
#define __syncthreads() meeting->arrive_and_wait()

struct Index {
  int x;
};

inline thread_local Index threadIdx, blockIdx, blockDim, gridDim;
inline thread_local double* shared_memory;
inline thread_local std::barrier<>* meeting;

struct Warp {
  std::barrier<> meeting;
  double numbers[32] = {};
  explicit Warp(int threads) : meeting(threads) {}
};
inline thread_local Warp* warp;

using std::fabs, std::sqrt, std::nan;

inline void atomicAdd(int* to, int value) {
  std::atomic_ref<int>(*to) += value;
}

inline double __shfl_sync(unsigned, double mine, int lane) {
  warp->numbers[threadIdx.x % 32] = mine;
  warp->meeting.arrive_and_wait();
  double other = warp->numbers[lane % 32];
  warp->meeting.arrive_and_wait();
  return other;
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
    std::barrier<> all(threads);
    std::vector<std::unique_ptr<Warp>> warps;
    for (int first = 0; first < threads; first += 32) warps.push_back(std::make_unique<Warp>(std::min(32, threads - first)));
    std::vector<std::thread> started;
    for (int thread = 0; thread < threads; ++thread)
      started.emplace_back([&, thread] {
        threadIdx.x = thread, blockIdx.x = block, blockDim.x = threads, gridDim.x = blocks;
        shared_memory = memory.data(), meeting = &all, warp = warps[thread / 32].get();
        kernel(*static_cast<Argument*>(arguments[Place])...);
        warp->meeting.arrive_and_drop();
        all.arrive_and_drop();
      });
    for (auto& thread : started) thread.join();
  }
}

template <class... Argument>
void run(void (*kernel)(Argument...), int blocks, int threads, std::size_t bytes, void** arguments) {
  run(kernel, blocks, threads, bytes, arguments, std::index_sequence_for<Argument...>());
}
