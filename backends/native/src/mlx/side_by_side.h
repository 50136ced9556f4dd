// The right-hand sides that share a matrix, side by side as the columns of one problem, and their answers apart again.

#pragma once

#include <vector>

#include "arrays.h"
#include "on_cpu.h"

namespace lstsq_mlx {

/// b (..., m, k) with the columns of all elements along these batch axes in one: (..., m, f k), where the axes are 1.
/// The axes count from the end.
mx::array side_by_side(const mx::array& b, const std::vector<int>& axes, mx::Stream stream);

/// The way back: x (..., n, f k) as (..., n, k), with the batch dimensions of `like`, of which nothing else is read.
/// Nothing is copied.
mx::array apart(const mx::array& x, const mx::array& like, const std::vector<int>& axes, mx::Stream stream);

/// The same for one number of each column: (..., f k) as (..., k), and (..., k) as (..., f k).
mx::array row_apart(const mx::array& row, const mx::array& like, const std::vector<int>& axes, mx::Stream stream);
mx::array row_side_by_side(const mx::array& row, const std::vector<int>& axes, mx::Stream stream);

/// Input b, output its columns side by side.
class SideBySide final : public UnaryCpuPrimitive {
 public:
  SideBySide(mx::Stream stream, std::vector<int> axes) : UnaryCpuPrimitive(stream), axes_(std::move(axes)) {}

  void eval_cpu(const std::vector<mx::array>& inputs, mx::array& out) override;
  DEFINE_GRADS()
  DEFINE_VMAP()
  bool is_equivalent(const Primitive& other) const override {
    return axes_ == static_cast<const SideBySide&>(other).axes_;
  }
  std::vector<mx::Shape> output_shapes(const std::vector<mx::array>& inputs) override;
  DEFINE_NAME(LstsqSideBySide)

 private:
  std::vector<int> axes_;
};

/// Inputs x and `like`, output the answers apart.
class Apart final : public UnaryCpuPrimitive {
 public:
  Apart(mx::Stream stream, std::vector<int> axes) : UnaryCpuPrimitive(stream), axes_(std::move(axes)) {}

  void eval_cpu(const std::vector<mx::array>& inputs, mx::array& out) override;
  DEFINE_GRADS()
  DEFINE_VMAP()
  bool is_equivalent(const Primitive& other) const override { return axes_ == static_cast<const Apart&>(other).axes_; }
  std::vector<mx::Shape> output_shapes(const std::vector<mx::array>& inputs) override;
  DEFINE_NAME(LstsqApart)

 private:
  std::vector<int> axes_;
};

}  // namespace lstsq_mlx
