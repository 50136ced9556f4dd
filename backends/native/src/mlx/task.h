// Work for the threads of MLX's CPU streams: outputs are allocated here, and what fails there is told as NaN.
//
// Memory may be refused at any time, by `ulimit -v` or a batch system. In the caller's thread that is an exception,
// which Python sees as MemoryError. In the stream's thread it is too late for one: MLX would raise it as a RuntimeError
// from whatever the caller evaluates next, it needs memory to do so, and it would leave the outputs as they are, with
// numbers in them that nobody computed.

#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include "arrays.h"
#include "kernels/pool.h"
#include "mlx/allocator.h"
#include "mlx/array.h"
#include "mlx/backend/cpu/encoder.h"

namespace lstsq_mlx {

/// Memory for an output. MLX's allocator returns null where memory is refused.
inline void allocate(mlx::core::array& out) {
  auto data = mlx::core::allocator::malloc(out.nbytes());
  if (data.buffer().ptr() == nullptr && out.nbytes() > 0) throw std::bad_alloc();
  out.set_data(std::move(data));
}

/// The output of a task that failed: NaN, and a rank of 0.
inline void fill_with_nan(mlx::core::array& out) {
  const auto fill = [&]<class T>(T value) { std::fill_n(out.data<T>(), out.size(), value); };
  switch (out.dtype()) {
    case mlx::core::float32:
      return fill(not_a_number<float>());
    case mlx::core::float64:
      return fill(not_a_number<double>());
    case mlx::core::complex64:
      return fill(mlx::core::complex64_t(not_a_number<std::complex<float>>()));
    default:
      return fill(std::int32_t{0});
  }
}

/// What a stream's thread is to do, without the GIL. MLX keeps the memory of inputs and outputs until it is done.
template <class Run>
struct Task {
  Run run;
  std::vector<mlx::core::array> inputs, outputs;

  void perform() {
    kernels::prepare_for_exceptions();
    try {
      run(std::as_const(inputs), outputs);
    } catch (...) {
      for (auto& output : outputs) fill_with_nan(output);
    }
  }
};

/// Allocates the outputs and has run(inputs, outputs) done by the stream's thread.
template <class Run>
void dispatch(mlx::core::Stream stream,
              const std::vector<mlx::core::array>& inputs,
              std::vector<mlx::core::array> outputs,
              Run run) {
  auto& encoder = mlx::core::cpu::get_command_encoder(stream);
  auto task = std::make_unique<Task<Run>>(std::move(run));
  for (const auto& input : inputs) {
    encoder.set_input_array(input);
    task->inputs.push_back(mlx::core::array::unsafe_weak_copy(input));
  }
  for (auto& output : outputs) {
    allocate(output);
    encoder.set_output_array(output);
    task->outputs.push_back(mlx::core::array::unsafe_weak_copy(output));
  }
  // MLX counts a task as active before it has found memory for it, and waits for ever for one that never ran. A closure
  // of one pointer needs none. Whether MLX has the closure when it throws nobody knows: the task is leaked then.
  encoder.dispatch([task = task.release()] { std::unique_ptr<Task<Run>>(task)->perform(); });
}

}  // namespace lstsq_mlx
