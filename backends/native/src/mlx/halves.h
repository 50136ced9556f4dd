// Two arrays of one shape as one, and the two back. As mx::concatenate and mx::slice would, but in a graph that was
// compiled without shapes the middle stays the middle.

#pragma once

#include <utility>

#include "arrays.h"
#include "on_cpu.h"

namespace lstsq_mlx {

/// float64 arrays of one shape, the second behind the first along axis -1 or -2.
mx::array joined(const mx::array& first, const mx::array& second, int axis, mx::Stream stream);

/// The halves of a float64 array along axis -1 or -2. Nothing is copied.
std::pair<mx::array, mx::array> halves(const mx::array& whole, int axis, mx::Stream stream);

/// Inputs: the two. Output: the whole.
class Joined final : public UnaryCpuPrimitive {
 public:
  Joined(mx::Stream stream, int axis) : UnaryCpuPrimitive(stream), axis_(axis) {}

  void eval_cpu(const std::vector<mx::array>& inputs, mx::array& out) override;
  DEFINE_GRADS()
  DEFINE_VMAP()
  bool is_equivalent(const Primitive& other) const override { return axis_ == static_cast<const Joined&>(other).axis_; }
  std::vector<mx::Shape> output_shapes(const std::vector<mx::array>& inputs) override;
  DEFINE_NAME(LstsqJoined)

 private:
  int axis_;
};

/// Input: the whole. Output: its first or second half.
class Half final : public UnaryCpuPrimitive {
 public:
  Half(mx::Stream stream, int axis, bool second) : UnaryCpuPrimitive(stream), axis_(axis), second_(second) {}

  void eval_cpu(const std::vector<mx::array>& inputs, mx::array& out) override;
  DEFINE_GRADS()
  DEFINE_VMAP()
  bool is_equivalent(const Primitive& other) const override {
    const auto& same = static_cast<const Half&>(other);
    return axis_ == same.axis_ && second_ == same.second_;
  }
  std::vector<mx::Shape> output_shapes(const std::vector<mx::array>& inputs) override;
  DEFINE_NAME(LstsqHalf)

 private:
  int axis_;
  bool second_;
};

}  // namespace lstsq_mlx
