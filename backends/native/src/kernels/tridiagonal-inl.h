// Eigenvalues of symmetric matrices of one order, one matrix per vector lane: Householder reflections to a tridiagonal
// matrix (Golub and Van Loan 2013, section 8.3.1), and QL sweeps in the form without square roots (Parlett 1998, "The
// symmetric eigenvalue problem", section 8.15; LAPACK's sterf). Errors are a few units of rounding of the largest.
#pragma once

#include "bidiagonal-inl.h"
#include "simd-inl.h"

namespace lstsq::kernels::LSTSQ_ISA {
namespace {

// The diagonal, and the squares of what is beside it, of the tridiagonal matrix to which `a` is reduced: the upper
// triangle, n by n in rows, which is overwritten. Entry i goes to d[i * step] and e[i * step]. w: room for n.
static inline void tridiagonalise(int64_t n, VecD* a, VecD* d, VecD* e, int64_t step, VecD* w) {
  for (int64_t k = 0; k + 1 < n; ++k) {
    VecD* v = a + k * n;
    d[k * step] = v[k];
    if (k + 2 == n) {
      e[k * step] = v[k + 1] * v[k + 1];
      break;
    }
    VecD squares = {};
    for (int64_t i = k + 2; i < n; ++i) squares += v[i] * v[i];
    const Reflection made(v[k + 1], squares);
    e[k * step] = made.image * made.image;
    v[k + 1] = made.top;

    // w = A v, of the rows and columns after k.
    for (int64_t i = k + 1; i < n; ++i) w[i] = VecD{};
    VecD product = {};  // v' A v
    for (int64_t i = k + 1; i < n; ++i) {
      const VecD* row = a + i * n;
      const VecD own = v[i];
      VecD s = w[i] + row[i] * own, t = {};
      int64_t j = i + 1;
      for (; j + 2 <= n; j += 2) {
        s += row[j] * v[j];
        t += row[j + 1] * v[j + 1];
        w[j] += row[j] * own;
        w[j + 1] += row[j + 1] * own;
      }
      if (j < n) {
        s += row[j] * v[j];
        w[j] += row[j] * own;
      }
      w[i] = s + t;
      product += w[i] * own;
    }
    // A - v w' - w v', with w = factor (A v - factor / 2 (v' A v) v).
    const VecD part = 0.5 * made.factor * product;
    for (int64_t i = k + 1; i < n; ++i) w[i] = made.factor * (w[i] - part * v[i]);
    for (int64_t i = k + 1; i < n; ++i) {
      VecD* row = a + i * n;
      const VecD vi = v[i], wi = w[i];
      for (int64_t j = i; j < n; ++j) row[j] -= vi * w[j] + wi * v[j];
    }
  }
  d[(n - 1) * step] = a[n * n - 1];
  e[(n - 1) * step] = VecD{};
}

// The eigenvalues of tridiagonal matrices of a size near 1. A sweep with a shift, close to an eigenvalue, has it come
// to the beginning of the matrix, and the next sweep does without it. Each lane has a beginning of its own.
//
// G vectors take turns, so that one divides while another waits. No lane's values depend on those of another.
template <int G>
class Ql {
 public:
  // d and e: n rows of G vectors, the last one of e for scratch. d becomes the eigenvalues, in any order.
  Ql(int64_t n, VecD* d, VecD* e) : n_(n), d_(d), e_(e) {}

  // Until all lanes have converged, or so many sweeps were made.
  void run(int64_t sweeps) {
    VecD shift[G];
    for (int64_t count = 0;; ++count) {
      MaskD open = {}, first = {};
      for (int g = 0; g < G; ++g) {
        shift[g] = next_shift(g);
        open |= ~converged(g);
        first |= begin_[g] == first_;
      }
      if (!any(open) || count == sweeps) return;
      if (!any(first)) ++first_;
      sweep(shift);
    }
  }

  MaskD converged(int g) const { return begin_[g] == n_; }

 private:
  // Drops what has converged, and chooses the shift for the rest: of its first two rows the eigenvalue that is closer
  // to the first entry (Wilkinson's).
  VecD next_shift(int g) {
    VecD here = {}, below = {}, beside = {};
    for (int64_t k = first_; k < n_ - 1; ++k) {
      const VecD d = d_[k * G + g], next = d_[k * G + G + g], e = e_[k * G + g];
      // What is dropped moves the eigenvalues by two units of rounding of these two at most, or by what is nothing
      // beside the largest.
      const VecD allowed = 0x1p-104 * magnitudes(d * next);
      const MaskD is_begin = begin_[g] == k,
                  drops = is_begin & (e <= (allowed > 0x1p-120 ? allowed : VecD{} + 0x1p-120));
      begin_[g] -= drops;
      here = is_begin ? d : here;
      below = is_begin ? next : below;
      beside = is_begin ? e : beside;
      if (!any((begin_[g] > k) & (begin_[g] < n_))) break;
    }
    begin_[g] = begin_[g] == n_ - 1 ? MaskD{} + n_ : begin_[g];
    const VecD half = 0.5 * (below - here), root = square_root(half * half + beside);
    return here - beside / ((half < 0.0 ? half - root : half + root) + 0x1p-500);
  }

  // Not zero: that would be divided by. What is added has the size of no rounding error.
  static VecD not_zero(VecD v) { return magnitudes(v) < 0x1p-100 ? VecD{} + 0x1p-100 : v; }

  void sweep(const VecD* shift) {
    // Plain arrays, which the compiler keeps in registers.
    VecD p[G], s[G], gamma[G];
#pragma GCC unroll 4
    for (int g = 0; g < G; ++g) {
      s[g] = VecD{};
      gamma[g] = not_zero(d_[(n_ - 1) * G + g] - shift[g]);
      p[g] = gamma[g] * gamma[g];
    }
    for (int64_t k = n_ - 2; k >= first_; --k) {
#pragma GCC unroll 4
      for (int g = 0; g < G; ++g) {
        VecD *const d = d_ + k * G + g, *const e = e_ + k * G + g;
        const MaskD in = begin_[g] <= k, ends = begin_[g] == k + 1;
        const VecD r = p[g] + *e, inverse = 1.0 / (p[g] * r), c = p[g] * (p[g] * inverse), before = gamma[g];
        const VecD last = shift[g] + before;
        e[G] = in ? s[g] * r : ends ? s[g] * p[g] : e[G];
        s[g] = *e * (p[g] * inverse);
        gamma[g] = c * (*d - shift[g]) - s[g] * before;
        d[G] = in ? before + (*d - gamma[g]) : ends ? last : d[G];
        gamma[g] = not_zero(gamma[g]);
        p[g] = gamma[g] * gamma[g] * (r * (r * inverse));
      }
    }
    for (int g = 0; g < G; ++g) {
      VecD *const d = d_ + first_ * G + g, *const e = e_ + first_ * G + g;
      const MaskD ends = begin_[g] == first_;
      *e = ends ? s[g] * p[g] : *e;
      *d = ends ? shift[g] + gamma[g] : *d;
    }
  }

  const int64_t n_;
  VecD *const d_, *const e_;
  int64_t first_ = 0;    // the least beginning
  MaskD begin_[G] = {};  // n where all has converged
};

}  // namespace
}  // namespace lstsq::kernels::LSTSQ_ISA
