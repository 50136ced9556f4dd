// Matrices from memory to the lanes of vectors, each matrix to its own lane, in double precision.
#pragma once

#include "simd-inl.h"

#ifdef __has_builtin
#if __has_builtin(__builtin_shufflevector)
#define LSTSQ_SHUFFLES 1
#endif
#endif

namespace lstsq::kernels::LSTSQ_ISA {
namespace {

// The matrices: entry (i, j) of lane l is first[l][i * row + j * column].
template <class T>
struct LaneMatrices {
  const T* first[lanes];
  int64_t row, column;
};

#ifdef LSTSQ_SHUFFLES
// Row l of t becomes column l: blocks of 1, 2 and 4 entries off the diagonal change places. L is `lanes`.
template <int L>
static inline void transpose(Vec<double, L>* t) {
  using V = Vec<double, L>;
  const auto exchange = [t](int size, auto shuffle) {
    for (int i = 0; i < L; ++i)
      if ((i & size) == 0) shuffle(t[i], t[i + size]);
  };
  if constexpr (L == 8) {
    exchange(1, [](V& a, V& b) {
      const V low = __builtin_shufflevector(a, b, 0, 8, 2, 10, 4, 12, 6, 14);
      b = __builtin_shufflevector(a, b, 1, 9, 3, 11, 5, 13, 7, 15);
      a = low;
    });
    exchange(2, [](V& a, V& b) {
      const V low = __builtin_shufflevector(a, b, 0, 1, 8, 9, 4, 5, 12, 13);
      b = __builtin_shufflevector(a, b, 2, 3, 10, 11, 6, 7, 14, 15);
      a = low;
    });
    exchange(4, [](V& a, V& b) {
      const V low = __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11);
      b = __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15);
      a = low;
    });
  } else {
    static_assert(L == 4);
    exchange(1, [](V& a, V& b) {
      const V low = __builtin_shufflevector(a, b, 0, 4, 2, 6);
      b = __builtin_shufflevector(a, b, 1, 5, 3, 7);
      a = low;
    });
    exchange(2, [](V& a, V& b) {
      const V low = __builtin_shufflevector(a, b, 0, 1, 4, 5);
      b = __builtin_shufflevector(a, b, 2, 3, 6, 7);
      a = low;
    });
  }
}
#endif

// `count` numbers that follow each other in memory, from each lane's matrix at `from`, to `to`: `across` of them with
// `step` vectors from one to the next, then the next ones, `further` vectors after them.
template <class T>
static inline void take_run(
    const LaneMatrices<T>& a, int64_t from, int64_t count, VecD* to, int64_t across, int64_t step, int64_t further) {
#ifdef LSTSQ_SHUFFLES
  // A vector from each lane at a time; the last ones may overlap those before them.
  for (int64_t done = 0; count >= lanes && done < count; done += lanes) {
    const int64_t i = min(done, count - lanes);
    VecD t[lanes];
#pragma GCC unroll 8
    for (int l = 0; l < lanes; ++l) t[l] = load_as<double, lanes>(a.first[l] + from + i);
    transpose<lanes>(t);
    if (across == count) {
#pragma GCC unroll 8
      for (int l = 0; l < lanes; ++l) to[(i + l) * step] = t[l];
      continue;
    }
    int64_t c = i % across;
    VecD* at = to + c * step + i / across * further;
#pragma GCC unroll 8
    for (int l = 0; l < lanes; ++l) {
      *at = t[l];
      at += step;
      if (++c == across) {
        c = 0;
        at += further - across * step;
      }
    }
  }
  if (count >= lanes) return;
#endif
  for (int64_t i = 0; i < count; ++i)
    for (int l = 0; l < lanes; ++l)
      to[i % across * step + i / across * further][l] = static_cast<double>(a.first[l][from + i]);
}

// Whole matrices, m by n, whose rows are without gaps: entry (i, j) to to[i * step + j].
template <class T>
static inline void take_matrix(const LaneMatrices<T>& a, int64_t m, int64_t n, VecD* to, int64_t step) {
  if (a.row == n && (n == 1 || n < lanes)) {
    take_run(a, 0, m * n, to, n, 1, step);
  } else {
    for (int64_t i = 0; i < m; ++i) take_run(a, i * a.row, n, to + i * step, n, 1, 0);
  }
}

// The rows [from, from + rows) of n columns, to `to`, column-major with `step` vectors from one column to the next.
template <class T>
static inline void take_rows(const LaneMatrices<T>& a, int64_t from, int64_t rows, int64_t n, VecD* to, int64_t step) {
  if (a.column == 1 && a.row == n && n < lanes) {
    take_run(a, from * a.row, rows * n, to, n, step, 1);
  } else if (a.column == 1) {
    for (int64_t i = 0; i < rows; ++i) take_run(a, (from + i) * a.row, n, to + i, n, step, 1);
  } else if (a.row == 1) {
    for (int64_t c = 0; c < n; ++c) take_run(a, from + c * a.column, rows, to + c * step, rows, 1, 0);
  } else {
    for (int64_t c = 0; c < n; ++c)
      for (int64_t i = 0; i < rows; ++i)
        for (int l = 0; l < lanes; ++l)
          to[c * step + i][l] = static_cast<double>(a.first[l][(from + i) * a.row + c * a.column]);
  }
}

}  // namespace
}  // namespace lstsq::kernels::LSTSQ_ISA
