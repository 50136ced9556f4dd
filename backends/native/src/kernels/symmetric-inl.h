// One symmetric matrix to tridiagonal form, by Householder reflections (Golub and Van Loan 2013, section 8.3.1). One
// pass over the matrix for each: what the last reflection changes in a row, and the row's share of the product with the
// next one. (512 x 512 in 6 ms. LAPACK takes as long, and its BLAS then keeps every core for a tenth of a second.)
#pragma once

#include "simd-inl.h"

namespace lstsq::kernels::LSTSQ_ISA {
namespace {

// row[j] -= v[j] * c + w[j] * s, for j in [from, n).
static inline void subtract_two(
    int64_t from, int64_t n, double* row, const double* v, double c, const double* w, double s) {
  int64_t j = from;
  for (; j + lanes <= n; j += lanes)
    store<lanes>(row + j, load<lanes>(row + j) - (load<lanes>(v + j) * c + load<lanes>(w + j) * s));
  for (; j < n; ++j) row[j] -= v[j] * c + w[j] * s;
}

// The same; and y[j] += row[j] * x[i], for j in (i, n). Returns the sum of row[j] * x[j] over [i, n).
static inline double change_and_multiply(
    int64_t i, int64_t n, double* row, const double* v, const double* w, const double* x, double* y) {
  const double c = w[i], s = v[i], own = x[i];
  const double diagonal = row[i] -= v[i] * c + w[i] * s;
  double total = diagonal * own;
  VecD sums = {};
  int64_t j = i + 1;
  for (; j + lanes <= n; j += lanes) {
    const VecD a = load<lanes>(row + j) - (load<lanes>(v + j) * c + load<lanes>(w + j) * s);
    store<lanes>(row + j, a);
    sums += a * load<lanes>(x + j);
    store<lanes>(y + j, load<lanes>(y + j) + a * own);
  }
  for (; j < n; ++j) {
    const double a = row[j] -= v[j] * c + w[j] * s;
    total += a * x[j];
    y[j] += a * own;
  }
  return total + sum(sums);
}

// The diagonal and what is beside it (n and n - 1 numbers) of a tridiagonal matrix with the eigenvalues of `a`, the
// upper triangle of n by n in rows, which is overwritten. work: 4 n.
static void tridiagonal(int64_t n, double* a, double* d, double* e, double* work) {
  // A - v w' - w v' is what is meant until the next pass.
  double *v = work, *w = work + n, *next_v = work + 2 * n, *next_w = work + 3 * n;
  for (int64_t i = 0; i < 2 * n; ++i) work[i] = 0;
  for (int64_t k = 0; k < n; ++k) {
    double* row = a + k * n;
    subtract_two(k, n, row, v, w[k], w, v[k]);
    d[k] = row[k];
    if (k + 1 < n) e[k] = row[k + 1];
    if (k + 2 >= n) continue;

    // I - x x' with x'x = 2, or with x = 0, maps the row to zeros after its first entry.
    double squares = 0;
    for (int64_t j = k + 1; j < n; ++j) squares += row[j] * row[j];
    const double first = row[k + 1], length = __builtin_sqrt(squares);
    const double top = first < 0 ? first - length : first + length;
    const bool nothing = squares <= 0x1p-1000;
    const double scale = nothing ? 0 : 1 / __builtin_sqrt(length) / __builtin_sqrt(top < 0 ? -top : top);
    if (!nothing) e[k] = first < 0 ? length : -length;
    for (int64_t j = k + 1; j < n; ++j) {
      next_v[j] = row[j] * scale;
      next_w[j] = 0;
    }
    next_v[k + 1] = top * scale;

    double product = 0;
    for (int64_t i = k + 1; i < n; ++i) {
      next_w[i] += change_and_multiply(i, n, a + i * n, v, w, next_v, next_w);
      product += next_v[i] * next_w[i];
    }
    for (int64_t j = k + 1; j < n; ++j) next_w[j] -= 0.5 * product * next_v[j];
    double *const old_v = v, *const old_w = w;
    v = next_v, w = next_w, next_v = old_v, next_w = old_w;
  }
}

}  // namespace
}  // namespace lstsq::kernels::LSTSQ_ISA
