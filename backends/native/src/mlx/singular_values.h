// The primitive of s, which finds the singular values from what the solve left, or from the matrix.

#pragma once

#include "lapack/drivers.h"
#include "mlx/primitives.h"
#include "operation.h"

namespace lstsq_mlx {

/// Inputs a (..., m, n), of which s is the function and by which it is differentiated; and the state, the exponent and
/// the spectrum that the solve has left (lapack/spectrum.h), which say what it is computed from. Output s (..., min(m,
/// n)).
class SingularValues final : public mx::Primitive {
 public:
  SingularValues(mx::Stream stream, Driver driver) : Primitive(stream), driver_(driver) {}

  Driver driver() const { return driver_; }

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
  const char* name() const override { return "LstsqSingularValues"; }

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
