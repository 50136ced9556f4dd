#include "residual_sums.h"

#include <stdexcept>

#include "kernels/kernels.h"
#include "kernels/pool.h"
#include "lstsq.h"
#include "mlx/ops.h"
#include "row_major.h"
#include "task.h"

namespace lstsq_mlx {

namespace kernels = ::lstsq::kernels;

mx::array residual_sums_node(const mx::array& a,
                             const mx::array& b,
                             const mx::array& x,
                             const mx::array& found,
                             double rcond,
                             Driver driver,
                             mx::Stream stream) {
  const std::vector<mx::array> inputs{a, b, mx::stop_gradient(x, stream), mx::stop_gradient(found, stream)};
  return mx::array(found.shape(), real_dtype(a.dtype()), std::make_shared<ResidualSums>(stream, rcond, driver), inputs);
}

std::vector<mx::Shape> ResidualSums::output_shapes(const std::vector<mx::array>& inputs) {
  return {inputs[3].shape()};
}

bool ResidualSums::is_equivalent(const mx::Primitive& other) const {
  const auto& same = static_cast<const ResidualSums&>(other);
  return rcond_ == same.rcond_ && driver_ == same.driver_;
}

namespace {

template <class T>
void run(const mx::array& a, const mx::array& b, const mx::array& x, const mx::array& found, mx::array& out) {
  const Batch<T> as(a), bs(b);
  const Batch<double> xs(x);
  const Places places(found, /*trailing=*/1);
  const Int n = a.shape(-1), k = b.shape(-1), count = as.count(), given_stride = found.strides(-1);
  RealOf<T>* const sums = out.data<RealOf<T>>();

  const auto find = [&](Int i, std::vector<double>& precise) {
    const RealOf<T>* const given = found.data<RealOf<T>>() + places[i];
    if (*given != sum_not_found<RealOf<T>>) {
      for (Int c = 0; c < k; ++c) sums[i * k + c] = given[c * given_stride];
      return;
    }
    const RowMajor<T> to_a(as[i]), to_b(bs[i]);
    const RowMajor<double> to_x(xs[i], /*with_gaps=*/false);
    kernels::residuals(to_a.data,
                       as[i].rows,
                       n,
                       to_a.ld,
                       to_b.data,
                       k,
                       to_b.ld,
                       reinterpret_cast<const WorkOf<T>*>(to_x.data),
                       precise.data());
    for (Int c = 0; c < k; ++c) sums[i * k + c] = static_cast<RealOf<T>>(precise[c]);
  };

  // Many elements are spread over the cores; few are spread each.
  const Int tasks = count >= 8 * kernels::thread_count() ? 8 * kernels::thread_count() : 1;
  kernels::parallel(tasks, [&](Int task) {
    std::vector<double> precise(k);
    for (Int i = count * task / tasks; i < count * (task + 1) / tasks; ++i) find(i, precise);
  });
}

}  // namespace

void ResidualSums::eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) {
  dispatch(stream(), inputs, outputs, [](const std::vector<mx::array>& in, std::vector<mx::array>& out) {
    switch (in[0].dtype()) {
      case mx::float32:
        return run<float>(in[0], in[1], in[2], in[3], out[0]);
      case mx::float64:
        return run<double>(in[0], in[1], in[2], in[3], out[0]);
      default:
        return run<std::complex<float>>(in[0], in[1], in[2], in[3], out[0]);
    }
  });
}

void ResidualSums::eval_gpu(const std::vector<mx::array>&, std::vector<mx::array>&) {
  throw std::runtime_error("[lstsq] the residuals are found on the CPU; this node was moved to a stream of the GPU.");
}

namespace {

/// Mapped columns (v, ..., rows, c) of one matrix as columns of its own: (..., rows, v c).
mx::array side_by_side(const mx::array& columns, mx::Stream s) {
  mx::Shape shape(columns.shape().begin() + 1, columns.shape().end());
  shape.back() *= columns.shape(0);
  return mx::reshape(mx::moveaxis(columns, 0, -2, s), shape, s);
}

}  // namespace

std::pair<std::vector<mx::array>, std::vector<int>> ResidualSums::vmap(const std::vector<mx::array>& inputs,
                                                                       const std::vector<int>& axes) {
  const mx::Stream s = stream();
  int count = 0;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (axes[i] >= 0) count = inputs[i].shape(axes[i]);
  }
  std::vector<mx::array> mapped;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    // One matrix is passed over once, whatever is mapped.
    const bool whole = i == 0 && axes[0] < 0;
    mapped.push_back(axes[i] >= 0 ? at_front(inputs[i], axes[i], s)
                     : whole      ? inputs[i]
                                  : repeated(inputs[i], count, s));
  }
  if (axes[0] >= 0) {
    return {{residual_sums_node(mapped[0], mapped[1], mapped[2], mapped[3], rcond_, driver_, s)}, {0}};
  }
  const mx::array found = mx::moveaxis(mapped[3], 0, -2, s);  // (..., v, k)
  mx::Shape flat(found.shape().begin(), found.shape().end() - 1);
  flat.back() *= found.shape(-1);
  const mx::array sums = residual_sums_node(mapped[0],
                                            side_by_side(mapped[1], s),
                                            side_by_side(mapped[2], s),
                                            mx::reshape(found, flat, s),
                                            rcond_,
                                            driver_,
                                            s);
  return {{mx::moveaxis(mx::reshape(sums, found.shape(), s), -2, 0, s)}, {0}};
}

}  // namespace lstsq_mlx
