#include "shapes.h"

#include <numeric>

#include "mlx/ops.h"

namespace lstsq_mlx {

namespace {

/// The axes from `begin` up to `end`.
std::vector<int> axes_between(int begin, int end) {
  std::vector<int> axes(end - begin);
  std::iota(axes.begin(), axes.end(), begin);
  return axes;
}

/// True everywhere.
mx::array all_true(const mx::array& like, mx::Stream s) {
  return mx::full_like(like, mx::array(true), mx::bool_, s);
}

}  // namespace

mx::array at_front(const mx::array& input, int axis, mx::Stream s) {
  return axis > 0 ? mx::moveaxis(input, axis, 0, s) : input;
}

// MLX broadcasts to a shape, which would stay that of the trace, or to arrays, of which it reads the shapes alone: then
// too where a graph without shapes runs. So a reduced array carries the length. In all other graphs it is never
// computed.
mx::array repeated(const mx::array& input, const mx::array& like, mx::Stream s) {
  const int ndim = static_cast<int>(like.ndim());
  auto along = ndim > 1 ? mx::any(like, axes_between(1, ndim), /*keepdims=*/false, s) : like;
  if (input.ndim() > 0) along = mx::expand_dims(along, axes_between(1, static_cast<int>(input.ndim()) + 1), s);
  return mx::broadcast_arrays({mx::expand_dims(input, 0, s), along}, s)[0];
}

std::vector<mx::array> all_mapped(const std::vector<mx::array>& inputs, const std::vector<int>& axes, mx::Stream s) {
  std::vector<mx::array> mapped;
  for (std::size_t i = 0; i < inputs.size(); ++i) mapped.push_back(at_front(inputs[i], axes[i], s));
  std::size_t of = 0;
  while (axes[of] < 0) ++of;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (axes[i] < 0) mapped[i] = repeated(inputs[i], mapped[of], s);
  }
  return mapped;
}

mx::array padded(const mx::array& input, std::size_t ndim, mx::Stream s) {
  if (input.ndim() == ndim) return input;
  return mx::expand_dims(input, axes_between(0, static_cast<int>(ndim - input.ndim())), s);
}

mx::array with_batch_of(const mx::array& like, int trailing_like, const mx::array& array, int trailing, mx::Stream s) {
  const int batch = static_cast<int>(array.ndim()) - trailing;
  bool broadcasts = false;
  for (int axis = 0; axis < batch; ++axis) broadcasts |= array.shape(axis) == 1 && like.shape(axis) != 1;
  if (!broadcasts) return array;
  auto along = mx::any(like, axes_between(batch, batch + trailing_like), /*keepdims=*/false, s);
  if (trailing > 0) along = mx::expand_dims(along, axes_between(batch, batch + trailing), s);
  return mx::broadcast_arrays({array, along}, s)[0];
}

mx::array identity_like(const mx::array& square, mx::Stream s) {
  const auto ones = mx::astype(all_true(square, s), mx::int32, s);
  const auto row = mx::cumsum(ones, -2, /*reverse=*/false, /*inclusive=*/true, std::nullopt, s);
  const auto column = mx::cumsum(ones, -1, /*reverse=*/false, /*inclusive=*/true, std::nullopt, s);
  return mx::astype(mx::equal(row, column, s), square.dtype(), s);
}

mx::array length_of(const mx::array& array, int axis, mx::Dtype dtype, mx::Stream s) {
  std::vector<int> others;
  for (int i = 0; i < static_cast<int>(array.ndim()); ++i) {
    if (i != axis + (axis < 0 ? static_cast<int>(array.ndim()) : 0)) others.push_back(i);
  }
  const auto line = others.empty() ? array : mx::max(array, others, /*keepdims=*/false, s);
  return mx::sum(mx::full_like(line, mx::array(1, dtype), dtype, s), s);
}

}  // namespace lstsq_mlx
