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

  /// The elements [from, to) of a batch.
  RowMajor(const Batch<T>& batch, Int from, Int to) {
    const Matrix<T> first = batch[from];
    if (can_view(batch)) {
      view(first);
      batch.places().evenly_spaced(stride);
      return;
    }
    stride = first.rows * first.cols;
    T* copies = own_.reserve((to - from) * stride);
    for (Int i = from; i < to; ++i) copy(batch[i], copies + (i - from) * stride);
    data = copies;
  }

  /// Whether a batch lies as the kernels want it.
  static bool can_view(const Batch<T>& batch) {
    Int stride = 0;
    return RowMajor().view(batch[0]) && batch.places().evenly_spaced(stride);
  }

 private:
  RowMajor() = default;

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
