// Singular vectors for the derivatives, in double precision over LAPACK.

#pragma once

#include <cstdint>
#include <functional>

#include "matrix.h"

namespace lstsq::drivers {

/// The thin SVD U diag(s) Vᴴ of a column-major m×n matrix, which `fill` writes, again where a second method is tried.
/// u (m×k) and vt (k×n) are column-major, k = min(m, n). Divide and conquer, then QR iteration, for the matrices on
/// which the first does not converge (scipy#23220). False where neither converges or the matrix is not finite.
template <class T>
bool thin_svd(std::int64_t m, std::int64_t n, const std::function<void(T*)>& fill, T* u, double* s, T* vt);

/// The right singular vectors and the singular values of a tall or square matrix.
struct RightSingular {
  Buffer<double> vt;     // n×n, column-major: row i is the i-th right singular vector
  Buffer<double> sigma;  // n, descending

  RightSingular(std::int64_t m, std::int64_t n) : vt(n * n), sigma(n), m_(m), n_(n) {}

  /// False where the SVD does not converge or `a` is not finite.
  bool compute(const MatrixView<double>& a);

 private:
  std::int64_t m_, n_;
};

}  // namespace lstsq::drivers
