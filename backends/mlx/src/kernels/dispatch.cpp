// Chooses the instruction set, once; keeps the threads' scratch memory.
#include <pthread.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

#include "isa.h"
#include "kernels.h"

namespace lstsq::kernels {

namespace baseline {
extern const Isa table;
}
#ifdef LSTSQ_X86_LEVELS
namespace avx2 {
extern const Isa table;
}
namespace avx512 {
extern const Isa table;
}
#endif

namespace {

const Isa& choose() {
#ifdef LSTSQ_X86_LEVELS
  __builtin_cpu_init();
  const char* wanted = std::getenv("LSTSQ_ISA");
  const bool no_avx512 = wanted && std::strcmp(wanted, "avx512") != 0;
  const bool no_avx2 = no_avx512 && std::strcmp(wanted, "avx2") != 0;
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
  if (has_avx512 && !no_avx512) return avx512::table;
  if (has_avx2 && !no_avx2) return avx2::table;
#endif
  return baseline::table;
}

struct Free {
  void operator()(void* p) const { ::operator delete(p, std::align_val_t{64}); }
};
struct Slot {
  std::unique_ptr<void, Free> memory;
  int64_t bytes = 0;
};
struct Slots {
  Slot slot[4];
};

// This thread's. Not `thread_local`: where memory is refused at the first use of that in a thread, the process ends.
Slots& own_slots() {
  static const pthread_key_t key = [] {
    pthread_key_t made;
    if (pthread_key_create(&made, [](void* slots) { delete static_cast<Slots*>(slots); }) != 0) throw std::bad_alloc();
    return made;
  }();
  if (void* found = pthread_getspecific(key)) return *static_cast<Slots*>(found);
  auto made = std::make_unique<Slots>();
  if (pthread_setspecific(key, made.get()) != 0) throw std::bad_alloc();
  return *made.release();
}

}  // namespace

const Isa& isa() {
  static const Isa& chosen = choose();
  return chosen;
}

const char* instruction_set() {
  return isa().name;
}

void* scratch(int slot, int64_t bytes) {
  Slot& s = own_slots().slot[slot];
  if (s.bytes < bytes) {
    s.memory.reset();
    s.bytes = 0;
    s.memory.reset(::operator new(static_cast<size_t>(bytes), std::align_val_t{64}));
    s.bytes = bytes;
  }
  return s.memory.get();
}

}  // namespace lstsq::kernels
