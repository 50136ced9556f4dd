// A triangle with blocks of rows under it, reduced to a triangle by Householder reflections: the step of a QR
// factorisation in blocks. Reflectors are applied many at a time, as matrix products (Schreiber and Van Loan 1989, "A
// storage-efficient WY representation for products of Householder transformations").
//
// With V = [I; Y], the rows of I being those of the triangle, one panel's reflections are I - V T V', T upper
// triangular. The zeros of the triangle are never touched.
#pragma once

#include "isa.h"
#include "matrix_view.h"
#include "residual-inl.h"
#include "simd-inl.h"

namespace lstsq::kernels::LSTSQ_ISA {
namespace {

// The columns [at, at + width) of `rows` rows in double precision, side by side, zeros beyond the last.
template <class T>
static void load_panel(const MatrixView<T>& a, int64_t rows, int64_t at, int64_t columns, int64_t width, double* out) {
  const T* from = a.data + at * a.col_stride;
  if (a.col_stride == 1) {
    widen(from, a.row_stride, rows, columns, out, width);
  } else {
    for (int64_t j = 0; j < width; ++j)
      for (int64_t i = 0; i < rows; ++i)
        out[i * width + j] = j < columns ? static_cast<double>(from[i * a.row_stride + j * a.col_stride]) : 0.0;
  }
  if (a.exponent)
    for (int64_t i = 0; i < rows * width; ++i) out[i] = __builtin_ldexp(out[i], -a.exponent);
}

// A column whose squares vanish: y's column j and what stands above it become a reflector, and dots its products with
// all columns. Returns the norm of both.
static double reflect_tiny(int64_t rows, int64_t width, int64_t j, double first, double* y, double* dots) {
  double largest = __builtin_fabs(first), sum = 0;
  for (int64_t i = 0; i < rows; ++i) largest = __builtin_fmax(largest, __builtin_fabs(y[i * width + j]));
  if (largest < __DBL_MIN__) return 0;
  for (int64_t i = 0; i < rows; ++i) sum += y[i * width + j] / largest * (y[i * width + j] / largest);
  const double length = largest * __builtin_sqrt(sum + first / largest * (first / largest));
  const double top = first + __builtin_copysign(length, first);
  for (int64_t l = 0; l < width; ++l) dots[l] = 0;
  for (int64_t i = 0; i < rows; ++i) {
    y[i * width + j] /= top;
    for (int64_t l = 0; l < width; ++l) dots[l] += y[i * width + j] * y[i * width + l];
  }
  return length;
}

// Reduce `count` columns of a panel, y (rows of NV vectors), under those of the triangle r: y becomes Y, t becomes T.
template <int NV>
static void stack_panel(int64_t rows, int64_t count, double* __restrict y, double* r, int64_t ldr, double* t) {
  constexpr int64_t width = NV * lanes;
  alignas(64) double dots[width], factors[width];  // dots: of column j with all columns
  VecD sums[NV] = {};
  for (int64_t i = 0; i < rows; ++i)
    for (int v = 0; v < NV; ++v) sums[v] += y[i * width] * load<lanes>(y + i * width + v * lanes);
  for (int v = 0; v < NV; ++v) store<lanes>(dots + v * lanes, sums[v]);

  for (int64_t j = 0; j < count; ++j) {
    double* above = r + j * ldr;
    const double first = above[j], squares = first * first + dots[j];
    double length = __builtin_sqrt(squares), inverse;
    if (squares > 1e-280) {
      inverse = 1 / (first + __builtin_copysign(length, first));
    } else {
      length = reflect_tiny(rows, width, j, first, y, dots);
      inverse = length > 0;  // it has been multiplied with already
    }
    const double tau = length > 0 ? 1 + __builtin_fabs(first) / length : 0;
    for (int64_t l = 0; l < j; ++l) {
      double sum = 0;
      for (int64_t q = l; q < j; ++q) sum += t[l * stack_width + q] * dots[q];
      t[l * stack_width + j] = -tau * sum * inverse;
      t[j * stack_width + l] = 0;
    }
    t[j * stack_width + j] = tau;
    for (int64_t l = 0; l < width; ++l) factors[l] = 0;
    for (int64_t l = j + 1; l < count; ++l) {
      factors[l] = tau * (above[l] + dots[l] * inverse);
      above[l] -= factors[l];
    }
    if (length > 0) above[j] = -__builtin_copysign(length, first);

    // One pass applies the reflection and finds the products of the next column with all.
    VecD f[NV], next[NV] = {};
    for (int v = 0; v < NV; ++v) f[v] = load<lanes>(factors + v * lanes);
    const int64_t following = min(j + 1, width - 1);
    for (int64_t i = 0; i < rows; ++i) {
      double* row = y + i * width;
      const double reflector = row[j] * inverse;
      VecD updated[NV];
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v)
        store<lanes>(row + v * lanes, updated[v] = load<lanes>(row + v * lanes) - reflector * f[v]);
      row[j] = reflector;
      const double one = row[following];
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v) next[v] += one * updated[v];
    }
    for (int v = 0; v < NV; ++v) store<lanes>(dots + v * lanes, next[v]);
    dots[j] *= inverse;
  }
}

// Apply a panel's reflections to the columns c (rows of `width`) and those above them, r.
static void stack_apply(int64_t rows,
                        int64_t count,
                        const double* y,
                        int64_t y_width,
                        const double* t,
                        double* c,
                        int64_t width,
                        double* r,
                        int64_t ldr) {
  alignas(64) double s[stack_width * stack_width], w[stack_width * stack_width];
  const int64_t panels = width / lanes;
  for (int64_t i = 0; i < count; ++i)
    for (int64_t l = 0; l < width; ++l) {
      s[i * width + l] = r[i * ldr + l];
      w[i * width + l] = 0;
    }
  micro_blocks<double>(rows, y, 1, y_width, count, c, lanes, width, panels, s, width);
  micro_blocks<double>(count, t, 1, stack_width, count, s, lanes, width, panels, w, width);
  for (int64_t i = 0; i < count; ++i)
    for (int64_t l = 0; l < width; ++l) r[i * ldr + l] -= w[i * width + l];
  micro_blocks<double, true>(count, y, y_width, 1, rows, w, lanes, width, panels, c, width);
}

template <int NV = static_cast<int>(stack_width / lanes)>
static void stack_panel_of(int64_t vectors, int64_t rows, int64_t count, double* y, double* r, int64_t ldr, double* t) {
  if constexpr (NV > 0) {
    if (vectors == NV) return stack_panel<NV>(rows, count, y, r, ldr, t);
    stack_panel_of<NV - 1>(vectors, rows, count, y, r, ldr, t);
  }
}

template <class T>
static void stack(const StackTask<T>& task) {
  const int64_t own = (task.a.cols + stack_width - 1) / stack_width,
                all = own + (task.b.cols + stack_width - 1) / stack_width;
  constexpr int64_t size = stack_depth * stack_width;
  double* block = static_cast<double*>(scratch(0, all * size * static_cast<int64_t>(sizeof(double))));
  alignas(64) double t[stack_width * stack_width];
  // Panel p: its columns of a, or of b, and where they are in r.
  auto live = [&](int64_t p) {
    return p < own ? min(stack_width, task.a.cols - p * stack_width)
                   : min(stack_width, task.b.cols - (p - own) * stack_width);
  };
  auto width = [&](int64_t p) { return (live(p) + lanes - 1) / lanes * lanes; };
  auto column = [&](int64_t p) { return p < own ? p * stack_width : padded(task.a.cols) + (p - own) * stack_width; };
  for (int64_t at = task.from; at < task.to; at += stack_depth) {
    const int64_t rows = min(stack_depth, task.to - at), start = task.triangular ? at / stack_width : 0;
    MatrixView<T> a = task.a, b = task.b;
    a.data += at * a.row_stride;
    if (task.b.cols) b.data += at * b.row_stride;
    for (int64_t p = start; p < all; ++p)
      load_panel(p < own ? a : b, rows, (p < own ? p : p - own) * stack_width, live(p), width(p), block + p * size);
    for (int64_t p = start; p < own; ++p) {
      double *y = block + p * size, *r = task.r + column(p) * task.ldr;
      stack_panel_of(width(p) / lanes, rows, live(p), y, r + column(p), task.ldr, t);
      for (int64_t q = p + 1; q < all; ++q)
        stack_apply(rows, live(p), y, width(p), t, block + q * size, width(q), r + column(q), task.ldr);
    }
    for (int64_t p = own; p < all; ++p)
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t l = 0; l < live(p); ++l) {
          const double e = block[p * size + i * width(p) + l];
          task.left[(p - own) * stack_width + l] += e * e;
        }
  }
}

}  // namespace
}  // namespace lstsq::kernels::LSTSQ_ISA
