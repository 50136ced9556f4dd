#include "side_by_side.h"

#include <algorithm>
#include <cstdint>

#include "lapack/matrix.h"
#include "mlx/ops.h"
#include "on_cpu.h"
#include "shapes.h"

namespace lstsq_mlx {

namespace {

/// The product of the sizes along these axes.
int count(const mx::Shape& shape, const std::vector<int>& axes) {
  int product = 1;
  for (int axis : axes) product *= *(shape.end() + axis);
  return product;
}

mx::array apart_node(const mx::array& x, const mx::array& like, const std::vector<int>& axes, mx::Stream stream) {
  const auto primitive = std::make_shared<Apart>(stream, axes);
  return mx::array(primitive->output_shapes({x, like})[0], x.dtype(), primitive, {x, like});
}

}  // namespace

mx::array side_by_side(const mx::array& b, const std::vector<int>& axes, mx::Stream stream) {
  if (axes.empty()) return b;
  const auto primitive = std::make_shared<SideBySide>(stream, axes);
  return mx::array(primitive->output_shapes({b})[0], b.dtype(), primitive, {b});
}

mx::array apart(const mx::array& x, const mx::array& like, const std::vector<int>& axes, mx::Stream stream) {
  return axes.empty() ? x : apart_node(x, mx::stop_gradient(like, stream), axes, stream);
}

mx::array row_apart(const mx::array& row, const mx::array& like, const std::vector<int>& axes, mx::Stream stream) {
  return mx::squeeze(apart(mx::expand_dims(row, -2, stream), like, axes, stream), -2, stream);
}

mx::array row_side_by_side(const mx::array& row, const std::vector<int>& axes, mx::Stream stream) {
  return mx::squeeze(side_by_side(mx::expand_dims(row, -2, stream), axes, stream), -2, stream);
}

// ---------------------------------------------------------------------------------------------------------------------
// SideBySide
// ---------------------------------------------------------------------------------------------------------------------

std::vector<mx::Shape> SideBySide::output_shapes(const std::vector<mx::array>& inputs) {
  auto shape = inputs[0].shape();
  shape.back() = mx::safe_cast(std::int64_t{shape.back()} * count(shape, axes_), "lstsq");
  for (int axis : axes_) *(shape.end() + axis) = 1;
  return {shape};
}

namespace {

/// A size and the distance in memory between steps along it.
struct Axis {
  std::int64_t size, stride;
};

/// Add an axis behind the others: nothing where it has one step, a longer last axis where the two are one line.
void append(std::vector<Axis>& axes, Axis next) {
  if (next.size == 1) return;
  if (!axes.empty() && axes.back().stride == next.size * next.stride) {
    axes.back() = {axes.back().size * next.size, next.stride};
  } else {
    axes.push_back(next);
  }
}

/// Copy to contiguous memory, from this axis on. The last two go in tiles, since they may be the other way round.
template <class T>
void copy(const T* from, const std::vector<Axis>& axes, std::size_t at, std::int64_t size, T* to) {
  const auto [count, stride] = axes[at];
  if (axes.size() - at == 2) {
    const auto [inner, inner_stride] = axes[at + 1];
    detail::load_tiles(
        MatrixView<T>{from, inner, count, inner_stride, stride}, to, inner, [](T value) { return value; });
    return;
  }
  for (std::int64_t i = 0; i < count; ++i) copy(from + i * stride, axes, at + 1, size / count, to + i * (size / count));
}

}  // namespace

void SideBySide::eval_cpu(const std::vector<mx::array>& inputs, mx::array& out) {
  // The batch axes that stay, the rows, the axes that become columns, the columns.
  const auto& b = inputs[0];
  std::vector<Axis> order;
  for (int axis = -static_cast<int>(b.ndim()); axis < -1; ++axis) {
    const bool stays = std::find(axes_.begin(), axes_.end(), axis) == axes_.end();
    if (stays) append(order, {b.shape(axis), b.strides(axis)});
  }
  for (int axis : axes_) append(order, {b.shape(axis), b.strides(axis)});
  append(order, {b.shape(-1), b.strides(-1)});
  while (order.size() < 2) order.insert(order.begin(), Axis{1, 0});
  run_on_cpu(stream(), inputs, {out}, [order](const std::vector<mx::array>& in, std::vector<mx::array>& outputs) {
    const auto size = static_cast<std::int64_t>(outputs[0].size());
    if (outputs[0].itemsize() == 4) {
      copy(in[0].data<std::uint32_t>(), order, 0, size, outputs[0].data<std::uint32_t>());
    } else {
      copy(in[0].data<std::uint64_t>(), order, 0, size, outputs[0].data<std::uint64_t>());
    }
  });
}

std::vector<mx::array> SideBySide::jvp(const std::vector<mx::array>&,
                                       const std::vector<mx::array>& tangents,
                                       const std::vector<int>&) {
  return {side_by_side(tangents[0], axes_, stream())};
}

std::vector<mx::array> SideBySide::vjp(const std::vector<mx::array>& primals,
                                       const std::vector<mx::array>& cotangents,
                                       const std::vector<int>&,
                                       const std::vector<mx::array>&) {
  return {apart(cotangents[0], primals[0], axes_, stream())};
}

std::pair<std::vector<mx::array>, std::vector<int>> SideBySide::vmap(const std::vector<mx::array>& inputs,
                                                                     const std::vector<int>& axes) {
  return {{side_by_side(at_front(inputs[0], axes[0], stream()), axes_, stream())}, {0}};
}

// ---------------------------------------------------------------------------------------------------------------------
// Apart
// ---------------------------------------------------------------------------------------------------------------------

std::vector<mx::Shape> Apart::output_shapes(const std::vector<mx::array>& inputs) {
  auto shape = inputs[0].shape();
  const auto& like = inputs[1].shape();
  shape.back() /= count(like, axes_);
  for (int axis : axes_) *(shape.end() + axis) = *(like.end() + axis);
  return {shape};
}

void Apart::eval_cpu(const std::vector<mx::array>& inputs, mx::array& out) {
  const auto& x = inputs[0];
  auto strides = x.strides();
  auto step = strides.back() * out.shape(-1);
  for (auto axis = axes_.rbegin(); axis != axes_.rend(); ++axis) {
    *(strides.end() + *axis) = step;
    step *= out.shape(*axis);
  }
  out.copy_shared_buffer(x, strides, {/*contiguous=*/false, false, false}, x.data_size());
}

std::vector<mx::array> Apart::jvp(const std::vector<mx::array>& primals,
                                  const std::vector<mx::array>& tangents,
                                  const std::vector<int>&) {
  return {apart_node(tangents[0], primals[1], axes_, stream())};
}

std::vector<mx::array> Apart::vjp(const std::vector<mx::array>&,
                                  const std::vector<mx::array>& cotangents,
                                  const std::vector<int>&,
                                  const std::vector<mx::array>&) {
  return {side_by_side(cotangents[0], axes_, stream())};
}

std::pair<std::vector<mx::array>, std::vector<int>> Apart::vmap(const std::vector<mx::array>& inputs,
                                                                const std::vector<int>& axes) {
  const auto mapped = all_mapped(inputs, axes, stream());
  return {{apart_node(mapped[0], mapped[1], axes_, stream())}, {0}};
}

}  // namespace lstsq_mlx
