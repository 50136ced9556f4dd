// Arrays whose shapes follow those of other arrays, where a graph that was compiled without shapes runs again.

#pragma once

#include <vector>

#include "arrays.h"
#include "mlx/array.h"
#include "mlx/utils.h"

namespace lstsq_mlx {

/// The input with its mapped axis first.
mx::array at_front(const mx::array& input, int axis, mx::Stream stream);

/// The input repeated along a new first axis, as long as that of `like`. Nothing is copied.
mx::array repeated(const mx::array& input, const mx::array& like, mx::Stream stream);

/// The inputs of a primitive under vmap, each mapped along its first axis: one that is not mapped is repeated.
std::vector<mx::array> all_mapped(const std::vector<mx::array>& inputs,
                                  const std::vector<int>& axes,
                                  mx::Stream stream);

/// The input with new axes of size 1 before its own, so many that it has `ndim`.
mx::array padded(const mx::array& input, std::size_t ndim, mx::Stream stream);

/// The array repeated along those batch dimensions that are 1 in it and not in `like`. The last `trailing` axes of each
/// are its own. Nothing is copied. Both have as many batch dimensions.
mx::array with_batch_of(
    const mx::array& like, int trailing_like, const mx::array& array, int trailing, mx::Stream stream);

/// The identity matrix (..., n, n) of the shape and dtype of a square array.
mx::array identity_like(const mx::array& square, mx::Stream stream);

/// The length of this axis as a scalar of the dtype.
mx::array length_of(const mx::array& array, int axis, mx::Dtype dtype, mx::Stream stream);

}  // namespace lstsq_mlx
