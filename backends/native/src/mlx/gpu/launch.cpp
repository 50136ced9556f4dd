#include "launch.h"

#include <bit>
#include <map>
#include <mutex>
#include <utility>

#include "mlx/backend/cuda/cuda.h"
#include "mlx/fast.h"
#include "mlx/primitives.h"

namespace lstsq_mlx::gpu {

namespace {

/// Of all threads that evaluate.
std::mutex mutex;
std::string folder;
Int limit = 0;

/// A kernel of MLX takes arrays and no numbers, but it is told their shapes: the numbers are the shape of an array that
/// nobody reads. No dimension may be 0: each is one more than the number. The last four are the bits of `rcond`.
constexpr int parts = 4, bits_of_part = 16;

const std::string beginning = R"(
#define KERNEL(threads) __device__ void
#define LSTSQ_REAL float
)";

const std::string calls = R"(
#define size(i) (sizes_shape[i + 4] - 1)
#define part(i) ((long long)(sizes_shape[i] - 1) << (16 * i))
#define rcond __longlong_as_double(part(0) | part(1) | part(2) | part(3))
)";

mx::array array_of(const std::vector<Int>& sizes, double rcond, const mx::array& memory) {
  const auto bits = std::bit_cast<std::uint64_t>(rcond);
  mx::Shape shape;
  for (int i = 0; i < parts; ++i) {
    shape.push_back(1 + static_cast<int>(bits >> (bits_of_part * i) & ((1 << bits_of_part) - 1)));
  }
  for (Int size : sizes) shape.push_back(1 + mx::safe_cast(size, "lstsq"));
  mx::array array(shape, mx::bool_, nullptr, {});
  array.copy_shared_buffer(memory, mx::Strides(shape.size(), 0), {true, true, true}, 1);
  return array;
}

/// A block may share 48 kB without asking for it. For more MLX asks when it launches a kernel for the first time, and
/// never again: the size is one of a few, each of which has a kernel of its own.
struct SharedMemory {
  Int bytes;
  std::string name;

  explicit SharedMemory(Int wanted) : bytes(round_up(wanted, 1024)) {
    if (bytes <= 48000) return;
    for (Int of_class : {64, 99, 163, 227}) {
      if (1024 * of_class < bytes) continue;
      bytes = 1024 * of_class;
      name = std::to_string(of_class) + "kB";
      return;
    }
  }

  static Int round_up(Int value, Int unit) { return (value + unit - 1) / unit * unit; }
};

/// MLX hashes the text of a kernel at each launch: lines for files take less time than their thousand lines.
std::string text_of(const Kernel& kernel) {
  std::string text = beginning + kernel.definitions;
  for (const auto& file : kernel.files) text += "#include \"" + folder + "/" + file + ".cu\"\n";
  return text + calls;
}

mx::fast::CustomKernelFunction make(const Kernel& kernel, const SharedMemory& shared) {
  auto inputs = kernel.inputs;
  inputs.push_back("sizes");
  return mx::fast::cuda_kernel("lstsq_" + kernel.name + shared.name,
                               inputs,
                               kernel.outputs,
                               kernel.body + "  // sizes_shape",
                               text_of(kernel),
                               /*ensure_row_contiguous=*/true,
                               static_cast<int>(shared.bytes));
}

mx::fast::CustomKernelFunction& function(const Kernel& kernel, const SharedMemory& shared) {
  static auto& known = *new std::map<std::pair<std::string, Int>, mx::fast::CustomKernelFunction>();
  const auto key = std::pair{kernel.name, shared.bytes};
  const auto found = known.find(key);
  return found != known.end() ? found->second : known.emplace(key, make(kernel, shared)).first->second;
}

}  // namespace

bool is_available() {
  static const bool has_gpu = mx::cu::is_available();
  return has_gpu && !folder.empty();
}

void set_kernels(std::string folder_of_kernels, Int shared_limit) {
  const std::lock_guard lock(mutex);
  folder = std::move(folder_of_kernels);
  limit = shared_limit;
}

Int shared_limit() {
  return limit;
}

void launch(const Kernel& kernel,
            const Grid& grid,
            const std::vector<mx::array>& inputs,
            std::vector<mx::array> outputs,
            const std::vector<Int>& sizes,
            double rcond,
            mx::Stream stream) {
  auto given = inputs;
  given.push_back(array_of(sizes, rcond, inputs[0]));
  std::vector<mx::Shape> shapes;
  std::vector<mx::Dtype> dtypes;
  for (const auto& output : outputs) {
    shapes.push_back(output.shape());
    dtypes.push_back(output.dtype());
  }
  const std::lock_guard lock(mutex);
  // The node is never part of a graph: what evaluates it is called at once.
  const auto nodes =
      function(kernel, SharedMemory(grid.shared))(given,
                                                  shapes,
                                                  dtypes,
                                                  {mx::safe_cast(grid.blocks * grid.threads, "lstsq"), 1, 1},
                                                  {mx::safe_cast(grid.threads, "lstsq"), 1, 1},
                                                  {},
                                                  std::nullopt,
                                                  false,
                                                  stream);
  nodes[0].primitive().eval_gpu(given, outputs);
}

std::vector<Int> Chain::with(const std::vector<Int>& more) const {
  std::vector<Int> sizes = sizes_;
  sizes.insert(sizes.end(), more.begin(), more.end());
  return sizes;
}

void Chain::begin(const Kernel& kernel,
                  const Grid& grid,
                  const std::vector<mx::array>& inputs,
                  const std::vector<Int>& more) {
  launch(kernel, grid, inputs, {memory_}, with(more), rcond_, stream_);
}

void Chain::then(const Kernel& kernel,
                 const Grid& grid,
                 const std::vector<Int>& more,
                 const std::vector<mx::array>& inputs) {
  mx::array done({1}, mx::int32, nullptr, {});
  auto given = inputs;
  given.insert(given.end(), {memory_, before_});
  launch(kernel, grid, given, {done}, with(more), rcond_, stream_);
  before_ = done;
}

void Chain::end(const Kernel& kernel,
                const Grid& grid,
                const std::vector<Int>& more,
                const std::vector<mx::array>& outputs) {
  launch(kernel, grid, {memory_, before_}, outputs, with(more), rcond_, stream_);
}

}  // namespace lstsq_mlx::gpu
