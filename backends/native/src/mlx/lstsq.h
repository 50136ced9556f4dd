// The primitive of x, residuals and rank.

#pragma once

#include "cutoff.h"
#include "lapack/drivers.h"
#include "on_cpu.h"
#include "operation.h"

namespace lstsq_mlx {

/// Inputs a (..., m, n), b (..., m, k), or b (m) for one matrix, and then x is (n). Of a driver that certifies, the
/// residuals may be still to be found: `ResidualSums` does that, and has x before it was rounded for it, where the
/// dtype is not float64. `SingularValues` finds s from state, exponent and spectrum (lapack/spectrum.h).
class Lstsq final : public CpuPrimitive {
 public:
  /// The outputs.
  enum Output { x, residuals, rank, state, exponent, spectrum, precise };

  Lstsq(mx::Stream stream, Cutoff cutoff, Driver driver) : CpuPrimitive(stream), cutoff_(cutoff), driver_(driver) {}

  void eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override;
  // The derivatives: gradient.cpp.
  DEFINE_GRADS()
  DEFINE_VMAP()
  bool is_equivalent(const mx::Primitive& other) const override;
  std::vector<mx::Shape> output_shapes(const std::vector<mx::array>& inputs) override;
  DEFINE_NAME(Lstsq)

 private:
  Cutoff cutoff_;
  Driver driver_;
};

/// Build the node. The operands are checked.
std::vector<mx::array> lstsq_node(
    const mx::array& a, const mx::array& b, Cutoff cutoff, Driver driver, mx::Stream stream);

/// The dtype of the magnitudes of this dtype: float32 for complex64.
mx::Dtype real_dtype(mx::Dtype dtype);

}  // namespace lstsq_mlx
