// The primitive of the residuals, for drivers that find x without them.

#pragma once

#include "cutoff.h"
#include "lapack/drivers.h"
#include "on_cpu.h"
#include "operation.h"

namespace lstsq_mlx {

/// Inputs a (..., m, n) and b (..., m, k), of which the residuals are a function and by which they are differentiated;
/// x (..., n, k), precise and real (complex numbers as two); the residuals that the solve has found (..., k); and its
/// state (...), which says whether it has (lapack/spectrum.h). Output: the residuals (..., k), the sums of squares of
/// b - a x.
class ResidualSums final : public CpuPrimitive {
 public:
  ResidualSums(mx::Stream stream, Cutoff cutoff, Driver driver)
      : CpuPrimitive(stream), cutoff_(cutoff), driver_(driver) {}

  void eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override;
  // The derivatives: gradient.cpp.
  DEFINE_GRADS()
  DEFINE_VMAP()
  bool is_equivalent(const mx::Primitive& other) const override;
  std::vector<mx::Shape> output_shapes(const std::vector<mx::array>& inputs) override;
  DEFINE_NAME(LstsqResiduals)

 private:
  // Of the solve: the derivatives solve again.
  Cutoff cutoff_;
  Driver driver_;
};

/// Build the node. No derivative goes through x: the rule is that of the whole function of a and b.
mx::array residual_sums_node(const mx::array& a,
                             const mx::array& b,
                             const mx::array& x,
                             const mx::array& found,
                             const mx::array& state,
                             Cutoff cutoff,
                             Driver driver,
                             mx::Stream stream);

}  // namespace lstsq_mlx
