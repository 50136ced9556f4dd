// The functions of shim.cpp for another process, so that kernels for another machine, or on one, are tested from here:
// calls come on standard input, answers go to standard output. kernels.py is the other end.
//
// A call is the name of the function, 32 bytes padded with zeros, and its arguments: numbers as 8 bytes, an array as
// its length in bytes, -1 for a null pointer, and its contents. The answer is the function's result, 4 bytes, and the
// contents of the arrays that it may write to. Both ends are little-endian.
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>

#include "shim.cpp"

namespace {

bool receive(void* to, size_t bytes) {
  return std::fread(to, 1, bytes, stdin) == bytes;
}

template <class T>
T receive() {
  T value;
  if (!receive(&value, sizeof value)) std::exit(1);
  return value;
}

template <class T>
struct Argument {
  static_assert(sizeof(T) == 8);
  T value = receive<T>();

  void send() const {}
};

template <class T>
struct Argument<T*> {
  using Element = std::remove_const_t<T>;
  int64_t bytes = receive<int64_t>();
  // Nothing follows the last element, and the first is aligned no better than it must be: NumPy's slices are so.
  std::unique_ptr<unsigned char[]> memory{bytes < 0 ? nullptr : new unsigned char[alignof(T) + bytes]};
  T* value = memory ? reinterpret_cast<T*>(memory.get() + alignof(T)) : nullptr;

  Argument() {
    if (value && !receive(const_cast<Element*>(value), bytes)) std::exit(1);
  }
  void send() const {
    if (value && !std::is_const_v<T>) std::fwrite(value, 1, bytes, stdout);
  }
};

template <class... A>
void answer(int (*function)(A...)) {
  std::tuple<Argument<A>...> arguments{Argument<A>()...};  // in braces: from left to right
  const int result = std::apply([&](auto&... argument) { return function(argument.value...); }, arguments);
  std::fwrite(&result, 1, sizeof result, stdout);
  std::apply([](auto&... argument) { (argument.send(), ...); }, arguments);
  std::fflush(stdout);
}

#define ENTRY(F) {#F, [] { answer(F); }}
const std::map<std::string, void (*)()> functions = {ENTRY(shim_threads),
                                                     ENTRY(shim_instruction_set),
                                                     ENTRY(shim_repeat),
                                                     ENTRY(shim_solve_s),
                                                     ENTRY(shim_solve_d),
                                                     ENTRY(shim_solve_c),
                                                     ENTRY(shim_solve_z),
                                                     ENTRY(shim_batch_s),
                                                     ENTRY(shim_batch_d),
                                                     ENTRY(shim_singular_values_s),
                                                     ENTRY(shim_singular_values_d),
                                                     ENTRY(shim_tridiagonalise),
                                                     ENTRY(shim_reduce_s),
                                                     ENTRY(shim_reduce_d),
                                                     ENTRY(shim_reduce_by_gram),
                                                     ENTRY(shim_single_products)};

}  // namespace

int main() {
  for (char name[33] = ""; receive(name, 32);) {
    const auto found = functions.find(name);
    if (found == functions.end()) {
      std::fprintf(stderr, "kernels_server: got a call of %s, which shim.cpp does not have\n", name);
      return 1;
    }
    found->second();
  }
}
