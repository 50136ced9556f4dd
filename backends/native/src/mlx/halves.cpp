#include "halves.h"

#include <stdexcept>

#include "arrays.h"
#include "lapack/blas.h"
#include "mlx/ops.h"
#include "on_cpu.h"
#include "shapes.h"

namespace lstsq_mlx {

namespace {

mx::array half_node(const mx::array& whole, int axis, bool second, mx::Stream stream) {
  const auto primitive = std::make_shared<Half>(stream, axis, second);
  return mx::array(primitive->output_shapes({whole})[0], whole.dtype(), primitive, {whole});
}

}  // namespace

mx::array joined(const mx::array& first, const mx::array& second, int axis, mx::Stream stream) {
  const auto primitive = std::make_shared<Joined>(stream, axis);
  return mx::array(primitive->output_shapes({first, second})[0], mx::float64, primitive, {first, second});
}

std::pair<mx::array, mx::array> halves(const mx::array& whole, int axis, mx::Stream stream) {
  return {half_node(whole, axis, false, stream), half_node(whole, axis, true, stream)};
}

// ---------------------------------------------------------------------------------------------------------------------
// Joined
// ---------------------------------------------------------------------------------------------------------------------

std::vector<mx::Shape> Joined::output_shapes(const std::vector<mx::array>& inputs) {
  auto shape = inputs[0].shape();
  if (shape != inputs[1].shape()) {
    throw std::invalid_argument(
        "[lstsq] a derivative that was compiled with shapeless=True was called with shapes of another kind; expected "
        "those of the first call but for the lengths. Compile it with shapeless=False.");
  }
  shape[shape.size() + axis_] *= 2;
  return {shape};
}

void Joined::eval_cpu(const std::vector<mx::array>& inputs, mx::array& out) {
  run_on_cpu(
      stream(), inputs, {out}, [axis = axis_](const std::vector<mx::array>& in, std::vector<mx::array>& outputs) {
        const Batch<double> firsts = batch<double>(in[0]), seconds = batch<double>(in[1]);
        const Int rows = in[0].shape(-2), cols = in[0].shape(-1), size = rows * cols;
        const Int ld = axis == -1 ? 2 * cols : cols, behind = axis == -1 ? cols : size;
        double* to = outputs[0].data<double>();
        for (Int i = 0; i < firsts.count(); ++i, to += 2 * size) {
          load(transposed(firsts[i]), to, ld);
          load(transposed(seconds[i]), to + behind, ld);
        }
      });
}

std::vector<mx::array> Joined::jvp(const std::vector<mx::array>&,
                                   const std::vector<mx::array>& tangents,
                                   const std::vector<int>& argnums) {
  if (argnums.size() == 2) return {joined(tangents[0], tangents[1], axis_, stream())};
  const auto zero = mx::zeros_like(tangents[0], stream());
  return {argnums[0] == 0 ? joined(tangents[0], zero, axis_, stream()) : joined(zero, tangents[0], axis_, stream())};
}

std::vector<mx::array> Joined::vjp(const std::vector<mx::array>&,
                                   const std::vector<mx::array>& cotangents,
                                   const std::vector<int>& argnums,
                                   const std::vector<mx::array>&) {
  std::vector<mx::array> vjps;
  for (int argument : argnums) vjps.push_back(half_node(cotangents[0], axis_, argument == 1, stream()));
  return vjps;
}

std::pair<std::vector<mx::array>, std::vector<int>> Joined::vmap(const std::vector<mx::array>& inputs,
                                                                 const std::vector<int>& axes) {
  const auto mapped = all_mapped(inputs, axes, stream());
  return {{joined(mapped[0], mapped[1], axis_, stream())}, {0}};
}

// ---------------------------------------------------------------------------------------------------------------------
// Half
// ---------------------------------------------------------------------------------------------------------------------

std::vector<mx::Shape> Half::output_shapes(const std::vector<mx::array>& inputs) {
  auto shape = inputs[0].shape();
  shape[shape.size() + axis_] = inputs[0].shape(axis_) / 2;
  return {shape};
}

void Half::eval_cpu(const std::vector<mx::array>& inputs, mx::array& out) {
  const auto& whole = inputs[0];
  const auto strides = whole.strides();
  const std::int64_t offset = second_ ? out.shape(axis_) * *(strides.end() + axis_) : 0;
  out.copy_shared_buffer(whole, strides, {/*contiguous=*/false, false, false}, whole.data_size(), offset);
}

std::vector<mx::array> Half::jvp(const std::vector<mx::array>&,
                                 const std::vector<mx::array>& tangents,
                                 const std::vector<int>&) {
  return {half_node(tangents[0], axis_, second_, stream())};
}

std::vector<mx::array> Half::vjp(const std::vector<mx::array>&,
                                 const std::vector<mx::array>& cotangents,
                                 const std::vector<int>&,
                                 const std::vector<mx::array>&) {
  const auto& of_half = cotangents[0];
  const auto zero = mx::zeros_like(of_half, stream());
  return {second_ ? joined(zero, of_half, axis_, stream()) : joined(of_half, zero, axis_, stream())};
}

std::pair<std::vector<mx::array>, std::vector<int>> Half::vmap(const std::vector<mx::array>& inputs,
                                                               const std::vector<int>& axes) {
  return {{half_node(at_front(inputs[0], axes[0], stream()), axis_, second_, stream())}, {0}};
}

}  // namespace lstsq_mlx
