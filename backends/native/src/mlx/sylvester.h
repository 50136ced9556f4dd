// The Sylvester equation that says how the space of kept singular vectors turns when the matrix changes.

#pragma once

#include "on_cpu.h"

namespace lstsq_mlx {

// S(A; C) of gradient.cpp for C = X Yᵀ: the solution Z (..., N, N) of
//
//     Z = (I − Q) Z Q,    Z M − M Z = (I − Q) C Q,    M = AᵀA,
//
// where Q projects on the right singular vectors of the `rank` largest singular values of A.
//
// a (..., M, N) with M >= N, x and y (..., N, P), all float64; rank (..., 1, 1), int32; all of one batch. C
// comes as factors so that where all N singular values are kept, and Z is zero, neither C nor an SVD is ever computed.
mx::array sylvester(const mx::array& a, const mx::array& x, const mx::array& y, const mx::array& rank, mx::Stream s);

class Sylvester : public UnaryCpuPrimitive {
 public:
  explicit Sylvester(mx::Stream s) : UnaryCpuPrimitive(s) {}

  void eval_cpu(const std::vector<mx::array>& inputs, mx::array& out) override;

  DEFINE_GRADS()
  DEFINE_VMAP()

  DEFINE_NAME(LstsqSylvester)
  bool is_equivalent(const Primitive&) const override { return true; }
  std::vector<mx::Shape> output_shapes(const std::vector<mx::array>& inputs) override;
};

}  // namespace lstsq_mlx
