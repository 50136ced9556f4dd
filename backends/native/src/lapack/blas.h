// The product of two matrices that lie anywhere in memory, by BLAS; and its products for the kernels.

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

/// Whether the kernels form Gram matrices in single precision by this BLAS (kernels::use_single_products). It is worth
/// it where the BLAS has more than the vectors of the processor. Call it before the first solve.
void give_kernels_single_products(bool use);

}  // namespace lstsq::drivers
