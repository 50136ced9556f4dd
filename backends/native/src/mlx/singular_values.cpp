#include "singular_values.h"

#include <vector>

#include "arrays.h"
#include "lapack/singular_values.h"
#include "lstsq.h"
#include "mlx/ops.h"
#include "on_cpu.h"
#include "shapes.h"

namespace lstsq_mlx {

namespace {

/// Inputs: a, state, exponent, spectrum.
mx::array node(const std::vector<mx::array>& inputs, Driver driver, mx::Stream stream) {
  const auto primitive = std::make_shared<SingularValues>(stream, driver);
  return mx::array(primitive->output_shapes(inputs)[0], real_dtype(inputs[0].dtype()), primitive, inputs);
}

}  // namespace

mx::array singular_values_node(const mx::array& a,
                               const std::vector<mx::array>& solved,
                               Driver driver,
                               mx::Stream stream) {
  return node({a,
               mx::stop_gradient(solved[Lstsq::state], stream),
               mx::stop_gradient(solved[Lstsq::exponent], stream),
               mx::stop_gradient(solved[Lstsq::spectrum], stream)},
              driver,
              stream);
}

std::vector<mx::Shape> SingularValues::output_shapes(const std::vector<mx::array>& inputs) {
  const auto& a = inputs[0];
  mx::Shape shape(a.shape().begin(), a.shape().end() - 1);
  shape.back() = std::min(a.shape(-2), a.shape(-1));
  return {shape};
}

bool SingularValues::is_equivalent(const mx::Primitive& other) const {
  return driver_ == static_cast<const SingularValues&>(other).driver_;
}

namespace {

template <class T>
void run(Driver driver, const std::vector<mx::array>& in, mx::array& out) {
  const auto &a = in[0], &state = in[1], &exponent = in[2], &spectrum = in[3];
  const Spectra spectra{spectrum.data<double>(),
                        places(spectrum, leaves_triangle(driver) ? 2 : 1),
                        exponent.data<std::int32_t>(),
                        places(exponent, /*trailing=*/0),
                        reinterpret_cast<const State*>(state.data<std::int32_t>()),
                        places(state, /*trailing=*/0)};
  find_singular_values<T>(driver, {a.shape(-2), a.shape(-1), 1}, batch<T>(a), spectra, out.data<RealOf<T>>());
}

}  // namespace

void SingularValues::eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) {
  run_on_cpu(
      stream(), inputs, outputs, [driver = driver_](const std::vector<mx::array>& in, std::vector<mx::array>& out) {
        with_type(in[0].dtype(), [&]<class T>() { run<T>(driver, in, out[0]); });
      });
}

std::pair<std::vector<mx::array>, std::vector<int>> SingularValues::vmap(const std::vector<mx::array>& inputs,
                                                                         const std::vector<int>& axes) {
  // An input that is not mapped is repeated without a copy, and what lies at one place is computed once.
  const auto mapped = all_mapped(inputs, axes, stream());
  return {{node(mapped, driver_, stream())}, {0}};
}

}  // namespace lstsq_mlx
