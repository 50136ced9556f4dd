// One problem by the certified kernels, after its operands were brought into range: for those that the kernels decline
// as they were given.

#pragma once

#include "kernels/kernels.h"
#include "solver.h"

namespace lstsq::drivers {

template <class T>
class CertifiedSolver {
  using W = WorkOf<T>;

 public:
  /// False where there is no certificate. The answer is in the scale of the operands.
  [[nodiscard]] bool solve(const MatrixView<T>& a, const MatrixView<T>& b, double rcond) {
    const MatrixView<T> left = row_major(a, a_), right = row_major(b, b_);
    const Int n = a.cols, k = b.cols;
    x_.reserve(n * k);
    rounded_.reserve(n * k);
    sums_.reserve(k);
    residuals_.reserve(k);
    // Rows that are independent leave nothing over, for any right-hand side.
    const bool nothing_left = a.rows <= n;
    const kernels::Problem<T> problem{.a = left,
                                      .b = right,
                                      .rcond = rcond,
                                      .x = rounded_.data(),
                                      .residuals = nothing_left ? nullptr : sums_.data(),
                                      .precise = reinterpret_cast<double*>(x_.data())};
    if (kernels::solve(problem) != kernels::Status::certified) return false;
    if (nothing_left) {
      std::fill_n(residuals_.data(), k, 0.0);
    } else {
      std::copy_n(sums_.data(), k, residuals_.data());
    }
    return true;
  }

  const W* x() const { return x_.data(); }  ///< n rows of k
  const double* residuals() const { return residuals_.data(); }

 private:
  /// The matrix itself, or a copy of it where it is scaled or lies otherwise.
  static MatrixView<T> row_major(const MatrixView<T>& a, Buffer<T>& own) {
    if (a.exponent == 0 && a.col_stride == 1 && a.row_stride >= a.cols) return a;
    T* copy = own.reserve(a.rows * a.cols);
    for (Int i = 0; i < a.rows; ++i) {
      for (Int j = 0; j < a.cols; ++j) copy[i * a.cols + j] = scaled(a(i, j), -a.exponent);
    }
    return {copy, a.rows, a.cols, a.cols, 1};
  }

  Buffer<T> a_, b_, rounded_;
  Buffer<RealOf<T>> sums_;
  Buffer<W> x_;
  Buffer<double> residuals_;
};

}  // namespace lstsq::drivers
