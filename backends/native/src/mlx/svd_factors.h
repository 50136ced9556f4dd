// The thin SVD as a differentiable operation: what the derivatives of the singular values are made of.

#pragma once

#include <vector>

#include "on_cpu.h"

namespace lstsq_mlx {

// U (..., M, k), s (..., k) descending and Vᴴ (..., k, N) with A = U diag(s) Vᴴ and k = min(M, N), of a float64 or
// complex64 array a (..., M, N). complex64 is computed in double precision and rounded.
std::vector<mx::array> svd_factors(const mx::array& a, mx::Stream s);

class SvdFactors : public CpuPrimitive {
 public:
  explicit SvdFactors(mx::Stream s) : CpuPrimitive(s) {}

  void eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override;

  DEFINE_GRADS()
  DEFINE_VMAP()

  DEFINE_NAME(LstsqSvdFactors)
  // Never; see Lstsq::is_equivalent.
  bool is_equivalent(const Primitive&) const override { return false; }
  std::vector<mx::Shape> output_shapes(const std::vector<mx::array>& inputs) override;
};

}  // namespace lstsq_mlx
