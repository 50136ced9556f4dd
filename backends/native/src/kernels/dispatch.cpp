// Chooses the instruction set, once; keeps the threads' scratch memory.
#ifndef _WIN32
#include <pthread.h>
#endif

#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

#include "isa.h"
#include "kernels.h"

#if defined(LSTSQ_X86_LEVELS) && defined(_WIN32)
#define NOMINMAX
#include <windows.h>
// After windows.h, which may declare functions that are macros here.
#include <cpuid.h>
#endif

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

#ifdef LSTSQ_X86_LEVELS
struct Levels {
  bool avx2, avx512;
};

// What both the processor and the system support.
Levels supported() {
#ifdef _WIN32
  // clang-cl links no library for __builtin_cpu_supports. Of AVX-512's parts the system only knows the first; all the
  // others are in bits of leaf 7.
  unsigned a, b, c = 0, d;
  const bool fma = __get_cpuid(1, &a, &b, &c, &d) && (c & bit_FMA);
  const bool avx2 = fma && IsProcessorFeaturePresent(PF_AVX2_INSTRUCTIONS_AVAILABLE);
  if (!avx2 || !IsProcessorFeaturePresent(PF_AVX512F_INSTRUCTIONS_AVAILABLE)) return {avx2, false};
  constexpr unsigned parts = bit_AVX512VL | bit_AVX512DQ | bit_AVX512BW;
  return {true, __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & parts) == parts};
#else
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  return {avx2,
          avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
              __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw")};
#endif
}
#endif

const Isa& choose() {
#ifdef LSTSQ_X86_LEVELS
  const char* wanted = std::getenv("LSTSQ_ISA");
  const bool no_avx512 = wanted && std::strcmp(wanted, "avx512") != 0;
  const bool no_avx2 = no_avx512 && std::strcmp(wanted, "avx2") != 0;
  const Levels has = supported();
  if (has.avx512 && !no_avx512) return avx512::table;
  if (has.avx2 && !no_avx2) return avx2::table;
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

// This thread's.
#ifdef _WIN32
Slots& own_slots() {
  thread_local Slots slots;
  return slots;
}
#else
// Not `thread_local`: where memory is refused at the first use of that in a thread, the process ends.
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
#endif

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
