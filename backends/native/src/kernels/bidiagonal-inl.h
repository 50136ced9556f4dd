// Householder reflections of matrices of one shape, one matrix per vector lane: to triangles, and to bidiagonal
// matrices (Golub and Kahan 1965, "Calculating the singular values and pseudo-inverse of a matrix").
#pragma once

#include "simd-inl.h"

namespace lstsq::kernels::LSTSQ_ISA {
namespace {

// The reflection I - factor v v' that maps a column, `first` above entries with this sum of squares, to `image` above
// zeros. v is the column with `top` in the place of its first entry. A column next to nothing is left as it is: its
// squares have lost their digits, and compared with the matrix (range.h) it is zero.
struct Reflection {
  VecD top, factor, image;

  Reflection(VecD first, VecD squares) {
    const VecD all = first * first + squares, length = square_root(all);
    const auto nothing = all <= 0x1p-900;
    top = first < 0.0 ? first - length : first + length;
    factor = nothing ? VecD{} : 1.0 / (nothing ? VecD{} + 1.0 : length * magnitudes(top));
    image = nothing ? first : first < 0.0 ? length : -length;
  }
};

// The inner product of two columns of H entries, in four sums, so that one addition does not wait for the last.
template <int H>
static inline VecD inner(const VecD* v, const VecD* y) {
  constexpr int sums = H < 4 ? H : 4;
  VecD s[sums];
#pragma GCC unroll 4
  for (int i = 0; i < sums; ++i) s[i] = v[i] * y[i];
#pragma GCC unroll 16
  for (int i = sums; i < H; ++i) s[i % sums] += v[i] * y[i];
  if constexpr (sums == 4)
    return (s[0] + s[1]) + (s[2] + s[3]);
  else
    return s[0] + s[1];
}

// Reduce [R; columns] to [R'; 0], columns being n columns of H entries, which become reflectors: column after column
// comes to the registers, and leaves when all reflections have been applied. r is n by n, column-major; tops and
// factors are room for the other parts of the reflections.
template <int H>
static inline void add_rows(int64_t n, VecD* r, VecD* columns, VecD* tops, VecD* factors) {
  for (int64_t c = 0; c < n; ++c) {
    VecD y[H];
#pragma GCC unroll 16
    for (int i = 0; i < H; ++i) y[i] = columns[c * H + i];
    VecD* above = r + c * n;
    for (int64_t j = 0; j < c; ++j) {
      const VecD* v = columns + j * H;
      const VecD s = factors[j] * (tops[j] * above[j] + inner<H>(v, y));
      above[j] -= s * tops[j];
#pragma GCC unroll 16
      for (int i = 0; i < H; ++i) y[i] -= s * v[i];
    }
    const Reflection made(above[c], inner<H>(y, y));
    tops[c] = made.top;
    factors[c] = made.factor;
    above[c] = made.image;
#pragma GCC unroll 16
    for (int i = 0; i < H; ++i) columns[c * H + i] = y[i];
  }
}

// The squares of the diagonal, q, and of what is right of it, e, of the bidiagonal matrix to which a (m by n, m >= n,
// column-major, overwritten) is reduced. w: room for m.
static void bidiagonalise(int64_t m, int64_t n, bool triangular, VecD* a, VecD* q, VecD* e, VecD* w) {
  for (int64_t k = 0; k < n; ++k) {
    VecD* v = a + k * m;
    VecD first = v[k];
    if (k == 0 && triangular) {
      q[k] = first * first;
    } else {
      VecD squares = {};
      for (int64_t i = k + 1; i < m; ++i) squares += v[i] * v[i];
      const Reflection left(first, squares);
      q[k] = left.image * left.image;
      v[k] = left.top;
      for (int64_t c = k + 1; c < n; ++c) {
        VecD* y = a + c * m;
        VecD s = {}, t = {};
        int64_t i = k;
        for (; i + 2 <= m; i += 2) {
          s += v[i] * y[i];
          t += v[i + 1] * y[i + 1];
        }
        if (i < m) s += v[i] * y[i];
        s = (s + t) * left.factor;
        for (i = k; i < m; ++i) y[i] -= s * v[i];
      }
    }
    if (k + 1 == n) break;
    VecD* y = a + (k + 1) * m;
    if (k + 2 == n) {
      e[k] = y[k] * y[k];
      continue;
    }
    VecD squares = {};
    for (int64_t c = k + 2; c < n; ++c) squares += a[c * m + k] * a[c * m + k];
    const Reflection right(y[k], squares);
    e[k] = right.image * right.image;
    y[k] = right.top;
    for (int64_t i = k + 1; i < m; ++i) w[i] = y[k] * y[i];
    for (int64_t c = k + 2; c < n; ++c) {
      const VecD s = a[c * m + k];
      for (int64_t i = k + 1; i < m; ++i) w[i] += s * a[c * m + i];
    }
    for (int64_t i = k + 1; i < m; ++i) w[i] *= right.factor;
    for (int64_t c = k + 1; c < n; ++c) {
      const VecD s = a[c * m + k];
      for (int64_t i = k + 1; i < m; ++i) a[c * m + i] -= s * w[i];
    }
  }
}

}  // namespace
}  // namespace lstsq::kernels::LSTSQ_ISA
