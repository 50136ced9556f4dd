// Matrices as the certified kernels take them: row-major, the entries of a row side by side.

#pragma once

#include "batched.h"

namespace lstsq::drivers {

/// A view of one matrix (with or without gaps between the rows), or of a batch at even distances; of a copy where the
/// original does not lie like that.
template <class T>
struct RowMajor {
  const T* data = nullptr;
  Int ld = 0, stride = 0;

  explicit RowMajor(const Matrix<T>& a, bool with_gaps = true) {
    if (view(a) && (with_gaps || ld == a.cols)) return;
    copy(a, own_.reserve(a.rows * a.cols));
  }

  explicit RowMajor(const Batch<T>& batch) {
    const Matrix<T> first = batch[0];
    if (view(first) && batch.places().evenly_spaced(stride)) return;
    stride = first.rows * first.cols;
    T* to = own_.reserve(batch.count() * stride);
    for (Int i = 0; i < batch.count(); ++i) copy(batch[i], to + i * stride);
    data = to;
  }

 private:
  bool view(const Matrix<T>& a) {
    data = a.data;
    ld = a.rows == 1 ? a.cols : a.row_stride;
    return (a.cols == 1 || a.col_stride == 1) && ld >= a.cols;
  }

  void copy(const Matrix<T>& a, T* to) {
    const Matrix<T> transposed{a.data, a.cols, a.rows, a.col_stride, a.row_stride};
    detail::load_tiles(transposed, to, a.cols, [](const T& z) { return z; });
    data = to;
    ld = a.cols;
  }

  Buffer<T> own_;
};

}  // namespace lstsq::drivers
