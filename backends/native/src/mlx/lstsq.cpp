#include "lstsq.h"

#include <optional>
#include <sstream>
#include <stdexcept>

#include "arrays.h"
#include "gpu/launch.h"
#include "gpu/lstsq.h"
#include "lapack/certified.h"
#include "mlx/ops.h"
#include "on_cpu.h"
#include "residual_sums.h"
#include "shapes.h"
#include "side_by_side.h"
#include "singular_values.h"
#include "tracing.h"

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
        "[lstsq] got a stream of the GPU, and there are no kernels for this problem; expected one of the CPU, where "
        "LAPACK runs. Leave it out: the arrays may live anywhere.");
  }
  return chosen;
}

Problem problem_of(const mx::array& a, const mx::array& b) {
  return {a.shape(-2), a.shape(-1), b.ndim() == 1 ? 1 : b.shape(-1)};
}

/// The stream of the GPU, where the problem is to be solved there and can be: the stream asked for, or the default one.
std::optional<mx::Stream> gpu_stream(const mx::array& a, const mx::array& b, Driver driver, mx::StreamOrDevice stream) {
  if (driver != Driver::automatic || a.dtype() == mx::float64 || !gpu::is_available()) return std::nullopt;
  const mx::Stream chosen = mx::to_stream(stream);
  const bool of_one_batch =
      b.ndim() == 1 ? a.ndim() == 2
                    : a.ndim() == b.ndim() && std::equal(a.shape().begin(), a.shape().end() - 2, b.shape().begin());
  // A graph without shapes would keep the kernels of those that it was traced with.
  if (chosen.device != mx::Device::gpu || !of_one_batch || in_shapeless_trace()) return std::nullopt;
  const Int parts = a.dtype() == mx::complex64 ? 2 : 1;
  const auto [m, n, k] = problem_of(a, b);
  const bool can = gpu::has_kernels({static_cast<Int>(a.size()) / (m * n), parts * m, parts * n, k});
  return can ? std::optional(chosen) : std::nullopt;
}

/// Whether the batch dimensions are pairwise equal, from the right, or one of them is 1.
bool batches_broadcast(const mx::array& a, const mx::array& b) {
  for (int axis = -3; axis >= -static_cast<int>(std::min(a.ndim(), b.ndim())); --axis) {
    if (a.shape(axis) != b.shape(axis) && a.shape(axis) != 1 && b.shape(axis) != 1) return false;
  }
  return true;
}

void check_operands(const mx::array& a, const mx::array& b, const Cutoff& cutoff) {
  std::ostringstream message;
  if (a.ndim() < 2 || b.ndim() < 1 || a.size() == 0 || b.size() == 0 ||
      a.shape(-2) != b.shape(b.ndim() == 1 ? 0 : -2) || !batches_broadcast(a, b)) {
    message << "[lstsq] got a of shape " << a.shape() << " and b of shape " << b.shape()
            << "; expected (..., M, N) and (..., M, K) with batch dimensions that broadcast, or (M,), none of them 0. "
            << "Call lstsq.lstsq, which takes empty arrays.";
    throw std::invalid_argument(message.str());
  }
  if (a.dtype() != b.dtype() || (a.dtype() != mx::float32 && a.dtype() != mx::float64 && a.dtype() != mx::complex64)) {
    message << "[lstsq] got a of " << a.dtype() << " and b of " << b.dtype()
            << "; expected both float32, float64 or complex64. Call lstsq.lstsq, which promotes them.";
    throw std::invalid_argument(message.str());
  }
  if (!(cutoff.rcond >= 0) || cutoff.growth < 1) {
    message << "[lstsq] got rcond = " << cutoff.rcond << " and growth = " << cutoff.growth
            << "; expected a number from 0 up, and from 1 up.";
    throw std::invalid_argument(message.str());
  }
}

void check_limits_of(const mx::array& a, const mx::array& b, const Cutoff& cutoff, Driver driver) {
  const Problem problem = problem_of(a, b);
  const double rcond = cutoff.of(problem);
  with_type(a.dtype(), [&]<class T>() { check_limits<T>(problem, rcond, driver); });
}

/// Solve where a and b have one batch, or b is (m) and a one matrix.
std::vector<mx::array> solve_of_one_batch(
    const mx::array& a, const mx::array& b, Cutoff cutoff, Driver driver, mx::Stream s) {
  const auto solved = lstsq_node(a, b, cutoff, driver, s);
  const mx::array singular_values = singular_values_node(a, solved, driver, s);
  if (!certifies(driver)) return {solved[Lstsq::x], solved[Lstsq::residuals], solved[Lstsq::rank], singular_values};
  const auto as_columns = [&](const mx::array& v) { return b.ndim() == 1 ? mx::expand_dims(v, -1, s) : v; };
  const mx::array precise = solved.size() > Lstsq::precise ? solved[Lstsq::precise] : as_columns(solved[Lstsq::x]);
  const mx::array residuals =
      residual_sums_node(a, as_columns(b), precise, solved[Lstsq::residuals], solved[Lstsq::state], cutoff, driver, s);
  return {solved[Lstsq::x], residuals, solved[Lstsq::rank], singular_values};
}

/// Solve for b (..., m, k) where the batch dimensions broadcast. What shares a matrix is solved side by side, so that
/// each is factorised once.
std::vector<mx::array> solve_broadcast(
    const mx::array& a, const mx::array& b, Cutoff cutoff, Driver driver, mx::Stream s) {
  const int ndim = static_cast<int>(std::max(a.ndim(), b.ndim()));
  const mx::array matrices = padded(a, ndim, s);
  const mx::array right = with_batch_of(matrices, 2, padded(b, ndim, s), 2, s);
  std::vector<int> shared;
  for (int axis = -ndim; axis < -2; ++axis) {
    if (matrices.shape(axis) != right.shape(axis)) shared.push_back(axis);
  }
  const auto solved = solve_of_one_batch(matrices, side_by_side(right, shared, s), cutoff, driver, s);
  return {apart(solved[0], right, shared, s),
          shared.empty() ? solved[1] : row_apart(solved[1], right, shared, s),
          with_batch_of(right, 2, solved[2], 0, s),
          with_batch_of(right, 2, solved[3], 1, s)};
}

/// A complex problem is solved as the real one that it is isomorphic to (gradient.cpp). It is differentiated as what it
/// is: in a compiled graph MLX has no way back from complex numbers to real ones.
std::vector<mx::array> solve_complex_on_gpu(const mx::array& a,
                                            const mx::array& b,
                                            const Cutoff& cutoff,
                                            mx::Stream s) {
  const auto parts_of = [s](const mx::array& array) {
    const auto constant = mx::stop_gradient(array, s);
    return std::pair{mx::real(constant, s), mx::imag(constant, s)};
  };
  const auto [a_re, a_im] = parts_of(a);
  const auto [b_re, b_im] = parts_of(b);
  const auto above = mx::concatenate({a_re, mx::negative(a_im, s)}, -1, s);
  const auto matrix = mx::concatenate({above, mx::concatenate({a_im, a_re}, -1, s)}, -2, s);
  auto solved = gpu::solve(matrix, mx::concatenate({b_re, b_im}, -2, s), cutoff.of_real_problem(), s);
  const auto halves = mx::split(solved[0], 2, -2, s);
  const auto i = mx::array(mx::complex64_t{0, 1});
  const auto re = mx::astype(halves[0], mx::complex64, s), im = mx::astype(halves[1], mx::complex64, s);
  const auto x = mx::add(re, mx::multiply(im, i, s), s);
  return gpu::answered(a, b, {x, solved[1], mx::floor_divide(solved[2], mx::array(2), s)}, cutoff, s);
}

/// Solve where a and b have one batch, on the GPU. The singular values are found on the CPU, if they are read.
std::vector<mx::array> solve_on_gpu(const mx::array& a, const mx::array& b, const Cutoff& cutoff, mx::Stream s) {
  const bool is_vector = b.ndim() == 1;
  const mx::array columns = is_vector ? mx::expand_dims(b, -1, s) : b;
  auto solved =
      a.dtype() == mx::complex64 ? solve_complex_on_gpu(a, columns, cutoff, s) : gpu::solve(a, columns, cutoff, s);
  if (is_vector) solved[0] = mx::squeeze(solved[0], -1, s);
  const mx::Stream of_cpu = mx::default_stream(mx::Device::cpu);
  const auto values = lstsq_node(a, b, cutoff, Driver::automatic, of_cpu);
  return {solved[0], solved[1], solved[2], singular_values_node(a, values, Driver::automatic, of_cpu)};
}

}  // namespace

std::vector<mx::array> lstsq(const mx::array& a,
                             const mx::array& b,
                             double rcond,
                             const std::string& driver_name,
                             std::int64_t growth,
                             mx::StreamOrDevice stream) {
  const Cutoff cutoff{rcond, growth};
  check_operands(a, b, cutoff);
  const Driver driver = driver_named(driver_name);
  if (const auto s = gpu_stream(a, b, driver, stream)) return solve_on_gpu(a, b, cutoff, *s);
  const mx::Stream s = cpu_stream(stream);
  if (b.ndim() == 1 && a.ndim() > 2) {
    auto solved = solve_broadcast(a, mx::expand_dims(b, -1, s), cutoff, driver, s);
    solved[0] = mx::squeeze(solved[0], -1, s);
    return solved;
  }
  const bool of_one_batch =
      b.ndim() == 1 || (a.ndim() == b.ndim() && std::equal(a.shape().begin(), a.shape().end() - 2, b.shape().begin()));
  return of_one_batch ? solve_of_one_batch(a, b, cutoff, driver, s) : solve_broadcast(a, b, cutoff, driver, s);
}

bool runs_on_gpu(const mx::array& a, const mx::array& b, const std::string& driver_name, mx::StreamOrDevice stream) {
  check_operands(a, b, {.rcond = 0, .growth = 1});
  return gpu_stream(a, b, driver_named(driver_name), stream).has_value();
}

std::vector<mx::array> lstsq_node(
    const mx::array& a, const mx::array& b, Cutoff cutoff, Driver driver, mx::Stream stream) {
  const auto primitive = std::make_shared<Lstsq>(stream, cutoff, driver);
  const auto shapes = primitive->output_shapes({a, b});
  std::vector<mx::Dtype> dtypes{a.dtype(), real_dtype(a.dtype()), mx::int32, mx::int32, mx::int32};
  dtypes.resize(shapes.size(), mx::float64);
  return mx::array::make_arrays(shapes, dtypes, primitive, {a, b});
}

// ---------------------------------------------------------------------------------------------------------------------
// The primitive
// ---------------------------------------------------------------------------------------------------------------------

std::vector<mx::Shape> Lstsq::output_shapes(const std::vector<mx::array>& inputs) {
  const auto &a = inputs[0], &b = inputs[1];
  // What the caller gives was checked. Here come, too, the shapes with which a graph without shapes runs again.
  const bool vector = b.ndim() == 1;
  if ((!vector && a.ndim() != b.ndim()) || a.size() == 0 || b.size() == 0 ||
      !std::equal(a.shape().begin(), a.shape().end() - 1, b.shape().begin())) {
    std::ostringstream message;
    message << "[lstsq] got a of shape " << a.shape() << " and b of shape " << b.shape()
            << " in a function that was compiled with shapeless=True; expected as many rows in b as in a, no dimension "
               "of 0, and batch dimensions of the kind that it was traced with, 1 where one was 1. Compile it with "
               "shapeless=False, which traces it for each shape.";
    throw std::invalid_argument(message.str());
  }
  check_limits_of(a, b, cutoff_, driver_);
  const auto [m, n, k] = problem_of(a, b);
  const Int narrow = std::min(m, n);
  const mx::Shape batch(a.shape().begin(), a.shape().end() - 2);
  const auto with = [&batch](const std::vector<Int>& sizes) {
    mx::Shape shape = batch;
    for (Int size : sizes) shape.push_back(mx::safe_cast(size, "lstsq"));
    return shape;
  };
  const bool is_complex = a.dtype() == mx::complex64;
  std::vector<mx::Shape> shapes{vector ? with({n}) : with({n, k}),
                                with({k}),
                                batch,
                                batch,
                                batch,
                                with(spectrum_shape(driver_, narrow, is_complex))};
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
                           reinterpret_cast<State*>(out[3].data<std::int32_t>()),
                           out[4].data<std::int32_t>(),
                           out[5].data<double>(),
                           out.size() > Lstsq::precise ? out[Lstsq::precise].data<double>() : nullptr};
  if (certifies(driver)) {
    solve_certified<T>(driver, rcond, problem, batch<T>(a), batch<T>(b), outputs);
  } else {
    solve_batch<T>(driver, rcond, problem, batch<T>(a), batch<T>(b), outputs);
  }
}

}  // namespace

void Lstsq::eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) {
  run_on_cpu(stream(),
             inputs,
             outputs,
             [driver = driver_, cutoff = cutoff_](const std::vector<mx::array>& in, std::vector<mx::array>& out) {
               const auto &a = in[0], &b = in[1];
               const Problem problem = problem_of(a, b);
               with_type(a.dtype(), [&]<class T>() { run<T>(driver, cutoff.of(problem), problem, a, b, out); });
             });
}

// ---------------------------------------------------------------------------------------------------------------------
// Mapping
// ---------------------------------------------------------------------------------------------------------------------

std::pair<std::vector<mx::array>, std::vector<int>> Lstsq::vmap(const std::vector<mx::array>& inputs,
                                                                const std::vector<int>& axes) {
  const mx::Stream s = stream();
  const bool vector = inputs[1].ndim() == (axes[1] < 0 ? 1 : 2);
  mx::array b = at_front(inputs[1], axes[1], s);
  if (vector) b = mx::expand_dims(b, -1, s);
  std::vector<mx::array> mapped;
  if (axes[0] < 0) {
    // One matrix for many right-hand sides: side by side, so that a is factorised once.
    const std::vector<int> first{-static_cast<int>(b.ndim())};
    mapped = lstsq_node(mx::expand_dims(inputs[0], 0, s), side_by_side(b, first, s), cutoff_, driver_, s);
    mapped[0] = apart(mapped[0], b, first, s);
    mapped[1] = row_apart(mapped[1], b, first, s);
    for (int of_matrix : {rank, state, exponent, spectrum}) {
      mapped[of_matrix] = repeated(mx::squeeze(mapped[of_matrix], 0, s), b, s);
    }
    if (mapped.size() > precise) mapped[precise] = apart(mapped[precise], b, first, s);
  } else {
    const mx::array a = at_front(inputs[0], axes[0], s);
    mapped = lstsq_node(a, axes[1] < 0 ? repeated(b, a, s) : b, cutoff_, driver_, s);
  }
  if (vector) mapped[0] = mx::squeeze(mapped[0], -1, s);
  return {mapped, std::vector<int>(mapped.size(), 0)};
}

}  // namespace lstsq_mlx
