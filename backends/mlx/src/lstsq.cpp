#include "lstsq.h"

#include <sstream>
#include <stdexcept>

#include "batched.h"
#include "certified.h"
#include "mlx/allocator.h"
#include "mlx/backend/cpu/encoder.h"
#include "mlx/ops.h"
#include "residual_sums.h"
#include "singular_values.h"

namespace lstsq_mlx {

// ---------------------------------------------------------------------------------------------------------------------
// The operation
// ---------------------------------------------------------------------------------------------------------------------

mx::Dtype real_dtype(mx::Dtype dtype) {
  return dtype == mx::complex64 ? mx::float32 : dtype;
}

namespace {

/// LAPACK runs on the CPU: on the stream asked for, or on the CPU's default stream where the GPU is the default.
mx::Stream cpu_stream(mx::StreamOrDevice stream) {
  if (std::holds_alternative<std::monostate>(stream)) return mx::default_stream(mx::Device::cpu);
  const mx::Stream chosen = mx::to_stream(stream);
  if (chosen.device != mx::Device::cpu) {
    throw std::invalid_argument(
        "[lstsq] got a stream of the GPU; expected one of the CPU, where LAPACK runs. Leave it out: the arrays may "
        "live anywhere.");
  }
  return chosen;
}

void check_operands(const mx::array& a, const mx::array& b, double rcond) {
  std::ostringstream message;
  if (a.ndim() < 2 || (a.ndim() != b.ndim() && !(a.ndim() == 2 && b.ndim() == 1)) || a.size() == 0 || b.size() == 0 ||
      !std::equal(a.shape().begin(), a.shape().end() - 1, b.shape().begin())) {
    message
        << "[lstsq] got a of shape " << a.shape() << " and b of shape " << b.shape()
        << "; expected (..., M, N) and (..., M, K) with the same batch dimensions, or (M, N) and (M,), none of them "
        << "0. Call lstsq.lstsq, which broadcasts and takes empty arrays.";
    throw std::invalid_argument(message.str());
  }
  if (a.dtype() != b.dtype() || (a.dtype() != mx::float32 && a.dtype() != mx::float64 && a.dtype() != mx::complex64)) {
    message << "[lstsq] got a of " << a.dtype() << " and b of " << b.dtype()
            << "; expected both float32, float64 or complex64. Call lstsq.lstsq, which promotes them.";
    throw std::invalid_argument(message.str());
  }
  if (!(rcond >= 0)) {
    message << "[lstsq] got rcond = " << rcond << "; expected a number from 0 up.";
    throw std::invalid_argument(message.str());
  }
}

Problem problem_of(const mx::array& a, const mx::array& b) {
  return {a.shape(-2), a.shape(-1), b.ndim() == 1 ? 1 : b.shape(-1)};
}

void check_limits_of(const mx::array& a, const mx::array& b, double rcond, Driver driver) {
  const Problem problem = problem_of(a, b);
  switch (a.dtype()) {
    case mx::float32:
      return check_limits<float>(problem, rcond, driver);
    case mx::float64:
      return check_limits<double>(problem, rcond, driver);
    default:
      return check_limits<std::complex<float>>(problem, rcond, driver);
  }
}

}  // namespace

std::vector<mx::array> lstsq(const mx::array& a,
                             const mx::array& b,
                             double rcond,
                             const std::string& driver_name,
                             mx::StreamOrDevice stream_or_device) {
  check_operands(a, b, rcond);
  const Driver driver = driver_named(driver_name);
  check_limits_of(a, b, rcond, driver);
  const mx::Stream stream = cpu_stream(stream_or_device);
  const auto solved = lstsq_node(a, b, rcond, driver, stream);
  const mx::array s = singular_values_node(a, solved[3], solved[4], driver, stream);
  if (!certifies(driver)) return {solved[0], solved[1], solved[2], s};
  const auto as_columns = [&](const mx::array& v) { return b.ndim() == 1 ? mx::expand_dims(v, -1, stream) : v; };
  const mx::array precise = solved.size() > 5 ? solved[5] : as_columns(solved[0]);
  return {solved[0], residual_sums_node(a, as_columns(b), precise, solved[1], rcond, driver, stream), solved[2], s};
}

std::vector<mx::array> lstsq_node(
    const mx::array& a, const mx::array& b, double rcond, Driver driver, mx::Stream stream) {
  const auto primitive = std::make_shared<Lstsq>(stream, rcond, driver);
  const auto shapes = primitive->output_shapes({a, b});
  std::vector<mx::Dtype> dtypes{a.dtype(), real_dtype(a.dtype()), mx::int32};
  dtypes.resize(shapes.size(), mx::float64);
  return mx::array::make_arrays(shapes, dtypes, primitive, {a, b});
}

// ---------------------------------------------------------------------------------------------------------------------
// The primitive
// ---------------------------------------------------------------------------------------------------------------------

std::vector<mx::Shape> Lstsq::output_shapes(const std::vector<mx::array>& inputs) {
  const auto &a = inputs[0], &b = inputs[1];
  const auto [m, n, k] = problem_of(a, b);
  const Int narrow = std::min(m, n);
  const mx::Shape batch(a.shape().begin(), a.shape().end() - 2);
  const auto with = [&batch](const std::vector<Int>& sizes) {
    mx::Shape shape = batch;
    for (Int size : sizes) shape.push_back(mx::safe_cast(size, "lstsq"));
    return shape;
  };
  const bool is_complex = a.dtype() == mx::complex64;
  std::vector<mx::Shape> shapes{
      b.ndim() == 1 ? with({n}) : with({n, k}), with({k}), batch, with(core_shape(driver_, narrow, is_complex)), batch};
  if (certifies(driver_) && a.dtype() != mx::float64) shapes.push_back(with({n, is_complex ? 2 * k : k}));
  return shapes;
}

// Never, although equal solves exist: where mx.compile of MLX 0.32 merges two nodes of several outputs each, it can
// leave the graph out of order and fail with "_Map_base::at". (mx.divmod alone shows it.) Second derivatives do.
bool Lstsq::is_equivalent(const mx::Primitive&) const {
  return false;
}

namespace {

template <class T>
void run(Driver driver,
         double rcond,
         const Problem& problem,
         const mx::array& a,
         const mx::array& b,
         std::vector<mx::array>& out) {
  const Outputs<T> outputs{reinterpret_cast<T*>(out[0].data<char>()),
                           out[1].data<RealOf<T>>(),
                           out[2].data<std::int32_t>(),
                           out[3].data<double>(),
                           out[4].data<double>(),
                           out.size() > 5 ? out[5].data<double>() : nullptr};
  if (certifies(driver)) {
    solve_certified<T>(driver, rcond, problem, Batch<T>(a), Batch<T>(b), outputs);
  } else {
    solve_batch<T>(driver, rcond, problem, Batch<T>(a), Batch<T>(b), outputs);
  }
}

}  // namespace

void Lstsq::eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) {
  auto& encoder = mx::cpu::get_command_encoder(stream());
  encoder.set_input_array(inputs[0]);
  encoder.set_input_array(inputs[1]);
  std::vector<mx::array> out;
  for (auto& output : outputs) {
    output.set_data(mx::allocator::malloc(output.nbytes()));
    encoder.set_output_array(output);
    out.push_back(mx::array::unsafe_weak_copy(output));
  }
  // MLX keeps the memory of inputs and outputs until the task has run. The task runs on the stream's own thread, which
  // holds no GIL.
  encoder.dispatch([driver = driver_,
                    rcond = rcond_,
                    problem = problem_of(inputs[0], inputs[1]),
                    a = mx::array::unsafe_weak_copy(inputs[0]),
                    b = mx::array::unsafe_weak_copy(inputs[1]),
                    out = std::move(out)]() mutable {
    switch (a.dtype()) {
      case mx::float32:
        return run<float>(driver, rcond, problem, a, b, out);
      case mx::float64:
        return run<double>(driver, rcond, problem, a, b, out);
      default:
        return run<std::complex<float>>(driver, rcond, problem, a, b, out);
    }
  });
}

void Lstsq::eval_gpu(const std::vector<mx::array>&, std::vector<mx::array>&) {
  throw std::runtime_error("[lstsq] LAPACK runs on the CPU; this node was moved to a stream of the GPU.");
}

// ---------------------------------------------------------------------------------------------------------------------
// Mapping
// ---------------------------------------------------------------------------------------------------------------------

mx::array at_front(const mx::array& input, int axis, mx::Stream s) {
  return axis > 0 ? mx::moveaxis(input, axis, 0, s) : input;
}

mx::array repeated(const mx::array& input, int count, mx::Stream s) {
  mx::Shape shape = input.shape();
  shape.insert(shape.begin(), count);
  return mx::broadcast_to(mx::expand_dims(input, 0, s), shape, s);
}

namespace {

/// One matrix for many right-hand sides: b (v, ..., m, k) becomes (..., m, v k), so that a is factorised once.
std::vector<mx::array> solve_side_by_side(
    const mx::array& a, const mx::array& b, double rcond, Driver driver, mx::Stream s) {
  const int v = b.shape(0), m = b.shape(-2), k = b.shape(-1), n = a.shape(-1);
  const mx::Shape batch(a.shape().begin(), a.shape().end() - 2);
  const auto with = [&batch](std::initializer_list<int> sizes) {
    mx::Shape shape = batch;
    shape.insert(shape.end(), sizes.begin(), sizes.end());
    return shape;
  };

  // A right-hand side that is not finite spoils its own element and not its neighbours: it is solved as zero, and its
  // answer replaced. What has no answer because of a is NaN already.
  const mx::array finite = mx::all(mx::isfinite(b, s), std::vector<int>{-2, -1}, /*keepdims=*/true, s);
  const mx::array clean = mx::where(finite, b, mx::zeros_like(b, s), s);
  const mx::array columns = mx::reshape(mx::moveaxis(clean, 0, -2, s), with({m, v * k}), s);
  const auto solved = lstsq_node(a, columns, rcond, driver, s);

  const auto nan_like = [](const mx::array& like) {
    return mx::array(std::numeric_limits<float>::quiet_NaN(),
                     like.dtype() == mx::complex64 ? mx::complex64 : like.dtype());
  };
  const mx::array x = mx::moveaxis(mx::reshape(solved[0], with({n, v, k}), s), -2, 0, s);
  const mx::array residuals = mx::moveaxis(mx::reshape(solved[1], with({v, k}), s), -2, 0, s);
  const mx::array element = mx::squeeze(finite, std::vector<int>{-2, -1}, s);
  std::vector<mx::array> mapped{mx::where(finite, x, nan_like(x), s),
                                mx::where(mx::squeeze(finite, -2, s), residuals, nan_like(residuals), s),
                                mx::where(element, solved[2], mx::array(0, mx::int32), s),
                                repeated(solved[3], v, s),
                                mx::where(element, solved[4], nan_like(solved[4]), s)};
  if (solved.size() > 5) {
    const int parts = solved[5].shape(-1) / (v * k);
    const mx::array precise = mx::moveaxis(mx::reshape(solved[5], with({n, v, k * parts}), s), -2, 0, s);
    mapped.push_back(mx::where(finite, precise, nan_like(precise), s));
  }
  return mapped;
}

}  // namespace

std::pair<std::vector<mx::array>, std::vector<int>> Lstsq::vmap(const std::vector<mx::array>& inputs,
                                                                const std::vector<int>& axes) {
  const mx::Stream s = stream();
  const bool vector = inputs[1].ndim() == (axes[1] < 0 ? 1 : 2);
  mx::array b = at_front(inputs[1], axes[1], s);
  if (vector) b = mx::expand_dims(b, -1, s);
  std::vector<mx::array> mapped;
  if (axes[0] < 0) {
    mapped = solve_side_by_side(inputs[0], b, rcond_, driver_, s);
  } else {
    const mx::array a = at_front(inputs[0], axes[0], s);
    mapped = lstsq_node(a, axes[1] < 0 ? repeated(b, a.shape(0), s) : b, rcond_, driver_, s);
  }
  if (vector) mapped[0] = mx::squeeze(mapped[0], -1, s);
  return {mapped, std::vector<int>(mapped.size(), 0)};
}

}  // namespace lstsq_mlx
