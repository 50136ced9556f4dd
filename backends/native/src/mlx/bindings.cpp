// The extension module: the operation, and LAPACK handed in.

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>
#include <string>

#include "lapack/lapack.h"
#include "mlx/version.h"
#include "operation.h"
#include "tracing.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

/// The address in a capsule such as those in scipy.linalg.cython_lapack.__pyx_capi__, whose names are signatures.
void* address(nb::handle capsule) {
  const char* name = PyCapsule_GetName(capsule.ptr());
  void* pointer = PyCapsule_GetPointer(capsule.ptr(), name);
  if (pointer == nullptr) throw nb::python_error();
  return pointer;
}

void load_lapack(const nb::dict& lapack, const nb::dict& blas) {
  lstsq_mlx::lapack::load([&](const std::string& library, const char* routine) {
    const nb::dict& capsules = library == "lapack" ? lapack : blas;
    if (!capsules.contains(routine)) {
      throw std::runtime_error("scipy.linalg.cython_" + library + " has no routine " + routine);
    }
    return address(capsules[routine]);
  });
}

nb::tuple solve(const mlx::core::array& a,
                const mlx::core::array& b,
                double rcond,
                const std::string& driver,
                std::int64_t growth) {
  auto answer = lstsq_mlx::lstsq(a, b, rcond, driver, growth);
  return nb::make_tuple(std::move(answer[0]), std::move(answer[1]), std::move(answer[2]), std::move(answer[3]));
}

}  // namespace

NB_MODULE(_core, module) {
  module.doc() = "Least squares on MLX arrays, by SciPy's LAPACK. Private: use lstsq.lstsq.";
  module.attr("MLX_VERSION") = std::to_string(MLX_VERSION_MAJOR) + "." + std::to_string(MLX_VERSION_MINOR) + "." +
                               std::to_string(MLX_VERSION_PATCH);
  module.def("load_lapack",
             &load_lapack,
             "lapack"_a,
             "blas"_a,
             "Take LAPACK and BLAS from dicts of capsules, as scipy.linalg.cython_lapack.__pyx_capi__ is one.");
  module.def(
      "lapack_integer_bits",
      [] { return lstsq_mlx::lapack::largest_integer() > INT32_MAX ? 64 : 32; },
      "The width of the integers of the LAPACK that was loaded.");
  module.def("is_tracer",
             &lstsq_mlx::is_tracer,
             "array"_a,
             "Whether the array depends on an argument of a transformation that is being traced.");
  module.def("in_shapeless_trace", &lstsq_mlx::in_shapeless_trace, "Whether mx.compile(shapeless=True) is tracing.");
  module.def(
      "lstsq",
      &solve,
      "a"_a,
      "b"_a,
      "rcond"_a,
      "driver"_a,
      "growth"_a = 1,
      "x, residuals, rank and s of a (..., M, N) and b (..., M, K) or (M,), of one floating dtype. A singular value "
      "is zero iff s <= rcond * min(max(M, N), growth) * s_max.");
}
