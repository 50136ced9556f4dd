// Matrices as the certified kernels take them: row-major, the entries of a row side by side.

#pragma once

#include "batched.h"

namespace lstsq::drivers {

/// One matrix (with or without gaps between the rows), or a batch at even distances: as it lies, or a copy where it
/// does not lie like that. Unlike a view it may own what it shows.
template <class T>
class InRows {
 public:
  explicit InRows(const MatrixView<T>& a, bool with_gaps = true) : first_(without_strides_of_nothing(a)) {
    if (lies_in_rows(first_) && (with_gaps || first_.row_stride == a.cols)) return;
    copy(a, own_.reserve(a.rows * a.cols));
    first_ = contiguous(a, own_.data());
  }

  /// The elements [from, to) of a batch.
  InRows(const Batch<T>& batch, Int from, Int to) : first_(without_strides_of_nothing(batch[from])) {
    if (can_view(batch)) {
      batch.places().evenly_spaced(stride_);
      return;
    }
    stride_ = first_.rows * first_.cols;
    T* copies = own_.reserve((to - from) * stride_);
    for (Int i = from; i < to; ++i) copy(batch[i], copies + (i - from) * stride_);
    first_ = contiguous(first_, copies);
  }

  /// Whether a batch lies as the kernels want it.
  static bool can_view(const Batch<T>& batch) {
    Int stride = 0;
    return lies_in_rows(without_strides_of_nothing(batch[0])) && batch.places().evenly_spaced(stride);
  }

  const MatrixView<T>& first() const { return first_; }
  Int stride() const { return stride_; }  ///< from element to element of a batch

 private:
  /// Of one row or one column nothing is told by the stride to the next one, which may be anything.
  static MatrixView<T> without_strides_of_nothing(MatrixView<T> a) {
    if (a.rows == 1) a.row_stride = a.cols;
    if (a.cols == 1) a.col_stride = 1;
    return a;
  }

  static bool lies_in_rows(const MatrixView<T>& a) { return a.col_stride == 1 && a.row_stride >= a.cols; }

  static void copy(const MatrixView<T>& a, T* to) {
    detail::load_tiles(a.transposed(), to, a.cols, [](const T& z) { return z; });
  }

  static MatrixView<T> contiguous(const MatrixView<T>& a, const T* data) { return {data, a.rows, a.cols, a.cols, 1}; }

  MatrixView<T> first_;
  Int stride_ = 0;
  Buffer<T> own_;
};

}  // namespace lstsq::drivers
