// The Sylvester equation that says how the space of kept singular vectors turns when the matrix changes.

#pragma once

#include "mlx/primitives.h"

namespace lstsq_mlx {

// S(A; C) of gradient.cpp for C = X Yᵀ: the solution Z (..., N, N) of
//
//     Z = (I − Q) Z Q,    Z M − M Z = (I − Q) C Q,    M = AᵀA,
//
// where Q projects on the right singular vectors of the `rank` largest singular values of A.
//
// a (..., M, N) with M >= N, x and y (..., N, P), all float64; rank (..., 1, 1), int32; all of one batch. C
// comes as factors so that where all N singular values are kept, and Z is zero, neither C nor an SVD is ever computed.
mlx::core::array sylvester(const mlx::core::array& a,
                           const mlx::core::array& x,
                           const mlx::core::array& y,
                           const mlx::core::array& rank,
                           mlx::core::Stream s);

class Sylvester : public mlx::core::UnaryPrimitive {
 public:
  explicit Sylvester(mlx::core::Stream s) : UnaryPrimitive(s) {}

  void eval_cpu(const std::vector<mlx::core::array>& inputs, mlx::core::array& out) override;
  void eval_gpu(const std::vector<mlx::core::array>& inputs, mlx::core::array& out) override;

  std::vector<mlx::core::array> jvp(const std::vector<mlx::core::array>& primals,
                                    const std::vector<mlx::core::array>& tangents,
                                    const std::vector<int>& argnums) override;
  std::vector<mlx::core::array> vjp(const std::vector<mlx::core::array>& primals,
                                    const std::vector<mlx::core::array>& cotangents,
                                    const std::vector<int>& argnums,
                                    const std::vector<mlx::core::array>& outputs) override;
  std::pair<std::vector<mlx::core::array>, std::vector<int>> vmap(const std::vector<mlx::core::array>& inputs,
                                                                  const std::vector<int>& axes) override;

  const char* name() const override { return "LstsqSylvester"; }
  bool is_equivalent(const Primitive&) const override { return true; }
  std::vector<mlx::core::Shape> output_shapes(const std::vector<mlx::core::array>& inputs) override;
};

}  // namespace lstsq_mlx
