// The primitive of s, which finds the singular values from what the solve left, or from the matrix.

#pragma once

#include "lapack/drivers.h"
#include "mlx/primitives.h"
#include "operation.h"

namespace lstsq_mlx {

/// Inputs a (..., m, n), of which s is the function and by which it is differentiated, and the core and its exponent
/// (see core.h), from which it is computed; where the core is open, from a. Output s (..., min(m, n)).
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

/// Build the node. No derivative goes through the core: it is a function of a, and a is an input.
mx::array singular_values_node(
    const mx::array& a, const mx::array& core, const mx::array& exponent, Driver driver, mx::Stream stream);

}  // namespace lstsq_mlx
