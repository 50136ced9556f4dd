// r = b - a x, its sum of squares and A'r, in one pass over the rows; and y = A'v for wide problems.
#pragma once

#include "gram-inl.h"
#include "isa.h"
#include "simd-inl.h"

namespace lstsq::kernels::LSTSQ_ISA {
namespace {

// dst[k][0..n) = the rows in double precision, the rest of the row of ld zero.
template <class T>
static inline void widen(const T* a, int64_t lda, int64_t rows, int64_t n, double* dst, int64_t ld) {
  for (int64_t k = 0; k < rows; ++k) {
    const T* from = a + k * lda;
    double* to = dst + k * ld;
    int64_t j = 0;
    for (; j + lanes <= n; j += lanes) store<lanes>(to + j, load_as<double, lanes>(from + j));
    for (; j < n; ++j) to[j] = from[j];
    for (; j < ld; ++j) to[j] = 0;
  }
}

// Few right-hand sides: row by row, straight from memory. `column` is x's column, padded with zeros to whole vectors.
template <class T>
static void residual_one(const ResidualTask<T>& t, int64_t rhs, int64_t from, int64_t to, const double* column) {
  const int64_t whole = t.n / lanes * lanes, tail = t.n - whole;
  double* g = t.g ? t.g + rhs * padded(t.n) : nullptr;
  double total = 0;
  for (int64_t i = from; i < to; ++i) {
    const T* row = t.a + i * t.lda;
    VecD acc[4] = {};
    int64_t j = 0;
    for (; j + 4 * lanes <= whole; j += 4 * lanes)
      for (int u = 0; u < 4; ++u)
        acc[u] += load_as<double, lanes>(row + j + u * lanes) * load<lanes>(column + j + u * lanes);
    for (; j < whole; j += lanes) acc[0] += load_as<double, lanes>(row + j) * load<lanes>(column + j);
    double s = sum((acc[0] + acc[1]) + (acc[2] + acc[3]));
    for (int64_t q = 0; q < tail; ++q) s += static_cast<double>(row[whole + q]) * column[whole + q];
    const double r = static_cast<double>(t.b[i * t.ldb + rhs]) - s;
    total += r * r;
    if (t.r) t.r[(i - t.from) * t.k + rhs] = r;
    if (g) {
      for (j = 0; j < whole; j += lanes) store<lanes>(g + j, load<lanes>(g + j) + r * load_as<double, lanes>(row + j));
      for (int64_t q = 0; q < tail; ++q) g[whole + q] += r * static_cast<double>(row[whole + q]);
    }
  }
  t.sums[rhs] += total;
}

// Many: as matrix products, block by block of rows and of columns, so that each piece fits a cache.
template <class T>
static void residual_many(const ResidualTask<T>& t) {
  constexpr int64_t tile = tile_panels * lanes;
  const int64_t panels = (t.k + lanes - 1) / lanes, tiles = (t.k + tile - 1) / tile, ldx = tiles * tile,
                ldg = padded(t.n);
  constexpr int64_t rows = residual_rows, columns = residual_columns;
  const int64_t ldp = columns + off_powers_of_two;
  double* block = static_cast<double*>(scratch(0, rows * ldp * sizeof(double)));
  double* x = static_cast<double*>(scratch(1, t.n * ldx * sizeof(double)));
  double* r = static_cast<double*>(scratch(2, rows * ldx * sizeof(double)));
  // Tile by tile of right-hand sides: x[(tile n + j) tile_width + lane].
  for (int64_t c = 0; c < tiles; ++c)
    for (int64_t j = 0; j < t.n; ++j)
      for (int64_t lane = 0; lane < tile; ++lane)
        x[(c * t.n + j) * tile + lane] = c * tile + lane < t.k ? t.x[j * t.k + c * tile + lane] : 0.0;
  for (int64_t at = t.from; at < t.to; at += rows) {
    const int64_t depth = min(rows, t.to - at);
    for (int64_t i = 0; i < depth; ++i)
      for (int64_t c = 0; c < ldx; ++c) r[i * ldx + c] = c < t.k ? static_cast<double>(t.b[(at + i) * t.ldb + c]) : 0.0;
    for (int64_t j = 0; j < t.n; j += columns) {
      const int64_t width = min(columns, t.n - j);
      widen(t.a + at * t.lda + j, t.lda, depth, width, block, ldp);
      for (int64_t c = 0; c < tiles; ++c)
        micro_block<double, true>(width,
                                  block,
                                  ldp,
                                  1,
                                  depth,
                                  x + (c * t.n + j) * tile,
                                  lanes,
                                  tile,
                                  min(tile_panels, panels - c * tile_panels),
                                  r + c * tile,
                                  ldx);
    }
    for (int64_t i = 0; i < depth; ++i)
      for (int64_t c = 0; c < t.k; ++c) {
        t.sums[c] += r[i * ldx + c] * r[i * ldx + c];
        if (t.r) t.r[(at + i - t.from) * t.k + c] = r[i * ldx + c];
      }
    if (!t.g) continue;
    for (int64_t j = 0; j < t.n; j += columns) {
      const int64_t width = min(columns, t.n - j);
      pack_columns<T, double>(t.a + at * t.lda + j, t.lda, width, depth, block);
      micro_blocks<double>(
          depth, r, 1, ldx, t.k, block, depth * lanes, lanes, (width + lanes - 1) / lanes, t.g + j, ldg);
    }
  }
}

template <class T>
static void residual(const ResidualTask<T>& t) {
  if (t.k >= 4) return residual_many(t);
  double* columns = static_cast<double*>(scratch(0, t.n * t.k * sizeof(double)));
  for (int64_t c = 0; c < t.k; ++c)
    for (int64_t j = 0; j < t.n; ++j) columns[c * t.n + j] = t.x[j * t.k + c];
  // Several right-hand sides take turns on a block of rows while it is in cache.
  const int64_t block = t.k == 1 ? t.to - t.from : max(1, residual_turn / t.n);
  for (int64_t at = t.from; at < t.to; at += block)
    for (int64_t c = 0; c < t.k; ++c) residual_one(t, c, at, min(at + block, t.to), columns + c * t.n);
}

template <class T>
static void transpose_times(const TransposeTask<T>& t) {
  const int64_t width = t.to - t.from;
  if (t.k == 1) {
    double* y = t.y;
    for (int64_t j = 0; j < width; ++j) y[j] = 0;
    const int64_t block = transpose_block;
    for (int64_t at = 0; at < width; at += block) {
      const int64_t n = min(block, width - at);
      int64_t i = 0;
      for (; i + 4 <= t.m; i += 4) {
        const T* row = t.a + i * t.lda + t.from + at;
        int64_t j = 0;
        for (; j + lanes <= n; j += lanes) {
          VecD s = load<lanes>(y + at + j);
          for (int u = 0; u < 4; ++u) s += t.v[i + u] * load_as<double, lanes>(row + u * t.lda + j);
          store<lanes>(y + at + j, s);
        }
        for (; j < n; ++j)
          for (int u = 0; u < 4; ++u) y[at + j] += t.v[i + u] * static_cast<double>(row[u * t.lda + j]);
      }
      for (; i < t.m; ++i) {
        const T* row = t.a + i * t.lda + t.from + at;
        for (int64_t j = 0; j < n; ++j) y[at + j] += t.v[i] * static_cast<double>(row[j]);
      }
    }
    return;
  }
  // Many right-hand sides: y[j][c] = sum over i of a[i][j] v[i][c], on blocks of columns.
  const int64_t ldv = padded(t.k), block = transpose_columns, lda = block + off_powers_of_two;
  double* v = static_cast<double*>(scratch(1, t.m * ldv * sizeof(double)));
  double* columns = static_cast<double*>(scratch(0, t.m * lda * sizeof(double)));
  double* product = static_cast<double*>(scratch(2, block * ldv * sizeof(double)));
  widen(t.v, t.k, t.m, t.k, v, ldv);
  for (int64_t at = 0; at < width; at += block) {
    const int64_t n = min(block, width - at);
    widen(t.a + t.from + at, t.lda, t.m, n, columns, lda);
    for (int64_t i = 0; i < n * ldv; ++i) product[i] = 0;
    for (int64_t j = 0; j < t.m; j += transpose_rows)
      micro_block<double>(min(transpose_rows, t.m - j),
                          columns + j * lda,
                          1,
                          lda,
                          n,
                          v + j * ldv,
                          lanes,
                          ldv,
                          (t.k + lanes - 1) / lanes,
                          product,
                          ldv);
    for (int64_t i = 0; i < n; ++i)
      for (int64_t c = 0; c < t.k; ++c) t.y[(at + i) * t.k + c] = product[i * ldv + c];
  }
}

}  // namespace
}  // namespace lstsq::kernels::LSTSQ_ISA
