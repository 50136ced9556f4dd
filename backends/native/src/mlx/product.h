// Matrix products in double precision over SciPy's BLAS, as an MLX operation.
//
// MLX has its own, but on Linux over the reference BLAS (6 GFLOP/s), and on a GPU in reduced precision.

#pragma once

#include "mlx/primitives.h"

namespace lstsq_mlx {

// a b, for float64 arrays (..., M, K) and (..., K, N) of one batch. Transposed operands are read where they lie. Where
// one factor is exactly zero the product is zero, at the price of looking: the terms that belong to deficient matrices
// alone cost nothing where the rank is full.
mlx::core::array product(const mlx::core::array& a, const mlx::core::array& b, mlx::core::Stream s);

class Product : public mlx::core::UnaryPrimitive {
 public:
  explicit Product(mlx::core::Stream s) : UnaryPrimitive(s) {}

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

  const char* name() const override { return "LstsqProduct"; }
  bool is_equivalent(const Primitive&) const override { return true; }
  std::vector<mlx::core::Shape> output_shapes(const std::vector<mlx::core::array>& inputs) override;
};

}  // namespace lstsq_mlx
