// LU factors of a row-major matrix, with exchanges of columns, and solves with them.
//
// They are the factors that LAPACK's getrf finds for the transpose: P A' = L U, so A = U' L' P. In the rows of `lu`, U'
// is on and below the diagonal, and L', whose diagonal of ones is not stored, is above it. Rows are padded to whole
// vectors, with zeros.
#pragma once

#include "isa.h"
#include "simd-inl.h"
#include "triangular-inl.h"

namespace lstsq::kernels::LSTSQ_ISA {
namespace {

template <class T>
static int64_t largest(const T* row, int64_t from, int64_t to) {
  constexpr int W = panel_width<T>;
  auto magnitude = [](auto e) { return e < 0 ? -e : e; };
  Vec<T, W> most = {};
  int64_t j = from;
  for (; j + W <= to; j += W) {
    const Vec<T, W> e = magnitude(load<W>(row + j));
    most = e > most ? e : most;
  }
  T best = 0;
  for (int i = 0; i < W; ++i)
    if (most[i] > best) best = most[i];
  for (; j < to; ++j)
    if (magnitude(row[j]) > best) best = magnitude(row[j]);
  for (j = from; j < to; ++j)
    if (magnitude(row[j]) == best) break;
  return min(j, to - 1);
}

template <class T>
static inline void exchange_columns(T* row, int64_t i, int64_t j) {
  const T keep = row[i];
  row[i] = row[j];
  row[j] = keep;
}

// Factorise rows [at, at + depth), which all rows before them have updated, and pack their part of L'.
template <class T>
static bool lu_panel(int64_t n, T* lu, int64_t ld, int32_t* pivots, int64_t at, int64_t depth, T* packed) {
  constexpr int W = panel_width<T>;
  const int64_t end = at + depth, columns = padded(n);
  for (int64_t s = at; s < end; s += block_rows) {
    const int64_t rows = min(block_rows, end - s), inner = s + block_rows;
    for (int64_t r = s; r < s + rows; ++r) {
      T* __restrict row = lu + r * ld;
      for (int64_t c = at; c < s; ++c)
        for (int64_t j = c + 1; j < s; ++j) row[j] -= row[c] * lu[c * ld + j];
    }
    micro_blocks<T, true>(
        s - at, lu + s * ld + at, ld, 1, rows, lu + at * ld + s, W, ld, (columns - s) / W, lu + s * ld + s, ld);
    for (int64_t i = s; i < s + rows; ++i) {
      T* row = lu + i * ld;
      for (int64_t c = s; c < i; ++c)
        for (int64_t j = c + 1; j < inner; ++j) row[j] -= row[c] * lu[c * ld + j];
      if (inner < columns)
        subtract_rows(i - s, row + s, 1, lu + s * ld + inner, ld, (columns - inner) / W, row + inner);
      const int64_t pivot = largest(row, i, n);
      pivots[i] = static_cast<int32_t>(pivot + 1);
      if (row[pivot] == 0 || row[pivot] != row[pivot]) return false;
      for (int64_t r = at; r < end; ++r) exchange_columns(lu + r * ld, i, pivot);
      const T inverse = 1 / row[i];
      for (int64_t j = i + 1; j < n; ++j) row[j] *= inverse;
    }
  }
  if (end < n) pack_panels(lu + at * ld + end, ld, depth, (columns - end) / W, packed);
  return true;
}

// Rows [from, to), at most lu_rows of them: exchange columns, divide by the panel's triangle, subtract the product.
template <class T>
static void lu_update(int64_t n,
                      T* lu,
                      int64_t ld,
                      const int32_t* pivots,
                      int64_t at,
                      int64_t depth,
                      const T* packed,
                      int64_t from,
                      int64_t to) {
  constexpr int W = panel_width<T>;
  constexpr int64_t across = lu_rows / W;
  alignas(64) T turned[lu_depth * lu_rows];  // the panel's columns of these rows, transposed
  for (int64_t r = from; r < to; ++r)
    for (int64_t c = at; c < at + depth; ++c) exchange_columns(lu + r * ld, c, pivots[c] - 1);
  for (int64_t c = 0; c < depth; ++c)
    for (int64_t r = 0; r < lu_rows; ++r) turned[c * lu_rows + r] = from + r < to ? lu[(from + r) * ld + at + c] : T(0);
  for (int64_t s = 0; s < depth; s += block_rows) {
    const T* triangle = lu + at * ld + at + s;
    const int64_t rows = min(block_rows, depth - s);
    T* block = turned + s * lu_rows;
    micro_block<T, true>(s, triangle, 1, ld, rows, turned, W, lu_rows, across, block, lu_rows);
    for (int64_t c = 1; c < rows; ++c)
      subtract_rows(c, triangle + s * ld + c, ld, block, lu_rows, across, block + c * lu_rows);
  }
  for (int64_t r = from; r < to; ++r)
    for (int64_t c = 0; c < depth; ++c) lu[r * ld + at + c] = turned[c * lu_rows + r - from];
  const int64_t first = at + depth, panels = (padded(n) - first) / W;
  for (int64_t j = 0; j < panels; j += tile_panels)
    micro_block<T, true>(depth,
                         turned,
                         1,
                         lu_rows,
                         to - from,
                         packed + j * depth * W,
                         depth * W,
                         W,
                         min(tile_panels, panels - j),
                         lu + from * ld + first + j * W,
                         ld);
}

// Four right-hand sides, in a register each row of them; four rows at a time.
template <class T, bool transposed>
static void lu_triangles(int64_t n, const T* lu, int64_t ld, const int32_t* pivots, double* w) {
  constexpr int K = 4;
  using V = Vec<double, K>;
  auto at = [&](int64_t i) { return w + K * i; };
  auto row = [&](int64_t i) { return lu + i * ld; };
  auto exchange = [&](int64_t i, int64_t j) {
    const V keep = load<K>(at(i));
    store<K>(at(i), load<K>(at(j)));
    store<K>(at(j), keep);
  };
  // w_i -= the sum over `from <= j < to` of row_i[j] w_j, for the rows i in [first, first + count).
  auto subtract_dots = [&](int64_t first, int64_t count, int64_t from, int64_t to) {
    if (count == 4) {
      V even[4] = {}, odd[4] = {};
      int64_t j = from;
      for (; j + 2 <= to; j += 2)
        for (int i = 0; i < 4; ++i) {
          even[i] += static_cast<double>(row(first + i)[j]) * load<K>(at(j));
          odd[i] += static_cast<double>(row(first + i)[j + 1]) * load<K>(at(j + 1));
        }
      if (j < to)
        for (int i = 0; i < 4; ++i) even[i] += static_cast<double>(row(first + i)[j]) * load<K>(at(j));
      for (int i = 0; i < 4; ++i) store<K>(at(first + i), load<K>(at(first + i)) - (even[i] + odd[i]));
    } else {
      for (int64_t i = first; i < first + count; ++i)
        for (int64_t j = from; j < to; ++j)
          store<K>(at(i), load<K>(at(i)) - static_cast<double>(row(i)[j]) * load<K>(at(j)));
    }
  };
  // w_j -= the sum over the rows i in [first, first + count) of row_i[j] w_i, for `from <= j < to`.
  auto subtract_spread = [&](int64_t first, int64_t count, int64_t from, int64_t to) {
    if (count == 4) {
      const V s0 = load<K>(at(first)), s1 = load<K>(at(first + 1)), s2 = load<K>(at(first + 2)),
              s3 = load<K>(at(first + 3));
      const T *r0 = row(first), *r1 = row(first + 1), *r2 = row(first + 2), *r3 = row(first + 3);
      for (int64_t j = from; j < to; ++j)
        store<K>(at(j),
                 load<K>(at(j)) - ((static_cast<double>(r0[j]) * s0 + static_cast<double>(r1[j]) * s1) +
                                   (static_cast<double>(r2[j]) * s2 + static_cast<double>(r3[j]) * s3)));
    } else {
      for (int64_t i = first; i < first + count; ++i)
        for (int64_t j = from; j < to; ++j)
          store<K>(at(j), load<K>(at(j)) - static_cast<double>(row(i)[j]) * load<K>(at(i)));
    }
  };
  const int64_t last = (n - 1) / 4 * 4;
  if constexpr (!transposed) {
    for (int64_t i = 0; i < n; i += 4) {
      const int64_t count = min(4, n - i);
      subtract_dots(i, count, 0, i);
      for (int64_t c = i; c < i + count; ++c) {
        subtract_dots(c, 1, i, c);
        store<K>(at(c), load<K>(at(c)) / static_cast<double>(row(c)[c]));
      }
    }
    for (int64_t i = last; i >= 0; i -= 4) {
      const int64_t count = min(4, n - i);
      subtract_dots(i, count, i + count, n);
      for (int64_t c = i + count - 2; c >= i; --c) subtract_dots(c, 1, c + 1, i + count);
    }
    for (int64_t i = n - 1; i >= 0; --i) exchange(i, pivots[i] - 1);
  } else {
    for (int64_t i = 0; i < n; ++i) exchange(i, pivots[i] - 1);
    for (int64_t i = 0; i < n; i += 4) {
      const int64_t count = min(4, n - i);
      for (int64_t c = i; c < i + count - 1; ++c) subtract_spread(c, 1, c + 1, i + count);
      subtract_spread(i, count, i + count, n);
    }
    for (int64_t i = last; i >= 0; i -= 4) {
      const int64_t count = min(4, n - i);
      for (int64_t c = i + count - 1; c >= i; --c) {
        store<K>(at(c), load<K>(at(c)) / static_cast<double>(row(c)[c]));
        subtract_spread(c, 1, i, c);
      }
      subtract_spread(i, count, 0, i);
    }
  }
}

// One right-hand side: vectors run along the rows.
template <class T>
static void lu_one(int64_t n, const T* lu, int64_t ld, const int32_t* pivots, double* w) {
  auto dot = [&](const T* row, int64_t from, int64_t to) {
    VecD s[4] = {};
    int64_t j = from;
    for (; j + 4 * lanes <= to; j += 4 * lanes)
      for (int u = 0; u < 4; ++u) s[u] += load_as<double, lanes>(row + j + u * lanes) * load<lanes>(w + j + u * lanes);
    for (; j + lanes <= to; j += lanes) s[0] += load_as<double, lanes>(row + j) * load<lanes>(w + j);
    double total = sum((s[0] + s[1]) + (s[2] + s[3]));
    for (; j < to; ++j) total += static_cast<double>(row[j]) * w[j];
    return total;
  };
  for (int64_t i = 0; i < n; ++i) w[i] = (w[i] - dot(lu + i * ld, 0, i)) / static_cast<double>(lu[i * ld + i]);
  for (int64_t i = n - 1; i >= 0; --i) w[i] -= dot(lu + i * ld, i + 1, n);
  for (int64_t i = n - 1; i >= 0; --i) {
    const double keep = w[i];
    w[i] = w[pivots[i] - 1];
    w[pivots[i] - 1] = keep;
  }
}

template <class T>
static void lu_solve(int64_t n, const T* lu, int64_t ld, const int32_t* pivots, bool transposed, double* w, int64_t k) {
  if (k == 4)
    transposed ? lu_triangles<T, true>(n, lu, ld, pivots, w) : lu_triangles<T, false>(n, lu, ld, pivots, w);
  else
    lu_one(n, lu, ld, pivots, w);
}

}  // namespace
}  // namespace lstsq::kernels::LSTSQ_ISA
