// Matrix products in double precision over SciPy's BLAS, as an MLX operation.
//
// MLX has its own, but on Linux over the reference BLAS (6 GFLOP/s), and on a GPU in reduced precision.

#pragma once

#include "on_cpu.h"

namespace lstsq_mlx {

// a b, for float64 arrays (..., M, K) and (..., K, N) of one batch. Transposed operands are read where they lie. Where
// one factor is exactly zero the product is zero, at the price of looking: the terms that belong to deficient matrices
// alone cost nothing where the rank is full.
mx::array product(const mx::array& a, const mx::array& b, mx::Stream s);

class Product : public UnaryCpuPrimitive {
 public:
  explicit Product(mx::Stream s) : UnaryCpuPrimitive(s) {}

  void eval_cpu(const std::vector<mx::array>& inputs, mx::array& out) override;

  DEFINE_GRADS()
  DEFINE_VMAP()

  DEFINE_NAME(LstsqProduct)
  bool is_equivalent(const Primitive&) const override { return true; }
  std::vector<mx::Shape> output_shapes(const std::vector<mx::array>& inputs) override;
};

}  // namespace lstsq_mlx
