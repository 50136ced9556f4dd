// Where the elements of a batch lie in an array, whatever its strides.

#pragma once

#include <vector>

#include "lapack.h"

namespace lstsq::drivers {

using lapack::Int;

/// Offsets of the elements, in row-major order of the batch; elements that a broadcast repeats lie at the same place.
class Places {
 public:
  Places() = default;

  /// One more dimension of the batch, inside those before it. The stride is in entries.
  void add_axis(Int size, Int stride) {
    shape_.push_back(size);
    strides_.push_back(stride);
    count_ *= size;
  }

  Int count() const { return count_; }

  Int operator[](Int element) const {
    Int offset = 0;
    for (auto axis = shape_.size(); axis-- > 0;) {
      offset += element % shape_[axis] * strides_[axis];
      element /= shape_[axis];
    }
    return offset;
  }

  /// Whether the elements lie one after the other at the same distance, which goes to `stride`.
  bool evenly_spaced(Int& stride) const {
    stride = 0;
    Int covered = 1;
    for (auto axis = shape_.size(); axis-- > 0;) {
      if (shape_[axis] == 1) continue;
      if (covered == 1) stride = strides_[axis];
      if (strides_[axis] != stride * covered) return false;
      covered *= shape_[axis];
    }
    return true;
  }

 private:
  std::vector<Int> shape_, strides_;
  Int count_ = 1;
};

}  // namespace lstsq::drivers
