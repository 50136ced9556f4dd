// The thin SVD as a differentiable operation: what the derivatives of the singular values are made of.

#pragma once

#include <utility>
#include <vector>

#include "mlx/primitives.h"

namespace lstsq_mlx {

// U (..., M, k), s (..., k) descending and Vᴴ (..., k, N) with A = U diag(s) Vᴴ and k = min(M, N), of a float64 or
// complex64 array a (..., M, N). complex64 is computed in double precision and rounded.
std::vector<mlx::core::array> svd_factors(const mlx::core::array& a, mlx::core::Stream s);

class SvdFactors : public mlx::core::Primitive {
 public:
  explicit SvdFactors(mlx::core::Stream s) : Primitive(s) {}

  void eval_cpu(const std::vector<mlx::core::array>& inputs, std::vector<mlx::core::array>& outputs) override;
  void eval_gpu(const std::vector<mlx::core::array>& inputs, std::vector<mlx::core::array>& outputs) override;

  std::vector<mlx::core::array> jvp(const std::vector<mlx::core::array>& primals,
                                    const std::vector<mlx::core::array>& tangents,
                                    const std::vector<int>& argnums) override;
  std::vector<mlx::core::array> vjp(const std::vector<mlx::core::array>& primals,
                                    const std::vector<mlx::core::array>& cotangents,
                                    const std::vector<int>& argnums,
                                    const std::vector<mlx::core::array>& outputs) override;
  std::pair<std::vector<mlx::core::array>, std::vector<int>> vmap(const std::vector<mlx::core::array>& inputs,
                                                                  const std::vector<int>& axes) override;

  const char* name() const override { return "LstsqSvdFactors"; }
  // Never; see Lstsq::is_equivalent.
  bool is_equivalent(const Primitive&) const override { return false; }
  std::vector<mlx::core::Shape> output_shapes(const std::vector<mlx::core::array>& inputs) override;
};

}  // namespace lstsq_mlx
