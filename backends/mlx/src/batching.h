// What the primitives of the derivatives have in common: the matrices of a batch, wherever they lie in memory,
// broadcasting of batch dimensions, and the axis that vmap adds.

#pragma once

#include <cstdint>
#include <vector>

#include "matrix.h"
#include "mlx/array.h"
#include "mlx/ops.h"
#include "mlx/utils.h"

namespace lstsq_mlx {

/// How many matrices an array (..., M, N) holds.
inline std::int64_t batch_size(const mlx::core::array& a) {
  std::int64_t size = 1;
  for (int axis = 0; axis < static_cast<int>(a.ndim()) - 2; ++axis) size *= a.shape(axis);
  return size;
}

/// Where item `index` of a batch begins, counted in row-major order; the last `trailing` axes are the item's own.
/// Broadcast and transposed arrays are read where they lie, without a copy.
template <class T>
const T* item_at(const mlx::core::array& a, std::int64_t index, int trailing) {
  const T* data = a.data<T>();
  for (int axis = static_cast<int>(a.ndim()) - trailing - 1; axis >= 0; --axis) {
    data += (index % a.shape(axis)) * a.strides(axis);
    index /= a.shape(axis);
  }
  return data;
}

/// Matrix number `index` of an array (..., M, N).
template <class T>
Matrix<T> matrix_at(const mlx::core::array& a, std::int64_t index) {
  return {item_at<T>(a, index, 2), a.shape(-2), a.shape(-1), a.strides(-2), a.strides(-1)};
}

/// The arrays with one common batch. The last `trailing[i]` axes of array i are its own; nothing is copied.
inline std::vector<mlx::core::array>
common_batch(const std::vector<mlx::core::array>& arrays, const std::vector<int>& trailing, mlx::core::Stream s) {
  auto batch = mlx::core::Shape{};
  for (size_t i = 0; i < arrays.size(); ++i) {
    const auto& shape = arrays[i].shape();
    batch = mlx::core::broadcast_shapes(batch, mlx::core::Shape(shape.begin(), shape.end() - trailing[i]));
  }
  std::vector<mlx::core::array> broadcast;
  for (size_t i = 0; i < arrays.size(); ++i) {
    auto shape = batch;
    shape.insert(shape.end(), arrays[i].shape().end() - trailing[i], arrays[i].shape().end());
    broadcast.push_back(mlx::core::broadcast_to(arrays[i], shape, s));
  }
  return broadcast;
}

/// The inputs of a mapped primitive with the mapped axis first. Those that are not mapped stay as they are: they lack
/// that axis, and broadcasting adds it.
inline std::vector<mlx::core::array>
mapped_first(const std::vector<mlx::core::array>& inputs, const std::vector<int>& axes, mlx::core::Stream s) {
  std::vector<mlx::core::array> moved;
  for (size_t i = 0; i < inputs.size(); ++i) {
    moved.push_back(axes[i] > 0 ? mlx::core::moveaxis(inputs[i], axes[i], 0, s) : inputs[i]);
  }
  return moved;
}

}  // namespace lstsq_mlx
