// One pass over a matrix, spread over the threads: the Gram matrix, residuals and gradient, the transposed product.
// Real matrices only; a complex one is passed as a real one of interleaved parts (see complex.h).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <vector>

#include "isa.h"
#include "pool.h"
#include "range.h"

namespace lstsq::kernels {

// What a problem is made of: a and as many rows of b, which is row-major.
template <class T>
struct Operands {
  MatrixView<T> a, b;
};

// to (rows of a.cols) = a matrix that lies anywhere, in tiles that stay in the first-level cache.
template <class T>
void copy_block(const MatrixView<T>& a, T* to) {
  for (int64_t i0 = 0; i0 < a.rows; i0 += copy_tile)
    for (int64_t j0 = 0; j0 < a.cols; j0 += copy_tile)
      for (int64_t i = i0; i < std::min(i0 + copy_tile, a.rows); ++i)
        for (int64_t j = j0; j < std::min(j0 + copy_tile, a.cols); ++j) to[i * a.cols + j] = a(i, j);
}

// Calls f(data, ld, from, to, first) for rows [from, to), which are numbered from `first` in what it is given: for all
// of them where the rows lie as the inner loops take them, else for a copy of a block after the other.
template <class T, class F>
void in_rows(const MatrixView<T>& a, int64_t from, int64_t to, const F& f) {
  if (a.col_stride == 1) return f(a.data, a.row_stride, from, to, int64_t{0});
  const int64_t depth = copied_rows(a.cols);
  const auto block = std::make_unique_for_overwrite<T[]>(static_cast<size_t>(std::min(depth, to - from) * a.cols));
  for (int64_t at = from; at < to; at += depth) {
    const int64_t rows = std::min(depth, to - at);
    copy_block(a.rows_from(at, rows), block.get());
    f(static_cast<const T*>(block.get()), a.cols, int64_t{0}, rows, at);
  }
}

// The same for columns of a wide matrix.
template <class T, class F>
void in_columns(const MatrixView<T>& a, int64_t from, int64_t to, const F& f) {
  if (a.col_stride == 1) return f(a.data, a.row_stride, from, to, int64_t{0});
  const int64_t depth = copied_rows(a.rows);
  const auto block = std::make_unique_for_overwrite<T[]>(static_cast<size_t>(std::min(depth, to - from) * a.rows));
  for (int64_t at = from; at < to; at += depth) {
    const int64_t columns = std::min(depth, to - at);
    copy_block(a.cols_from(at, columns), block.get());
    f(static_cast<const T*>(block.get()), columns, int64_t{0}, columns, at);
  }
}

// How many pieces to cut `length` into: some per thread, none with less than `smallest` multiplications.
inline int64_t pieces(int64_t length, double work_per_item, double smallest, int64_t per_thread) {
  const double most = static_cast<double>(length) * work_per_item / smallest;
  const int64_t limit = thread_count() == 1 ? 1 : thread_count() * per_thread;
  return std::max<int64_t>(1, std::min<int64_t>({limit, length, static_cast<int64_t>(most)}));
}

// `gram` with `single`, by another library's products (single_products.cpp); false where there are none, or the matrix
// does not suit them.
bool gram_by_others(const Operands<float>& p, bool wide, double* g, double* c);

// g (padded(n) square, the upper triangle) and c (k rows of padded(n)) are overwritten.
// The longest chain of additions that any entry went through is returned: it is what the error bounds need.
template <class T>
int64_t gram(const Operands<T>& p, bool wide, bool single, double* g, double* c) {
  if constexpr (sizeof(T) == 4)
    if (single && gram_by_others(p, wide, g, c)) return longest_gram_block;
  const int64_t n = wide ? p.a.rows : p.a.cols, inner = wide ? p.a.cols : p.a.rows, k = wide ? 0 : p.b.cols,
                ldg = padded(n);
  const int64_t size = ldg * ldg + k * ldg;
  const int64_t cuts = pieces(
      inner, static_cast<double>(n) * static_cast<double>(n / 2 + k + 1), gram_piece, n <= gram_many_pieces ? 4 : 1);
  const auto rest = std::make_unique_for_overwrite<double[]>(static_cast<size_t>((cuts - 1) * size));
  parallel(cuts, [&](int64_t cut) {
    double* own = cut ? rest.get() + (cut - 1) * size : g;
    double* cross = cut ? own + ldg * ldg : c;
    std::fill(own, own + ldg * ldg, 0.0);
    if (k) std::fill(cross, cross + k * ldg, 0.0);
    const auto add = [&](const T* a, int64_t lda, int64_t from, int64_t to, int64_t first) {
      const T* b = k ? p.b.data + first * p.b.row_stride : nullptr;
      const GramTask<T> t{a, lda, n, b, p.b.row_stride, k, wide, single, from, to, own, cross};
      if constexpr (sizeof(T) == 4)
        isa().gram_f(t);
      else
        isa().gram_d(t);
    };
    if (wide)
      in_columns(p.a, inner * cut / cuts, inner * (cut + 1) / cuts, add);
    else
      in_rows(p.a, inner * cut / cuts, inner * (cut + 1) / cuts, add);
  });
  if (cuts > 1) {
    const int64_t strips = pieces(n, static_cast<double>(n * cuts), gram_piece, 4);
    parallel(strips, [&](int64_t strip) {
      for (int64_t cut = 1; cut < cuts; ++cut) {
        const double* own = rest.get() + (cut - 1) * size;
        for (int64_t i = n * strip / strips; i < n * (strip + 1) / strips; ++i)
          for (int64_t j = i; j < n; ++j) g[i * ldg + j] += own[i * ldg + j];
        for (int64_t i = k * ldg * strip / strips; i < k * ldg * (strip + 1) / strips; ++i) c[i] += own[ldg * ldg + i];
      }
    });
  }
  return longest_gram_block + inner / cuts / shortest_gram_block + cuts;
}

// sums (k) = column sums of |b - a x|^2; g (k rows of padded(n)), where not null, = (A'(b - a x))'; r (m rows of k),
// where not null, = b - a x.
template <class T>
void residual_pass(const Operands<T>& p, const double* x, double* sums, double* g, double* r) {
  const int64_t ldg = padded(p.a.cols), size = p.b.cols + (g ? p.b.cols * ldg : 0);
  const int64_t cuts =
      pieces(p.a.rows, static_cast<double>(p.a.cols) * static_cast<double>(p.b.cols), residual_piece, 4);
  const auto own = std::make_unique_for_overwrite<double[]>(static_cast<size_t>(cuts * size));
  parallel(cuts, [&](int64_t cut) {
    const int64_t from = p.a.rows * cut / cuts, to = p.a.rows * (cut + 1) / cuts;
    double* mine = own.get() + cut * size;
    std::fill(mine, mine + size, 0.0);
    in_rows(p.a, from, to, [&](const T* a, int64_t lda, int64_t begin, int64_t end, int64_t first) {
      double* out = r ? r + (first + begin) * p.b.cols : nullptr;
      const ResidualTask<T> t{a,
                              lda,
                              p.a.cols,
                              p.b.data + first * p.b.row_stride,
                              p.b.row_stride,
                              p.b.cols,
                              x,
                              begin,
                              end,
                              mine,
                              g ? mine + p.b.cols : nullptr,
                              out};
      if constexpr (sizeof(T) == 4)
        isa().residual_f(t);
      else
        isa().residual_d(t);
    });
  });
  std::fill(sums, sums + p.b.cols, 0.0);
  if (g) std::fill(g, g + p.b.cols * ldg, 0.0);
  for (int64_t cut = 0; cut < cuts; ++cut) {
    const double* mine = own.get() + cut * size;
    for (int64_t c = 0; c < p.b.cols; ++c) sums[c] += mine[c];
    if (g)
      for (int64_t i = 0; i < p.b.cols * ldg; ++i) g[i] += mine[p.b.cols + i];
  }
}

// to (m rows of k) = b in double precision; false where a column holds NaN or infinity, or has a size that the
// certificate is not proved for.
template <class T>
bool take_right_sides(const Operands<T>& p, double* to) {
  std::vector<double> largest(static_cast<size_t>(p.b.cols));
  for (int64_t i = 0; i < p.a.rows; ++i)
    for (int64_t c = 0; c < p.b.cols; ++c) {
      const double e = to[i * p.b.cols + c] = static_cast<double>(p.b(i, c));
      if (!std::isfinite(e)) return false;
      largest[static_cast<size_t>(c)] = std::max(largest[static_cast<size_t>(c)], std::abs(e));
    }
  return std::all_of(largest.begin(), largest.end(), [](double size) { return size == 0 || ordinary(size); });
}

// y (n rows of k) = A'v, v m rows of k.
template <class T>
void transpose_pass(const MatrixView<T>& a, int64_t k, const double* v, double* y) {
  const int64_t cuts = pieces(a.cols, static_cast<double>(a.rows) * static_cast<double>(k), residual_piece, 4);
  parallel(cuts, [&](int64_t cut) {
    const int64_t from = a.cols * cut / cuts, to = a.cols * (cut + 1) / cuts;
    in_columns(a, from, to, [&](const T* data, int64_t lda, int64_t begin, int64_t end, int64_t first) {
      const TransposeTask<T> t{data, lda, a.rows, v, k, begin, end, y + (first + begin) * k};
      if constexpr (sizeof(T) == 4)
        isa().transpose_f(t);
      else
        isa().transpose_d(t);
    });
  });
}

}  // namespace lstsq::kernels
