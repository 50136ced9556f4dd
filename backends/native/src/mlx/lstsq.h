// The primitive of x, residuals and rank.

#pragma once

#include "cutoff.h"
#include "lapack/drivers.h"
#include "mlx/primitives.h"
#include "operation.h"

namespace lstsq_mlx {

/// Inputs a (..., m, n), b (..., m, k), or b (m) for one matrix, and then x is (n). Of a driver that certifies, the
/// residuals may be still to be found: `ResidualSums` does that, and has x before it was rounded for it, where the
/// dtype is not float64. `SingularValues` finds s from state, exponent and spectrum (lapack/spectrum.h).
class Lstsq final : public mx::Primitive {
 public:
  /// The outputs.
  enum Output { x, residuals, rank, state, exponent, spectrum, precise };

  Lstsq(mx::Stream stream, Cutoff cutoff, Driver driver) : Primitive(stream), cutoff_(cutoff), driver_(driver) {}

  void eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override;
  void eval_gpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override;
  // The derivatives: gradient.cpp.
  std::vector<mx::array> jvp(const std::vector<mx::array>& primals,
                             const std::vector<mx::array>& tangents,
                             const std::vector<int>& argnums) override;
  std::vector<mx::array> vjp(const std::vector<mx::array>& primals,
                             const std::vector<mx::array>& cotangents,
                             const std::vector<int>& argnums,
                             const std::vector<mx::array>& outputs) override;
  std::pair<std::vector<mx::array>, std::vector<int>> vmap(const std::vector<mx::array>& inputs,
                                                           const std::vector<int>& axes) override;
  bool is_equivalent(const mx::Primitive& other) const override;
  std::vector<mx::Shape> output_shapes(const std::vector<mx::array>& inputs) override;
  const char* name() const override { return "Lstsq"; }

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
