// Primitives that work on the CPU alone: what they have in common, and their work for the threads of MLX's CPU streams.
// Outputs are allocated here, and what fails there is told as NaN.
//
// Memory may be refused at any time, by `ulimit -v` or a batch system. In the caller's thread that is an exception,
// which Python sees as MemoryError. In the stream's thread it is too late for one: MLX would raise it as a RuntimeError
// from whatever the caller evaluates next, it needs memory to do so, and it would leave the outputs as they are, with
// numbers in them that nobody computed.

#pragma once

#include <algorithm>
#include <complex>
#include <cstdint>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "arrays.h"
#include "kernels/pool.h"
#include "mlx/allocator.h"
#include "mlx/array.h"
#include "mlx/backend/cpu/encoder.h"
#include "mlx/primitives.h"

namespace lstsq_mlx {

/// Nothing here runs on a GPU: LAPACK does not, and there is no double precision.
[[noreturn]] inline void refuse_gpu(const char* name) {
  throw std::runtime_error(std::string("[lstsq] ") + name + " runs on the CPU, and was moved to a stream of the GPU.");
}

class CpuPrimitive : public mx::Primitive {
 public:
  using Primitive::Primitive;
  void eval_gpu(const std::vector<array>&, std::vector<array>&) final { refuse_gpu(name()); }
};

/// One of a single output.
class UnaryCpuPrimitive : public mx::UnaryPrimitive {
 public:
  using UnaryPrimitive::UnaryPrimitive;
  void eval_gpu(const std::vector<array>&, array&) final { refuse_gpu(name()); }
};

/// Calls work.operator()<T>() with the type that stands for this dtype: float, double or std::complex<float>.
template <class Work>
void with_type(mx::Dtype dtype, const Work& work) {
  switch (dtype) {
    case mx::float32:
      return work.template operator()<float>();
    case mx::float64:
      return work.template operator()<double>();
    default:
      return work.template operator()<std::complex<float>>();
  }
}

/// Memory for an output. MLX's allocator returns null where memory is refused.
inline void allocate(mx::array& out) {
  auto data = mx::allocator::malloc(out.nbytes());
  if (data.buffer().ptr() == nullptr && out.nbytes() > 0) throw std::bad_alloc();
  out.set_data(std::move(data));
}

/// The output of a task that failed: NaN, and a rank of 0.
inline void fill_with_nan(mx::array& out) {
  const auto fill = [&]<class T>(T value) { std::fill_n(out.data<T>(), out.size(), value); };
  switch (out.dtype()) {
    case mx::float32:
      return fill(not_a_number<float>());
    case mx::float64:
      return fill(not_a_number<double>());
    case mx::complex64:
      return fill(mx::complex64_t(not_a_number<std::complex<float>>()));
    default:
      return fill(std::int32_t{0});
  }
}

/// What a stream's thread is to do, without the GIL. MLX keeps the memory of inputs and outputs until it is done.
template <class Run>
struct Task {
  Run run;
  std::vector<mx::array> inputs, outputs;

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
void run_on_cpu(mx::Stream stream, const std::vector<mx::array>& inputs, std::vector<mx::array> outputs, Run run) {
  auto& encoder = mx::cpu::get_command_encoder(stream);
  auto task = std::make_unique<Task<Run>>(std::move(run));
  for (const auto& input : inputs) {
    encoder.set_input_array(input);
    task->inputs.push_back(mx::array::unsafe_weak_copy(input));
  }
  for (auto& output : outputs) {
    allocate(output);
    encoder.set_output_array(output);
    task->outputs.push_back(mx::array::unsafe_weak_copy(output));
  }
  // MLX counts a task as active before it has found memory for it, and waits for ever for one that never ran. A closure
  // of one pointer needs none. Whether MLX has the closure when it throws nobody knows: the task is leaked then.
  encoder.dispatch([task = task.release()] { std::unique_ptr<Task<Run>>(task)->perform(); });
}

}  // namespace lstsq_mlx
