// Reduces a problem to a square core no larger than its shorter side, by orthogonal transformations.
//
//   tall, m >= n:   A = Q R,            min |R x - c| with c the first n rows of Q^H b; the other rows of Q^H b are out
//                                       of the reach of any x, and their squares are the residual's
//   wide, m < n:    A^H = Q R, A = L Q^H with L = R^H:  L y = b, and x = Q y is of minimum norm as y is
//
// The wide problem is the mirror image of the tall one, so that there is one factorisation. Two ways to factorise:
// whole, in one working copy of A; and, for matrices much longer than they are narrow, in blocks of rows that stay in
// the cache, each stacked under the R of those before it (Golub, Plemmons and Sameh 1988, "Parallel block schemes for
// large-scale least-squares computations"; Demmel, Grigori, Hoemmen and Langou 2012, section 2), which takes no memory
// to speak of. A wide problem in blocks keeps no Q: x = A^H w with L^H w = y, which is as accurate, since the error of
// w is damped where it is large (Paige 1973, "An error analysis of a method for solving matrix equations").

#pragma once

#include <algorithm>

#include "residuals.h"
#include "solver.h"

namespace lstsq_mlx {

/// Rows of a block: as many as fit into a part of the second-level cache, and enough that carrying R along costs little.
inline Int block_rows(Int narrow) { return std::max<Int>(8 * narrow, 32768 / narrow); }

/// Whether a problem is long enough to be reduced in blocks. Beyond this width LAPACK's own blocking does as well.
inline bool in_blocks(const Problem& p) {
  const Int narrow = p.smallest(), length = std::max(p.m, p.n);
  return narrow <= 128 && length >= 4 * block_rows(narrow);
}

/// Solves by reduction, and leaves the core to another solver.
template <class T>
class Reduced final : public Solver<T> {
  using W = WorkOf<T>;

 public:
  Reduced(const Problem& problem, SolverPtr<W> core)
      : p_(problem),
        tall_(p_.m >= p_.n),
        blocks_(in_blocks(problem)),
        narrow_(p_.smallest()),
        length_(std::max(p_.m, p_.n)),
        ld_(blocks_ ? narrow_ + block_rows(narrow_) : length_),
        core_(std::move(core)) {
    factor_.reserve(ld_ * narrow_);
    tau_.reserve(narrow_);
    work_.reserve(lwork_ = workspace());
    right_.reserve(ld_ * p_.k);
    tail_.reserve(p_.k);
  }

  bool solve(const Matrix<T>& a, const Matrix<T>& b, Answer<W>& answer) override {
    W* triangle = answer.triangle != nullptr ? answer.triangle : triangle_.reserve(narrow_ * narrow_);
    std::fill_n(tail_.data(), p_.k, 0.0);
    if (blocks_) {
      factorise_blocks(a, tall_ ? &b : nullptr);
    } else {
      factorise_whole(a, tall_ ? &b : nullptr);
    }
    copy_triangle(triangle);
    if (!tall_) load(b, right_.data(), ld_);

    const auto core = column_major<W>(triangle, narrow_, narrow_, narrow_);
    if (!core_->solve(core, column_major<W>(right_.data(), narrow_, p_.k, ld_), answer)) return false;
    for (Int j = 0; j < p_.k; ++j) answer.residuals[j] += tail_[j];
    if (tall_) return true;
    return blocks_ ? expand_blocks(a, triangle, answer) : expand_whole(answer);
  }

 private:
  /// Whole: factor_ holds A, or its adjoint if it is wide, and becomes R and the reflectors of Q; right_ becomes Q^H b.
  void factorise_whole(const Matrix<T>& a, const Matrix<T>* b) {
    if (tall_) {
      load(a, factor_.data(), ld_);
    } else {
      load_adjoint(a, factor_.data(), ld_);
    }
    factorise(length_);
    if (b == nullptr) return;
    load(*b, right_.data(), ld_);
    rotate(length_);
    add_squares(right_.data() + narrow_, length_ - narrow_, p_.k, ld_, tail_.data());
  }

  /// Blocks: the top of factor_ holds R, that of right_ the first rows of Q^H b, and each block comes under them.
  void factorise_blocks(const Matrix<T>& a, const Matrix<T>* b) {
    for (Int first = 0; first < length_;) {
      const Int above = first == 0 ? 0 : narrow_;
      const Int rows = std::min(ld_ - above, length_ - first);
      if (tall_) {
        load(a.rows_from(first, rows), factor_.data() + above, ld_);
      } else {
        load_adjoint(a.cols_from(first, rows), factor_.data() + above, ld_);
      }
      for (Int j = 0; j < above; ++j) std::fill(&factor_[j * ld_ + j + 1], &factor_[j * ld_ + above], W(0));
      factorise(above + rows);
      if (b != nullptr) {
        load(b->rows_from(first, rows), right_.data() + above, ld_);
        rotate(above + rows);
        add_squares(right_.data() + narrow_, above + rows - narrow_, p_.k, ld_, tail_.data());
      }
      first += rows;
    }
  }

  void factorise(Int rows) {
    lapack::geqrf(/*m=*/rows, /*n=*/narrow_, /*a=*/factor_.data(), /*lda=*/ld_, /*tau=*/tau_.data(),
                  /*work=*/work_.data(), /*lwork=*/lwork_);
  }

  void rotate(Int rows) {
    lapack::unmqr(/*adjoint=*/true, /*m=*/rows, /*n=*/p_.k, /*k=*/narrow_, /*a=*/factor_.data(), /*lda=*/ld_,
                  /*tau=*/tau_.data(), /*c=*/right_.data(), /*ldc=*/ld_, /*work=*/work_.data(), /*lwork=*/lwork_);
  }

  /// R, or for a wide problem its adjoint L, with the zeros of its other half.
  void copy_triangle(W* to) const {
    for (Int j = 0; j < narrow_; ++j) {
      for (Int i = 0; i < narrow_; ++i) {
        const W r = i <= j ? factor_[i + j * ld_] : W(0);
        to[tall_ ? i + j * narrow_ : j + i * narrow_] = tall_ ? r : conjugate(r);
      }
    }
  }

  /// x = Q [y; 0].
  bool expand_whole(Answer<W>& answer) {
    for (Int j = 0; j < p_.k; ++j) {
      std::copy_n(answer.x + j * answer.ldx, narrow_, &right_[j * ld_]);
      std::fill(&right_[j * ld_ + narrow_], &right_[j * ld_] + ld_, W(0));
    }
    lapack::unmqr(/*adjoint=*/false, /*m=*/length_, /*n=*/p_.k, /*k=*/narrow_, /*a=*/factor_.data(), /*lda=*/ld_,
                  /*tau=*/tau_.data(), /*c=*/right_.data(), /*ldc=*/ld_, /*work=*/work_.data(), /*lwork=*/lwork_);
    answer.x = right_.data();
    answer.ldx = ld_;
    return true;
  }

  /// x = A^H w with L^H w = y. L^H is solved as L was, the zero singular values left out again.
  bool expand_blocks(const Matrix<T>& a, const W* triangle, Answer<W>& answer) {
    W* adjoint = adjoint_.reserve(narrow_ * narrow_);
    load_adjoint(column_major<W>(triangle, narrow_, narrow_, narrow_), adjoint, narrow_);
    W* y = y_.reserve(narrow_ * p_.k);
    load(column_major<W>(answer.x, narrow_, p_.k, answer.ldx), y, narrow_);
    Buffer<double> unused(p_.k + narrow_);
    Answer<W> inner{unused.data(), unused.data() + p_.k, nullptr};
    if (!core_->solve(column_major<W>(adjoint, narrow_, narrow_, narrow_), column_major<W>(y, narrow_, p_.k, narrow_),
                      inner)) {
      return false;
    }
    W* x = x_.reserve(length_ * p_.k);
    const Int most = ld_;
    for (Int first = 0; first < length_; first += most) {
      const Int rows = std::min(most, length_ - first);
      load_adjoint(a.cols_from(first, rows), factor_.data(), ld_);
      lapack::gemm(/*transa=*/'N', /*transb=*/'N', /*m=*/rows, /*n=*/p_.k, /*k=*/narrow_, /*alpha=*/W(1),
                   /*a=*/factor_.data(), /*lda=*/ld_, /*b=*/inner.x, /*ldb=*/inner.ldx, /*beta=*/W(0), /*c=*/x + first,
                   /*ldc=*/length_);
    }
    answer.x = x;
    answer.ldx = length_;
    return true;
  }

  /// The larger of what the factorisation and its application ask for.
  Int workspace() const {
    W unused{}, factorising{}, applying{};
    lapack::geqrf(/*m=*/ld_, /*n=*/narrow_, /*a=*/&unused, /*lda=*/ld_, /*tau=*/&unused, /*work=*/&factorising,
                  /*lwork=*/-1);
    lapack::unmqr(/*adjoint=*/true, /*m=*/ld_, /*n=*/p_.k, /*k=*/narrow_, /*a=*/&unused, /*lda=*/ld_, /*tau=*/&unused,
                  /*c=*/&unused, /*ldc=*/ld_, /*work=*/&applying, /*lwork=*/-1);
    return std::max(lapack::queried(factorising), lapack::queried(applying));
  }

  Problem p_;
  bool tall_, blocks_;
  Int narrow_, length_;
  Int ld_;
  Int lwork_ = 0;
  SolverPtr<W> core_;
  Buffer<W> factor_, tau_, work_, right_, triangle_, adjoint_, y_, x_;
  Buffer<double> tail_;
};

}  // namespace lstsq_mlx
