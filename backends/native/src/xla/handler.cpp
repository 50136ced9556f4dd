// What XLA calls on the CPU, from threads of its own and without the GIL: buffers in rows, and everything solved at
// once.
//
// The interface is XLA's one in C. Of its structures only those parts are used that its oldest version has. So the
// headers of any jaxlib do, and an older jaxlib takes the handler as well as a newer one. (XLA's interface in C++
// asks for the version of its own headers, and writes into structures as large as theirs.)

#include "handler.h"

#include <xla/ffi/api/c_api.h>

#include <algorithm>
#include <cfenv>
#include <functional>
#include <new>
#include <numeric>
#include <stdexcept>
#include <string>

#include "kernels/pool.h"
#include "lapack/at_once.h"

namespace lstsq_xla {

namespace {

using namespace ::lstsq::drivers;
using ::lstsq::kernels::prepare_for_exceptions;

/// All that is used here is in version 0.1 of the interface.
constexpr int oldest_minor_version = 1;

/// The operands and the results of one call, which the module's docstring describes.
struct Call {
  const XLA_FFI_Buffer &a, &b, &rcond;
  const XLA_FFI_Buffer &x, &residuals, &rank;
  const XLA_FFI_Buffer* s;  ///< or null: not wanted
};

const XLA_FFI_Buffer& buffer(void* argument) {
  return *static_cast<const XLA_FFI_Buffer*>(argument);
}

Call call_of(const XLA_FFI_CallFrame& frame) {
  const XLA_FFI_Args& args = frame.args;
  const XLA_FFI_Rets& rets = frame.rets;
  if (args.size != 3 || rets.size < 3 || rets.size > 4) {
    throw std::invalid_argument("[lstsq] expected three operands and three or four results.");
  }
  return {buffer(args.args[0]),
          buffer(args.args[1]),
          buffer(args.args[2]),
          buffer(rets.rets[0]),
          buffer(rets.rets[1]),
          buffer(rets.rets[2]),
          rets.size == 4 ? &buffer(rets.rets[3]) : nullptr};
}

/// Whether the buffer is a batch of this shape, each element of these sizes; `repeats` allows sizes of 1 in the batch.
bool has_shape(const XLA_FFI_Buffer& buffer,
               const XLA_FFI_Buffer& batch,
               std::initializer_list<Int> sizes,
               bool repeats) {
  if (buffer.rank != batch.rank + static_cast<Int>(sizes.size())) return false;
  for (Int axis = 0; axis < batch.rank; ++axis) {
    if (buffer.dims[axis] != batch.dims[axis] && !(repeats && buffer.dims[axis] == 1)) return false;
  }
  return std::equal(sizes.begin(), sizes.end(), buffer.dims + batch.rank);
}

/// Throw for shapes and dtypes other than those that the module's docstring names.
Problem check(const Call& call, XLA_FFI_DataType type, XLA_FFI_DataType real) {
  const XLA_FFI_Buffer& batch = call.rank;
  if (call.a.rank >= 2 && call.b.rank >= 2) {
    const Problem p{call.a.dims[call.a.rank - 2], call.a.dims[call.a.rank - 1], call.b.dims[call.b.rank - 1]};
    const bool right = has_shape(call.a, batch, {p.m, p.n}, true) && has_shape(call.b, batch, {p.m, p.k}, true) &&
                       has_shape(call.rcond, batch, {}, true) && has_shape(call.x, batch, {p.n, p.k}, false) &&
                       has_shape(call.residuals, batch, {p.k}, false) &&
                       (!call.s || has_shape(*call.s, batch, {p.smallest()}, false)) && call.b.dtype == type &&
                       call.x.dtype == type && call.residuals.dtype == real && (!call.s || call.s->dtype == real) &&
                       call.rank.dtype == XLA_FFI_DataType_S32 &&
                       (call.rcond.dtype == XLA_FFI_DataType_F32 || call.rcond.dtype == XLA_FFI_DataType_F64);
    if (right) return p;
  }
  throw std::invalid_argument("[lstsq] expected other shapes or dtypes. Call lstsq.lstsq.");
}

/// Where the elements of an operand lie, in each of which there are `size` numbers.
Places places(const XLA_FFI_Buffer& operand, const XLA_FFI_Buffer& batch, Int size) {
  Places found;
  for (Int axis = 0; axis < batch.rank; ++axis) {
    Int stride = size;
    for (Int inner = axis + 1; inner < batch.rank; ++inner) stride *= operand.dims[inner];
    found.add_axis(batch.dims[axis], operand.dims[axis] == 1 ? 0 : stride);
  }
  return found;
}

template <class T>
Batch<T> batch_of(const XLA_FFI_Buffer& operand, const XLA_FFI_Buffer& batch, Int rows, Int cols) {
  return {MatrixView<T>{static_cast<const T*>(operand.data), rows, cols, cols, 1}, places(operand, batch, rows * cols)};
}

/// The elements from this one on.
template <class T>
Answers<T> answers_from(Int element, const Call& call, const Problem& p) {
  using Real = RealOf<T>;
  return {static_cast<T*>(call.x.data) + element * p.n * p.k,
          static_cast<Real*>(call.residuals.data) + element * p.k,
          static_cast<std::int32_t*>(call.rank.data) + element,
          call.s == nullptr ? nullptr : static_cast<Real*>(call.s->data) + element * p.smallest()};
}

template <class T>
void solve_batch_at_once(
    double rcond, const Problem& p, const Batch<T>& as, const Batch<T>& bs, const Answers<T>& answers) {
  if (rcond >= 0) {
    check_limits<T>(p, rcond, Driver::automatic);
    // Where there is no answer, the answers say so.
    solve_at_once<T>(Driver::automatic, rcond, p, as, bs, answers);
    return;
  }
  // It is NaN, which was not seen while it was traced.
  const Int count = as.count();
  std::fill_n(answers.x, count * p.n * p.k, not_a_number<T>());
  std::fill_n(answers.residuals, count * p.k, not_a_number<RealOf<T>>());
  std::fill_n(answers.rank, count, 0);
  if (answers.s != nullptr) std::fill_n(answers.s, count * p.smallest(), not_a_number<RealOf<T>>());
}

template <class T>
void solve_as(const Call& call, XLA_FFI_DataType real) {
  const Problem p = check(call, call.a.dtype, real);
  const Batch<T> as = batch_of<T>(call.a, call.rank, p.m, p.n), bs = batch_of<T>(call.b, call.rank, p.m, p.k);
  const Int count = as.count();
  if (count == 0 || p.m == 0 || p.n == 0 || p.k == 0) {
    throw std::invalid_argument("[lstsq] expected no dimension of 0. Call lstsq.lstsq, which takes these.");
  }
  const auto entry = [&](Int i) -> double {
    if (call.rcond.dtype == XLA_FFI_DataType_F32) return static_cast<const float*>(call.rcond.data)[i];
    return static_cast<const double*>(call.rcond.data)[i];
  };
  const Int entries = std::accumulate(call.rcond.dims, call.rcond.dims + call.rcond.rank, Int{1}, std::multiplies<>());
  Int same = 1;
  while (same < entries && entry(same) == entry(0)) ++same;
  if (same == entries) return solve_batch_at_once<T>(entry(0), p, as, bs, answers_from<T>(0, call, p));
  // Mapped over the cutoff: each matrix by itself.
  const Places cutoffs = places(call.rcond, call.rank, 1);
  for (Int i = 0; i < count; ++i) {
    const Batch<T> one_a(as[i], Places()), one_b(bs[i], Places());
    solve_batch_at_once<T>(entry(cutoffs[i]), p, one_a, one_b, answers_from<T>(i, call, p));
  }
}

void solve(const Call& call) {
  switch (call.a.dtype) {
    case XLA_FFI_DataType_F32:
      return solve_as<float>(call, XLA_FFI_DataType_F32);
    case XLA_FFI_DataType_F64:
      return solve_as<double>(call, XLA_FFI_DataType_F64);
    case XLA_FFI_DataType_C64:
      return solve_as<std::complex<float>>(call, XLA_FFI_DataType_F32);
    case XLA_FFI_DataType_C128:
      return solve_as<std::complex<double>>(call, XLA_FFI_DataType_F64);
    default:
      throw std::invalid_argument("[lstsq] expected float32, float64, complex64 or complex128. Call lstsq.lstsq.");
  }
}

/// XLA asks for the version of the interface before it takes a handler, and refuses one that is newer than its own.
/// With the question its oldest versions do not say which they are.
bool tell_version(const XLA_FFI_CallFrame& frame) {
  for (auto* extension = frame.extension_start; extension != nullptr; extension = extension->next) {
    if (extension->type != XLA_FFI_Extension_Metadata) continue;
    XLA_FFI_Metadata& metadata = *reinterpret_cast<XLA_FFI_Metadata_Extension*>(extension)->metadata;
    metadata.api_version.major_version = XLA_FFI_API_MAJOR;
    metadata.api_version.minor_version =
        frame.api == nullptr ? oldest_minor_version : std::min(XLA_FFI_API_MINOR, frame.api->api_version.minor_version);
    metadata.traits = 0;
    return true;
  }
  return false;
}

XLA_FFI_Error* error(const XLA_FFI_Api& api, XLA_FFI_Error_Code code, const char* message) {
  XLA_FFI_Error_Create_Args args{XLA_FFI_Error_Create_Args_STRUCT_SIZE, nullptr, message, code};
  return api.XLA_FFI_Error_Create(&args);
}

/// XLA has its threads take subnormal numbers for zero. Ours do not, nor does this one while it works with them.
class UsualArithmetic {
 public:
  UsualArithmetic() {
    std::fegetenv(&before_);
    std::fesetenv(FE_DFL_ENV);
  }
  ~UsualArithmetic() { std::fesetenv(&before_); }
  UsualArithmetic(const UsualArithmetic&) = delete;
  UsualArithmetic& operator=(const UsualArithmetic&) = delete;

 private:
  std::fenv_t before_;
};

/// Nothing may be thrown through XLA.
XLA_FFI_Error* handle(XLA_FFI_CallFrame* frame) noexcept {
  if (tell_version(*frame)) return nullptr;
  prepare_for_exceptions();
  const UsualArithmetic usual;
  try {
    solve(call_of(*frame));
    return nullptr;
  } catch (const std::bad_alloc&) {
    return error(*frame->api, XLA_FFI_Error_Code_RESOURCE_EXHAUSTED, "[lstsq] there is not enough memory.");
  } catch (const std::exception& exception) {
    return error(*frame->api, XLA_FFI_Error_Code_INVALID_ARGUMENT, exception.what());
  }
}

}  // namespace

void define_handler(nanobind::module_& module) {
  module.def(
      "xla_handler",
      [] { return nanobind::capsule(reinterpret_cast<void*>(&handle)); },
      "The handler for XLA's FFI on the CPU, in a capsule. Its operands are a (..., M, N) and b (..., M, K), of one "
      "floating dtype, and rcond (...), float32 or float64; batch dimensions of 1 repeat, and none is 0. Its results "
      "are x, residuals, rank (int32) and, where it is called for four of them, s.");
}

}  // namespace lstsq_xla
