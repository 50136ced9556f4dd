// The extension module: the operation, and LAPACK handed in.

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <string>

#include "gpu/launch.h"
#include "lapack/capsules.h"
#include "mlx/backend/cuda/cuda.h"
#include "mlx/version.h"
#include "operation.h"
#include "tracing.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

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
  ::lstsq::lapack::define_loading(module);
  module.def("is_tracer",
             &lstsq_mlx::is_tracer,
             "array"_a,
             "Whether the array depends on an argument of a transformation that is being traced.");
  module.def("in_shapeless_trace", &lstsq_mlx::in_shapeless_trace, "Whether mx.compile(shapeless=True) is tracing.");
  module.def("has_cuda", &mlx::core::cu::is_available, "Whether MLX has a GPU for CUDA.");
  module.def("set_kernels",
             &lstsq_mlx::gpu::set_kernels,
             "folder"_a,
             "shared_limit"_a,
             "The folder of the kernels for CUDA, and the bytes that the threads of a block may share.");
  module.def(
      "runs_on_gpu",
      [](const mlx::core::array& a, const mlx::core::array& b, const std::string& driver) {
        return lstsq_mlx::runs_on_gpu(a, b, driver);
      },
      "a"_a,
      "b"_a,
      "driver"_a,
      "Whether `lstsq` would solve this on the GPU, in the context of this call.");
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
