// Reduces a problem to a square core no larger than its shorter side, by orthogonal transformations.
//
//   tall, m >= n:   A = Q R,            min |R x - c| with c the first n rows of Q^H b; the other rows of Q^H b are out
//                                       of the reach of any x, and their squares are the residual's
//   wide, m < n:    A^H = Q R, A = L Q^H with L = R^H:  L y = b, and x = Q y is of minimum norm as y is
//
// The wide problem is the mirror image of the tall one, so that there is one factorisation. Two ways to factorise:
// whole, by LAPACK, in one working copy of A; and, for matrices much longer than they are narrow, in blocks of rows
// that stay in the cache, each stacked under the R of those before it (Golub, Plemmons and Sameh 1988, "Parallel block
// schemes for large-scale least-squares computations"), which takes no memory to speak of. A wide problem in blocks
// keeps no Q: x = A^H w with L^H w = y, which is as accurate, since the error of w is damped where it is large (Paige
// 1973, "An error analysis of a method for solving matrix equations").

#pragma once

#include <algorithm>

#include "kernels/kernels.h"
#include "residuals.h"
#include "solver.h"
#include "stacked_qr.h"

namespace lstsq::drivers {

/// Whether a problem is long enough to be reduced in blocks. Wider complex problems LAPACK's own blocks reduce faster.
///
/// In blocks no Q is kept, and the solution of a wide problem is x = A^H w instead of x = Q y. Such an x is as accurate
/// as a solution can be, but its residual b - A x is larger, by a factor of up to the condition number. Where the
/// answer is rounded to single precision the difference is lost in the rounding, unless singular values count that are
/// small even in double precision. Otherwise Q is kept.
template <class T>
bool in_blocks(const Problem& p, double rcond) {
  const Int narrow = p.smallest(), length = std::max(p.m, p.n);
  constexpr double rounding = std::numeric_limits<double>::epsilon();
  if (p.m < p.n && rcond * static_cast<double>(std::numeric_limits<RealOf<T>>::epsilon()) < rounding) return false;
  if (!Field<T>::is_complex) return length >= 4 * narrow;
  return narrow <= 64 && length >= 8 * narrow && length * narrow >= 8192;
}

/// Rows of a block: 64 KB of it, which stay in the second-level cache.
inline Int block_rows(Int narrow) {
  return std::max<Int>(64, 8192 / narrow);
}

/// Solves by reduction, and leaves the core to another solver.
template <class T>
class Reduced final : public Solver<T> {
  using W = WorkOf<T>;

 public:
  /// rcond: the cutoff of the problems to come, infinite where the triangle is all that is wanted of them.
  Reduced(const Problem& problem, double rcond, SolverPtr<W> core)
      : p_(problem),
        tall_(p_.m >= p_.n),
        blocks_(in_blocks<T>(problem, rcond)),
        narrow_(p_.smallest()),
        length_(std::max(p_.m, p_.n)),
        ld_(blocks_ ? block_rows(narrow_) : length_),
        core_(std::move(core)) {
    factor_.reserve(ld_ * narrow_);
    right_.reserve(ld_ * p_.k);
    c_.reserve(narrow_ * p_.k);
    tail_.reserve(p_.k);
    if (blocks_) return;
    tau_.reserve(narrow_);
    work_.reserve(lwork_ = workspace());
  }

  bool solve(const MatrixView<T>& a, const MatrixView<T>& b, Answer<W>& answer) override {
    W* triangle = answer.triangle != nullptr ? answer.triangle : triangle_.reserve(narrow_ * narrow_);
    reduce(a, b, triangle);
    if (!tall_) load(b, c_.data(), narrow_);

    const auto core = column_major<W>(triangle, narrow_, narrow_, narrow_);
    if (!core_->solve(core, column_major<W>(c_.data(), narrow_, p_.k, narrow_), answer)) return false;
    for (Int j = 0; j < p_.k; ++j) answer.residuals[j] += tail_[j];
    if (tall_) return true;
    return blocks_ ? expand_blocks(a, triangle, answer) : expand_whole(answer);
  }

  /// The core alone: R, or L of a wide matrix, column-major. (For k = 0 there is nothing else.)
  void reduce(const MatrixView<T>& a, const MatrixView<T>& b, W* triangle) {
    std::fill_n(tail_.data(), p_.k, 0.0);
    if (blocks_) {
      factorise_blocks(a, b, triangle);
    } else {
      factorise_whole(a, b, triangle);
    }
  }

 private:
  /// Whole: factor_ holds A, or its adjoint if it is wide, and becomes R and the reflectors of Q.
  void factorise_whole(const MatrixView<T>& a, const MatrixView<T>& b, W* triangle) {
    if (tall_) {
      load(a, factor_.data(), ld_);
    } else {
      load_adjoint(a, factor_.data(), ld_);
    }
    lapack::geqrf(/*m=*/length_,
                  /*n=*/narrow_,
                  /*a=*/factor_.data(),
                  /*lda=*/ld_,
                  /*tau=*/tau_.data(),
                  /*work=*/work_.data(),
                  /*lwork=*/lwork_);
    for (Int j = 0; j < narrow_; ++j) {
      std::copy_n(&factor_[j * ld_], j + 1, triangle + j * narrow_);
      std::fill_n(triangle + j * narrow_ + j + 1, narrow_ - j - 1, W(0));
    }
    if (!tall_) return adjoin(triangle);

    load(b, right_.data(), ld_);
    rotate(/*adjoint=*/true);
    for (Int j = 0; j < p_.k; ++j) std::copy_n(&right_[j * ld_], narrow_, &c_[j * narrow_]);
    add_squares(right_.data() + narrow_, length_ - narrow_, p_.k, ld_, tail_.data());
  }

  /// Blocks: each is reduced into the triangle, and of a tall problem its right-hand sides into c_.
  void factorise_blocks(const MatrixView<T>& a, const MatrixView<T>& b, W* triangle) {
    if constexpr (!Field<T>::is_complex) {
      kernels::reduce(kernels::Reduction<T>{.a = tall_ ? a : a.transposed(),
                                            .b = b.cols_from(0, tall_ ? p_.k : 0),
                                            .r = triangle,
                                            .c = c_.data(),
                                            .left = tail_.data()});
    } else {
      factorise_complex_blocks(a, b, triangle);
    }
    if (!tall_) adjoin(triangle);
  }

  void factorise_complex_blocks(const MatrixView<T>& a, const MatrixView<T>& b, W* triangle) {
    std::fill_n(triangle, narrow_ * narrow_, W(0));
    std::fill_n(c_.data(), narrow_ * p_.k, W(0));
    for (Int first = 0; first < length_; first += ld_) {
      const Int rows = std::min(ld_, length_ - first);
      if (tall_) {
        load(a.rows_from(first, rows), factor_.data(), rows);
        load(b.rows_from(first, rows), right_.data(), rows);
      } else {
        load_adjoint(a.cols_from(first, rows), factor_.data(), rows);
      }
      stack_and_reduce(triangle, narrow_, c_.data(), tall_ ? p_.k : 0, factor_.data(), right_.data(), rows);
      if (tall_) add_squares(right_.data(), rows, p_.k, rows, tail_.data());
    }
  }

  /// L = R^H, in place.
  void adjoin(W* r) const {
    for (Int j = 0; j < narrow_; ++j) {
      r[j + j * narrow_] = conjugate(r[j + j * narrow_]);
      for (Int i = 0; i < j; ++i) {
        r[j + i * narrow_] = conjugate(r[i + j * narrow_]);
        r[i + j * narrow_] = W(0);
      }
    }
  }

  /// right_ becomes Q^H right_, or Q right_.
  void rotate(bool adjoint) {
    lapack::unmqr(/*adjoint=*/adjoint,
                  /*m=*/length_,
                  /*n=*/p_.k,
                  /*k=*/narrow_,
                  /*a=*/factor_.data(),
                  /*lda=*/ld_,
                  /*tau=*/tau_.data(),
                  /*c=*/right_.data(),
                  /*ldc=*/ld_,
                  /*work=*/work_.data(),
                  /*lwork=*/lwork_);
  }

  /// x = Q [y; 0].
  bool expand_whole(Answer<W>& answer) {
    for (Int j = 0; j < p_.k; ++j) {
      std::copy_n(answer.x + j * answer.ldx, narrow_, &right_[j * ld_]);
      std::fill(&right_[j * ld_ + narrow_], &right_[j * ld_] + ld_, W(0));
    }
    rotate(/*adjoint=*/false);
    answer.x = right_.data();
    answer.ldx = ld_;
    return true;
  }

  /// x = A^H w with L^H w = y. Of L^H the same singular values count as of L, and no rounding may decide otherwise.
  bool expand_blocks(const MatrixView<T>& a, const W* triangle, Answer<W>& answer) {
    W* adjoint = adjoint_.reserve(narrow_ * narrow_);
    load_adjoint(column_major<W>(triangle, narrow_, narrow_, narrow_), adjoint, narrow_);
    W* y = y_.reserve(narrow_ * p_.k);
    load(column_major<W>(answer.x, narrow_, p_.k, answer.ldx), y, narrow_);
    Buffer<double> unused(p_.k + narrow_);
    double rcond = answer.rcond;
    if (answer.has_s && answer.rank > 0) rcond = cutoff_between(answer.s, narrow_, answer.rank);
    Answer<W> inner{rcond, unused.data(), unused.data() + p_.k, nullptr};
    if (!core_->solve(
            column_major<W>(adjoint, narrow_, narrow_, narrow_), column_major<W>(y, narrow_, p_.k, narrow_), inner)) {
      return false;
    }
    W* x = x_.reserve(length_ * p_.k);
    for (Int first = 0; first < length_; first += ld_) {
      const Int rows = std::min(ld_, length_ - first);
      load_adjoint(a.cols_from(first, rows), factor_.data(), ld_);
      lapack::gemm(/*transa=*/'N',
                   /*transb=*/'N',
                   /*m=*/rows,
                   /*n=*/p_.k,
                   /*k=*/narrow_,
                   /*alpha=*/W(1),
                   /*a=*/factor_.data(),
                   /*lda=*/ld_,
                   /*b=*/inner.x,
                   /*ldb=*/inner.ldx,
                   /*beta=*/W(0),
                   /*c=*/x + first,
                   /*ldc=*/length_);
    }
    answer.x = x;
    answer.ldx = length_;
    return true;
  }

  /// The larger of what the factorisation and its application ask for.
  Int workspace() const {
    W unused{}, factorising{}, applying{};
    lapack::geqrf(/*m=*/ld_,
                  /*n=*/narrow_,
                  /*a=*/&unused,
                  /*lda=*/ld_,
                  /*tau=*/&unused,
                  /*work=*/&factorising,
                  /*lwork=*/-1);
    lapack::unmqr(/*adjoint=*/true,
                  /*m=*/ld_,
                  /*n=*/p_.k,
                  /*k=*/narrow_,
                  /*a=*/&unused,
                  /*lda=*/ld_,
                  /*tau=*/&unused,
                  /*c=*/&unused,
                  /*ldc=*/ld_,
                  /*work=*/&applying,
                  /*lwork=*/-1);
    return std::max(lapack::queried(factorising), lapack::queried(applying));
  }

  Problem p_;
  bool tall_, blocks_;
  Int narrow_, length_;
  Int ld_;
  Int lwork_ = 0;
  SolverPtr<W> core_;
  Buffer<W> factor_, tau_, work_, right_, c_, triangle_, adjoint_, y_, x_;
  Buffer<double> tail_;
};

}  // namespace lstsq::drivers
