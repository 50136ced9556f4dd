// Singular values of many small matrices, one matrix per vector lane, so that no operation is horizontal: a long matrix
// is reduced to a triangle, and that to a bidiagonal matrix (bidiagonal-inl.h), whose values the qd algorithm finds
// (qd-inl.h).
#pragma once

#include "bidiagonal-inl.h"
#include "isa.h"
#include "lanes-inl.h"
#include "qd-inl.h"
#include "range.h"
#include "simd-inl.h"
#include "tuning.h"

namespace lstsq::kernels::LSTSQ_ISA {
namespace {

// How many rows are reduced at a time, at most: they fill half of the registers of AVX-512 (64x16 in 6900 cycles a
// matrix, with 8 rows in 7800).
constexpr int reflection_rows = lanes == 8 ? 16 : 8;

// Finds the values of one group of matrices after the other, in one piece of memory.
template <class T>
class SingularValues {
 public:
  static constexpr int G = qd_vectors, width = G * lanes;

  explicit SingularValues(const SingularTask<T>& task)
      : t_(task), m_(task.m), n_(task.n), triangular_(2 * task.m >= 3 * task.n) {
    VecD* at = static_cast<VecD*>(task.workspace);
    const auto room = [&at](int64_t count) {
      VecD* const found = at;
      at += count;
      return found;
    };
    matrix_ = room(n_ * (triangular_ ? n_ : m_));
    rows_ = room(triangular_ ? n_ * reflection_rows : 0);
    tops_ = room(n_);
    factors_ = room(n_);
    products_ = room(triangular_ ? n_ : m_);
    own_q_ = room(n_);
    own_e_ = room(n_);
    q_ = room(n_ * G);
    e_ = room(n_ * G);
    next_ = room(2 * n_ * G);
    values_ = room(n_ * G);
  }

  // Vectors, as above.
  static int64_t room(int64_t m, int64_t n) {
    return n * max(m, n) + n * reflection_rows + 4 * n + max(m, n) + 5 * n * G;
  }

  // `live` elements of the task from this one on.
  void find(int64_t at, int64_t live) {
    MaskD good[G];
    for (int g = 0; g < G; ++g) {
      if (g * lanes < live) {
        good[g] = reduce_to_bidiagonal(at + g * lanes, min(lanes, live - g * lanes));
      } else {
        good[g] = MaskD{};
      }
      // Nobody reads the values of the other lanes, but they take part: as matrices that are soon done.
      for (int64_t k = 0; k < n_; ++k) q_[k * G + g] = good[g] ? own_q_[k] : VecD{} + 1.0;
      for (int64_t k = 0; k + 1 < n_; ++k) e_[k * G + g] = good[g] ? own_e_[k] : VecD{};
    }
    if (n_ > 1) {
      Qd<G> qd(n_, q_, e_, next_, values_);
      if (n_ > 2) qd.run(qd_sweeps(n_));
      for (int g = 0; g < G; ++g) good[g] &= qd.finish(g);
    } else {
      for (int g = 0; g < G; ++g) values_[g] = q_[g];
    }
    for (int64_t k = 0; k < n_ * G; ++k) values_[k] = values_[k] > 0.0 ? square_root(values_[k]) : VecD{};
    sort_descending<G>(n_, values_);
    for (int64_t l = 0; l < live; ++l) write(element(at + l), l, good[l / lanes][l % lanes] != 0);
  }

 private:
  int64_t element(int64_t at) const { return t_.elements ? t_.elements[at] : at; }

  // To own_q_ and own_e_. True for the lanes whose sizes are in range.
  MaskD reduce_to_bidiagonal(int64_t at, int64_t live) {
    LaneMatrices<T> a{{}, t_.row, t_.column};
    for (int64_t l = 0; l < lanes; ++l) a.first[l] = t_.a + element(at + min(l, live - 1)) * t_.a_stride;
    if (triangular_) {
      for (int64_t i = 0; i < n_ * n_; ++i) matrix_[i] = VecD{};
      int64_t row = 0;
      for (; m_ - row > 8; row += reflection_rows) reduce_rows<reflection_rows>(a, row);
      if (m_ - row > 4)
        reduce_rows<8>(a, row);
      else if (m_ - row > 2)
        reduce_rows<4>(a, row);
      else if (m_ - row > 0)
        reduce_rows<2>(a, row);
    } else {
      take_rows(a, 0, m_, n_, matrix_, m_);
    }
    bidiagonalise(triangular_ ? n_ : m_, n_, triangular_, matrix_, own_q_, own_e_, products_);
    VecD squares = own_q_[n_ - 1];
    for (int64_t k = 0; k + 1 < n_; ++k) squares += own_q_[k] + own_e_[k];
    constexpr double limit = largest_norm * largest_norm;
    return (squares >= 1 / limit) & (squares <= limit);
  }

  // Up to H rows, from this one on, into the triangle.
  template <int H>
  void reduce_rows(const LaneMatrices<T>& a, int64_t from) {
    const int64_t rows = min(H, m_ - from);
    if (rows < H)
      for (int64_t i = 0; i < n_ * H; ++i) rows_[i] = VecD{};
    take_rows(a, from, rows, n_, rows_, H);
    add_rows<H>(n_, matrix_, rows_, tops_, factors_);
  }

  void write(int64_t element, int64_t l, bool found) {
    T* s = t_.s + element * n_;
    const bool zero = !found && is_zero(t_.a + element * t_.a_stride);
    for (int64_t k = 0; k < n_; ++k) {
      const double value = reinterpret_cast<const double*>(values_ + k * G)[l];
      s[k] = zero ? T(0) : static_cast<T>(value);
    }
    t_.ok[element] = found || zero;
  }

  bool is_zero(const T* a) const {
    for (int64_t i = 0; i < m_; ++i)
      for (int64_t j = 0; j < n_; ++j)
        if (a[i * t_.row + j * t_.column] != 0) return false;
    return true;
  }

  const SingularTask<T>& t_;
  const int64_t m_, n_;
  const bool triangular_;
  VecD *matrix_, *rows_, *tops_, *factors_, *products_, *own_q_, *own_e_, *q_, *e_, *next_, *values_;
};

static int64_t singular_workspace(int64_t m, int64_t n) {
  return SingularValues<double>::room(m, n) * static_cast<int64_t>(sizeof(VecD));
}

template <class T>
static void singular(const SingularTask<T>& t) {
  SingularValues<T> values(t);
  constexpr int64_t width = SingularValues<T>::width;
  for (int64_t at = t.from; at < t.to; at += width) values.find(at, min(width, t.to - at));
}

}  // namespace
}  // namespace lstsq::kernels::LSTSQ_ISA
