// A matrix anywhere in memory: one view of it, for kernels, drivers and doors.
#pragma once

#include <cstdint>

namespace lstsq {

// Entry (i, j) is data[i * row_stride + j * col_stride] * 2^-exponent. (The files *-inl.h use the members alone: a
// function would be compiled for one instruction set and used by all.)
template <class T>
struct MatrixView {
  const T* data;
  std::int64_t rows, cols;
  std::int64_t row_stride, col_stride;
  int exponent = 0;

  const T& operator()(std::int64_t i, std::int64_t j) const { return data[i * row_stride + j * col_stride]; }
  MatrixView rows_from(std::int64_t first, std::int64_t count) const {
    return {data + first * row_stride, count, cols, row_stride, col_stride, exponent};
  }
  MatrixView cols_from(std::int64_t first, std::int64_t count) const {
    return {data + first * col_stride, rows, count, row_stride, col_stride, exponent};
  }
  MatrixView transposed() const { return {data, cols, rows, col_stride, row_stride, exponent}; }
};

}  // namespace lstsq
