// MLX's arrays as the drivers take them: batches of matrices, whatever their strides.

#pragma once

#include "lapack/batched.h"
#include "mlx/array.h"

namespace lstsq_mlx {

namespace mx = mlx::core;
namespace kernels = ::lstsq::kernels;
namespace lapack = ::lstsq::lapack;

using namespace ::lstsq::drivers;

// For MLX's macros, which name them so.
using mx::array;
using mx::Shape;

/// Where the elements lie of which the last `trailing` axes are their own.
inline Places places(const mx::array& a, int trailing) {
  Places found;
  for (int axis = 0; axis < static_cast<int>(a.ndim()) - trailing; ++axis)
    found.add_axis(a.shape(axis), a.strides(axis));
  return found;
}

/// A vector is one matrix of one column.
template <class T>
Batch<T> batch(const mx::array& a) {
  const T* data = reinterpret_cast<const T*>(a.data<char>());
  if (a.ndim() == 1) return {MatrixView<T>{data, a.shape(0), 1, a.strides(0), 1}, Places()};
  return {MatrixView<T>{data, a.shape(-2), a.shape(-1), a.strides(-2), a.strides(-1)}, places(a, /*trailing=*/2)};
}

/// States, each as a matrix of one entry.
inline Batch<State> states(const mx::array& state) {
  return {MatrixView<State>{reinterpret_cast<const State*>(state.data<std::int32_t>()), 1, 1, 1, 1},
          places(state, /*trailing=*/0)};
}

}  // namespace lstsq_mlx
