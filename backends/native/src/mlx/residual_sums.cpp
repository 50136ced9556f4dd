#include "residual_sums.h"

#include "arrays.h"
#include "lapack/residual_sums.h"
#include "lstsq.h"
#include "mlx/ops.h"
#include "on_cpu.h"
#include "shapes.h"
#include "side_by_side.h"

namespace lstsq_mlx {

mx::array residual_sums_node(const mx::array& a,
                             const mx::array& b,
                             const mx::array& x,
                             const mx::array& found,
                             const mx::array& state,
                             Cutoff cutoff,
                             Driver driver,
                             mx::Stream stream) {
  const std::vector<mx::array> inputs{
      a, b, mx::stop_gradient(x, stream), mx::stop_gradient(found, stream), mx::stop_gradient(state, stream)};
  return mx::array(
      found.shape(), real_dtype(a.dtype()), std::make_shared<ResidualSums>(stream, cutoff, driver), inputs);
}

std::vector<mx::Shape> ResidualSums::output_shapes(const std::vector<mx::array>& inputs) {
  return {inputs[3].shape()};
}

bool ResidualSums::is_equivalent(const mx::Primitive& other) const {
  const auto& same = static_cast<const ResidualSums&>(other);
  return cutoff_ == same.cutoff_ && driver_ == same.driver_;
}

namespace {

template <class T>
void run(const std::vector<mx::array>& in, mx::array& out) {
  const auto& found = in[3];
  const Batch<RealOf<T>> sums{{found.data<RealOf<T>>(), 1, found.shape(-1), 0, found.strides(-1)},
                              places(found, /*trailing=*/1)};
  find_residual_sums<T>(
      batch<T>(in[0]), batch<T>(in[1]), batch<double>(in[2]), sums, states(in[4]), out.data<RealOf<T>>());
}

}  // namespace

void ResidualSums::eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) {
  run_on_cpu(stream(), inputs, outputs, [](const std::vector<mx::array>& in, std::vector<mx::array>& out) {
    with_type(in[0].dtype(), [&]<class T>() { run<T>(in, out[0]); });
  });
}

std::pair<std::vector<mx::array>, std::vector<int>> ResidualSums::vmap(const std::vector<mx::array>& inputs,
                                                                       const std::vector<int>& axes) {
  const mx::Stream s = stream();
  if (axes[0] >= 0) {
    const auto in = all_mapped(inputs, axes, s);
    return {{residual_sums_node(in[0], in[1], in[2], in[3], in[4], cutoff_, driver_, s)}, {0}};
  }
  // One matrix is passed over once, whatever is mapped. The right-hand sides that share it were solved side by side:
  // they have one state.
  const auto mapped = all_mapped({inputs[1], inputs[2], inputs[3]}, {axes[1], axes[2], axes[3]}, s);
  const auto &b = mapped[0], &x = mapped[1], &found = mapped[2];
  const std::vector<int> first{-static_cast<int>(b.ndim())};
  const mx::array at_front_state = at_front(inputs[4], axes[4], s);
  const mx::array state =
      axes[4] < 0 ? mx::expand_dims(at_front_state, 0, s) : mx::take(at_front_state, mx::array({0}), 0, s);
  const mx::array sums = residual_sums_node(mx::expand_dims(inputs[0], 0, s),
                                            side_by_side(b, first, s),
                                            side_by_side(x, first, s),
                                            row_side_by_side(found, first, s),
                                            state,
                                            cutoff_,
                                            driver_,
                                            s);
  return {{row_apart(sums, b, first, s)}, {0}};
}

}  // namespace lstsq_mlx
