// A C face of the kernels for the tests and micro-benchmarks: a library for ctypes, and included in server.cpp. In each
// function what it reads comes before what it writes.
#ifndef _WIN32
#include <sys/wait.h>
#include <unistd.h>
#endif

#include <algorithm>
#include <atomic>
#include <cstring>
#include <thread>
#include <tuple>
#include <vector>

#include "kernels.h"
#include "pool.h"

using namespace lstsq::kernels;
using lstsq::MatrixView;

#pragma GCC visibility push(default)
extern "C" {

int shim_threads() {
  return thread_count();
}

int shim_instruction_set(char* name) {  // of 16 bytes
  std::strncpy(name, instruction_set(), 16);
  return 0;
}

#define SHIM(S, T, R)                                                                                              \
  int shim_solve_##S(const T* a,                                                                                   \
                     int64_t m,                                                                                    \
                     int64_t n,                                                                                    \
                     int64_t lda,                                                                                  \
                     const T* b,                                                                                   \
                     int64_t k,                                                                                    \
                     int64_t ldb,                                                                                  \
                     double rcond,                                                                                 \
                     T* x,                                                                                         \
                     R* residuals,                                                                                 \
                     double* report) {                                                                             \
    const Problem<T> p{{a, m, n, lda, 1}, {b, m, k, ldb, 1}, rcond, x, residuals};                                 \
    Report r;                                                                                                      \
    const int status = static_cast<int>(solve(p, &r));                                                             \
    report[0] = r.condition, report[1] = r.contraction, report[2] = r.steps, report[3] = static_cast<int>(r.tier); \
    return status;                                                                                                 \
  }
SHIM(s, float, float)
SHIM(d, double, double)
SHIM(c, std::complex<float>, float)
SHIM(z, std::complex<double>, double)

#define SHIM_BATCH(S, T)                                                                                          \
  int shim_batch_##S(int64_t count,                                                                               \
                     int64_t m,                                                                                   \
                     int64_t n,                                                                                   \
                     int64_t k,                                                                                   \
                     const T* a,                                                                                  \
                     const T* b,                                                                                  \
                     double rcond,                                                                                \
                     T* x,                                                                                        \
                     T* residuals,                                                                                \
                     uint8_t* ok,                                                                                 \
                     double* values,                                                                              \
                     uint8_t* found) {                                                                            \
    return solve_batch(Batch<T>{                                                                                  \
        count, {a, m, n, n, 1}, m * n, {b, m, k, k, 1}, m * k, rcond, x, residuals, nullptr, ok, values, found}); \
  }
SHIM_BATCH(s, float)
SHIM_BATCH(d, double)

#define SHIM_SINGULAR_VALUES(S, T)                                                            \
  int shim_singular_values_##S(int64_t count,                                                 \
                               int64_t m,                                                     \
                               int64_t n,                                                     \
                               const T* a,                                                    \
                               int64_t a_stride,                                              \
                               int64_t row,                                                   \
                               int64_t column,                                                \
                               T* s,                                                          \
                               uint8_t* ok) {                                                 \
    return singular_values(SingularBatch<T>{count, {a, m, n, row, column}, a_stride, s, ok}); \
  }
SHIM_SINGULAR_VALUES(s, float)
SHIM_SINGULAR_VALUES(d, double)

int shim_tridiagonalise(int64_t n, double* a, double* d, double* e) {
  std::vector<double> work(static_cast<size_t>(4 * n));
  tridiagonalise(n, a, d, e, work.data());
  return 0;
}

#define SHIM_REDUCE(S, T)                                                     \
  int shim_reduce_##S(const T* a,                                             \
                      int64_t row,                                            \
                      int64_t column,                                         \
                      int64_t exponent,                                       \
                      int64_t m,                                              \
                      int64_t n,                                              \
                      const T* b,                                             \
                      int64_t k,                                              \
                      double* r,                                              \
                      double* c,                                              \
                      double* left) {                                         \
    const MatrixView<T> as{a, m, n, row, column, static_cast<int>(exponent)}; \
    reduce(Reduction<T>{as, {b, m, k, k, 1}, r, c, left});                    \
    return 0;                                                                 \
  }
SHIM_REDUCE(s, float)
SHIM_REDUCE(d, double)

int shim_reduce_by_gram(const float* a,
                        int64_t row,
                        int64_t column,
                        int64_t m,
                        int64_t n,
                        const float* b,
                        int64_t b_row,
                        int64_t b_column,
                        int64_t k,
                        double* r,
                        double* c,
                        double* left) {
  return reduce_by_gram({{a, m, n, row, column}, {b, m, k, b_row, b_column}, r, c, left});
}

// Simple products in the place of a BLAS, which note how many there were and their deepest block.
static int64_t products_made[2], deepest_product;

static void simple_gram(bool wide, int64_t n, int64_t depth, const float* a, int64_t lda, float* out) {
  ++products_made[0], deepest_product = std::max(deepest_product, depth);
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = i; j < n; ++j) {
      float sum = 0;
      for (int64_t l = 0; l < depth; ++l) sum += wide ? a[i * lda + l] * a[j * lda + l] : a[l * lda + i] * a[l * lda + j];
      out[i * n + j] = sum;
    }
}

static void simple_cross(
    int64_t n, int64_t k, int64_t depth, const float* a, int64_t lda, const float* b, int64_t ldb, float* out) {
  ++products_made[1], deepest_product = std::max(deepest_product, depth);
  for (int64_t c = 0; c < k; ++c)
    for (int64_t j = 0; j < n; ++j) {
      float sum = 0;
      for (int64_t l = 0; l < depth; ++l) sum += b[l * ldb + c] * a[l * lda + j];
      out[c * n + j] = sum;
    }
}

// Use them from now on, or no longer; seen (3): how many Gram matrices and other products there were since the last
// call, and their deepest block.
int shim_single_products(int64_t use, int64_t* seen) {
  seen[0] = products_made[0], seen[1] = products_made[1], seen[2] = deepest_product;
  products_made[0] = products_made[1] = deepest_product = 0;
  use_single_products(use ? SingleProducts{simple_gram, simple_cross} : SingleProducts{});
  return 0;
}

#ifndef _WIN32
// One problem (a is m by n) and one batch (c is count of p by q), solved again and again, by several threads at once or
// in a child of fork: how many answers are not the first one, bit by bit.
int shim_repeat(int64_t forked,
                const float* a,
                int64_t m,
                int64_t n,
                const float* b,
                const double* c,
                int64_t count,
                int64_t p,
                int64_t q,
                const double* d) {
  constexpr int callers = 4, times = 20, seconds = 900;
  auto answer = [&] {
    std::vector<float> x(n), sum(1);
    std::vector<double> y(count * q), sums(count), report(4);
    std::vector<uint8_t> ok(count);
    const int status = shim_solve_s(a, m, n, n, b, 1, 1, 1e-6, x.data(), sum.data(), report.data());
    const int done = shim_batch_d(count, p, q, 1, c, d, 1e-14, y.data(), sums.data(), ok.data(), nullptr, nullptr);
    return std::tuple(status, done, x, sum, y, sums, ok);
  };
  alarm(seconds);  // an end, rather than a test that never ends
  const auto first = answer();
  std::atomic<int> wrong = std::get<0>(first) != 0 || !std::get<1>(first);
  auto work = [&] {
    for (int i = 0; i < times; ++i) wrong += answer() != first;
  };
  if (!forked) {
    std::vector<std::thread> threads;
    for (int i = 0; i < callers; ++i) threads.emplace_back(work);
    for (std::thread& thread : threads) thread.join();
  } else if (const pid_t child = fork()) {
    int status = -1;
    waitpid(child, &status, 0);
    wrong += status != 0;
  } else {
    alarm(seconds);
    work();
    _exit(wrong != 0);
  }
  alarm(0);
  return wrong;
}
#endif

}  // extern "C"
