// The product of two matrices that lie anywhere in memory, by BLAS.

#pragma once

#include "matrix.h"

namespace lstsq::drivers {

template <class T>
MatrixView<T> transposed(const MatrixView<T>& a) {
  return {a.data, a.cols, a.rows, a.col_stride, a.row_stride, a.exponent};
}

/// A row-major matrix without gaps.
inline MatrixView<double> row_major(const double* data, std::int64_t rows, std::int64_t cols) {
  return {data, rows, cols, cols, 1};
}

/// out = a b, row-major and without gaps.
void multiply(const MatrixView<double>& a, const MatrixView<double>& b, double* out);

}  // namespace lstsq::drivers
