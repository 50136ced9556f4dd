// Refuses memory; preloaded into the process of test_refused_memory.py, which compiles it.
//
// `new` is counted where it is called from one library, so that what fails is that library's and nobody else's.
#include <dlfcn.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <new>

namespace {

std::atomic<std::uintptr_t> library_begin{0}, library_end{0};
std::atomic<std::int64_t> first{-1}, last{-1}, counted{0}, refusals{0};
std::atomic<std::size_t> size_refused{0};

bool refuse(void* caller) {
  const auto address = reinterpret_cast<std::uintptr_t>(caller);
  if (address < library_begin || address >= library_end) return false;
  const std::int64_t number = counted++;
  if (number < first || number > last) return false;
  ++refusals;
  return true;
}

void* allocate(std::size_t size, std::size_t alignment, void* caller) noexcept {
  if (refuse(caller)) return nullptr;
  if (size == 0) size = 1;
  return alignment ? std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment) : std::malloc(size);
}

void* allocate_or_throw(std::size_t size, std::size_t alignment, void* caller) {
  void* found = allocate(size, alignment, caller);
  if (found == nullptr) throw std::bad_alloc();
  return found;
}

}  // namespace

#define CALLER __builtin_return_address(0)

void* operator new(std::size_t size) {
  return allocate_or_throw(size, 0, CALLER);
}
void* operator new[](std::size_t size) {
  return allocate_or_throw(size, 0, CALLER);
}
void* operator new(std::size_t size, std::align_val_t alignment) {
  return allocate_or_throw(size, static_cast<std::size_t>(alignment), CALLER);
}
void* operator new[](std::size_t size, std::align_val_t alignment) {
  return allocate_or_throw(size, static_cast<std::size_t>(alignment), CALLER);
}
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  return allocate(size, 0, CALLER);
}
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept {
  return allocate(size, 0, CALLER);
}

extern "C" {

void* malloc(std::size_t size) {
  static const auto next = reinterpret_cast<void* (*)(std::size_t)>(dlsym(RTLD_NEXT, "malloc"));
  if (size != 0 && size == size_refused) {
    ++refusals;
    return nullptr;
  }
  return next(size);
}

// Refuse the allocations from number `from` to number `to` that code between two addresses makes from now on.
void refuse_new(std::uintptr_t begin, std::uintptr_t end, std::int64_t from, std::int64_t to) {
  library_begin = begin, library_end = end, first = from, last = to, counted = 0, refusals = 0;
}

// Refuse every malloc of this size, wherever it comes from.
void refuse_malloc(std::size_t size) {
  size_refused = size, refusals = 0;
}

// Refuse nothing any more; how many allocations were refused.
std::int64_t refuse_nothing() {
  library_begin = library_end = 0, size_refused = 0;
  return refusals;
}

}  // extern "C"
