// Cholesky factorisation and triangular solves, row-major, with the upper triangle R.
#pragma once

#include "isa.h"
#include "simd-inl.h"

namespace lstsq::kernels::LSTSQ_ISA {
namespace {

// w -= the sum over k < depth of b[k * bk] * (row k of v), on rows of `panels` vectors.
template <class S>
static inline void subtract_rows(
    int64_t depth, const S* b, int64_t bk, const S* v, int64_t ldv, int64_t panels, S* __restrict w) {
  micro_row<S, 1, true>(depth, b, 0, bk, v, panel_width<S>, ldv, panels, w, 0);
}

static inline void scale_row(double* w, double factor, int64_t columns) {
  for (int64_t c = 0; c < columns; ++c) w[c] *= factor;
}

static bool cholesky(int64_t n, double* g, int64_t ldg) {
  for (int64_t k = 0; k < n; ++k) {
    double* pivot_row = g + k * ldg;
    const double pivot = pivot_row[k];
    if (!(pivot > 0)) return false;  // NaN fails too
    const double root = __builtin_sqrt(pivot), inverse = 1 / root;
    for (int64_t j = k; j < n; ++j) pivot_row[j] *= inverse;
    pivot_row[k] = root;
    for (int64_t i = k + 1; i < n; ++i) {
      const double s = pivot_row[i];
      double* __restrict row = g + i * ldg;
      const double* __restrict from = pivot_row;
      for (int64_t j = i; j < n; ++j) row[j] -= s * from[j];
    }
  }
  return true;
}

static void solve_rt(int64_t n, const double* r, int64_t ldr, double* w, int64_t columns, int64_t ldw) {
  const int64_t panels = columns / lanes;
  for (int64_t at = 0; at < n; at += block_rows) {
    const int64_t rows = min(block_rows, n - at);
    double* block = w + at * ldw;
    micro_blocks<double, true>(at, r + at, 1, ldr, rows, w, lanes, ldw, panels, block, ldw);
    for (int64_t i = 0; i < rows; ++i) {
      const double* pivot = r + (at + i) * ldr + at + i;
      subtract_rows(i, pivot - i * ldr, ldr, block, ldw, panels, block + i * ldw);
      scale_row(block + i * ldw, 1 / *pivot, columns);
    }
  }
}

static void solve_r(int64_t n, const double* r, int64_t ldr, double* w, int64_t columns, int64_t ldw) {
  const int64_t panels = columns / lanes;
  for (int64_t at = (n - 1) / block_rows * block_rows; at >= 0; at -= block_rows) {
    const int64_t rows = min(block_rows, n - at), end = at + rows;
    micro_blocks<double, true>(
        n - end, r + at * ldr + end, ldr, 1, rows, w + end * ldw, lanes, ldw, panels, w + at * ldw, ldw);
    for (int64_t i = end - 1; i >= at; --i) {
      const double* pivot = r + i * ldr + i;
      subtract_rows(end - 1 - i, pivot + 1, 1, w + (i + 1) * ldw, ldw, panels, w + i * ldw);
      scale_row(w + i * ldw, 1 / *pivot, columns);
    }
  }
}

// One right-hand side: by rows of R, so that memory is read in order.
static void solve_rt_one(int64_t n, const double* r, int64_t ldr, double* w) {
  for (int64_t i = 0; i < n; ++i) {
    const double s = w[i] /= r[i * ldr + i];
    const double* __restrict row = r + i * ldr;
    double* __restrict out = w;
    for (int64_t j = i + 1; j < n; ++j) out[j] -= s * row[j];
  }
}
static void solve_r_one(int64_t n, const double* r, int64_t ldr, double* w) {
  for (int64_t i = n - 1; i >= 0; --i) {
    const double* row = r + i * ldr;
    VecD acc[2] = {};
    int64_t j = i + 1;
    for (; j + 2 * lanes <= n; j += 2 * lanes) {
      acc[0] += load<lanes>(row + j) * load<lanes>(w + j);
      acc[1] += load<lanes>(row + j + lanes) * load<lanes>(w + j + lanes);
    }
    double s = w[i] - sum(acc[0] + acc[1]);
    for (; j < n; ++j) s -= row[j] * w[j];
    w[i] = s / row[i];
  }
}

// Panel p holds columns [from + p W, from + p W + W) of `depth` rows: packed[(p depth + k) W + lane].
template <class S>
static inline void pack_panels(const S* rows, int64_t ld, int64_t depth, int64_t panels, S* packed) {
  constexpr int W = panel_width<S>;
  for (int64_t k = 0; k < depth; ++k)
    for (int64_t p = 0; p < panels; ++p) store<W>(packed + (p * depth + k) * W, load<W>(rows + k * ld + p * W));
}

static bool cholesky_panel(int64_t n, double* g, int64_t ldg, int64_t at, int64_t depth, double* packed) {
  double* pivots = g + at * ldg + at;
  if (!cholesky(depth, pivots, ldg)) return false;
  const int64_t width = padded(n) - at - depth, chunk = cholesky_chunk;
  for (int64_t j = 0; j < width; j += chunk)
    solve_rt(depth, pivots, ldg, pivots + depth + j, min(chunk, width - j), ldg);
  pack_panels(pivots + depth, ldg, depth, width / lanes, packed);
  return true;
}

static void cholesky_update(
    int64_t n, double* g, int64_t ldg, int64_t at, int64_t depth, const double* packed, int64_t from, int64_t to) {
  const int64_t first = at + depth, panels = (padded(n) - first) / lanes, step = depth * lanes;
  auto tile = [&]<int NV>(int64_t i, int64_t j) {
    const double* scalars = packed + (i - first) / lanes * step + (i - first) % lanes;
    micro<double, 4, NV, true>(
        depth, scalars, 1, lanes, packed + j * step, step, lanes, g + i * ldg + first + j * lanes, ldg);
  };
  for (int64_t j = (from - first) / lanes; j < panels; j += tile_panels) {
    const int64_t width = min(tile_panels, panels - j), last = first + (j + width) * lanes;
    for (int64_t i = from; i < min(to, last); i += 4) {  // rows beyond n are padding, and there
      if (width == tile_panels)
        tile.template operator()<tile_panels>(i, j);
      else
        for (int64_t one = j; one < panels; ++one) tile.template operator()<1>(i, one);
    }
  }
}

}  // namespace
}  // namespace lstsq::kernels::LSTSQ_ISA
