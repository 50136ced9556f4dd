// The primitive of s, which finds the singular values from what the solve left, or from the matrix.

#pragma once

#include "lapack/drivers.h"
#include "on_cpu.h"
#include "operation.h"

namespace lstsq_mlx {

/// Inputs a (..., m, n), of which s is the function and by which it is differentiated; and the state, the exponent and
/// the spectrum that the solve has left (lapack/spectrum.h), which say what it is computed from. Output s (..., min(m,
/// n)).
class SingularValues final : public CpuPrimitive {
 public:
  SingularValues(mx::Stream stream, Driver driver) : CpuPrimitive(stream), driver_(driver) {}

  Driver driver() const { return driver_; }

  void eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override;
  // The derivatives: gradient.cpp.
  DEFINE_GRADS()
  DEFINE_VMAP()
  bool is_equivalent(const mx::Primitive& other) const override;
  std::vector<mx::Shape> output_shapes(const std::vector<mx::array>& inputs) override;
  DEFINE_NAME(LstsqSingularValues)

 private:
  Driver driver_;
};

/// Build the node from a and the outputs of the solve. No derivative goes through them: they are functions of a, and a
/// is an input.
mx::array singular_values_node(const mx::array& a,
                               const std::vector<mx::array>& solved,
                               Driver driver,
                               mx::Stream stream);

}  // namespace lstsq_mlx
