// Refuses memory; compiled by test_refused_memory.py and preloaded into a process of its own.
//
// The `new` of C++ is refused where it is called from one library, so that what fails is that library's and nobody
// else's: the size is made one that nobody has. In C, and without the library of C++, which is thereby loaded when
// Python's modules want it, as it is in life.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

static _Atomic uintptr_t library_begin, library_end;
static _Atomic int64_t first, last, counted, refusals;
static _Atomic size_t size_refused;
// The number of the call of refuse_new() in effect if it wants all that follows refused, else 0; and the last such call
// by which this thread was refused something.
static _Atomic int calls, all_then_refused;
static _Thread_local int starved;

static size_t size_for(void* caller, size_t size) {
  const uintptr_t address = (uintptr_t)caller;
  if (address < library_begin || address >= library_end) return size;
  const int64_t number = counted++;
  if (number < first || number > last) return size;
  ++refusals;
  if (gettid() != getpid()) starved = all_then_refused;
  return PTRDIFF_MAX / 2;
}

// The function of this name behind the one here.
static void* original(const char* name) {
  return dlsym(dlopen("libstdc++.so.6", RTLD_NOW), name);
}

#define NEW(name, parameters, arguments)                   \
  void* name parameters {                                  \
    static void*(*_Atomic next)parameters;                 \
    if (!next) next = (void*(*)parameters)original(#name); \
    size = size_for(__builtin_return_address(0), size);    \
    return next arguments;                                 \
  }
NEW(_Znwm, (size_t size), (size))
NEW(_Znam, (size_t size), (size))
NEW(_ZnwmSt11align_val_t, (size_t size, size_t alignment), (size, alignment))
NEW(_ZnamSt11align_val_t, (size_t size, size_t alignment), (size, alignment))
NEW(_ZnwmRKSt9nothrow_t, (size_t size, const void* nothrow), (size, nothrow))
NEW(_ZnamRKSt9nothrow_t, (size_t size, const void* nothrow), (size, nothrow))

void* malloc(size_t size) {
  static void* (*_Atomic next)(size_t);
  if (!next) next = (void* (*)(size_t))dlsym(RTLD_NEXT, "malloc");
  if (starved != 0 && starved == all_then_refused) return NULL;
  if (size != 0 && size == size_refused) {
    ++refusals;
    return NULL;
  }
  return next(size);
}

// Refuse the allocations from number `from` to number `to` that code between two addresses makes from now on. And, if
// asked for, after the first one in a thread every malloc there, whoever calls it, save for the main thread.
void refuse_new(uintptr_t begin, uintptr_t end, int64_t from, int64_t to, int all_then) {
  first = from;
  last = to;
  counted = 0;
  refusals = 0;
  all_then_refused = all_then ? ++calls : 0;
  library_end = end;
  library_begin = begin;
}

// Refuse every malloc of this size, wherever it comes from.
void refuse_malloc(size_t size) {
  refusals = 0;
  size_refused = size;
}

// Refuse nothing any more; how many allocations were refused.
int64_t refuse_nothing(void) {
  library_end = 0;
  all_then_refused = 0;
  size_refused = 0;
  return refusals;
}
