// Broadcasting of batch dimensions.

#pragma once

#include <vector>

#include "mlx/ops.h"
#include "mlx/utils.h"

namespace lstsq_mlx {

/// The arrays with one common batch. The last `trailing[i]` axes of array i are its own; nothing is copied.
inline std::vector<mlx::core::array> common_batch(const std::vector<mlx::core::array>& arrays,
                                                  const std::vector<int>& trailing,
                                                  mlx::core::Stream s) {
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

}  // namespace lstsq_mlx
