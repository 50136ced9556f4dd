// A matrix anywhere in memory.
#pragma once

#include <cstdint>

namespace lstsq::kernels {

// Entry (i, j) is data[i * row + j * column] * 2^-exponent.
template <class T>
struct Strided {
  const T* data;
  int64_t row, column;
  int exponent = 0;
};

}  // namespace lstsq::kernels
