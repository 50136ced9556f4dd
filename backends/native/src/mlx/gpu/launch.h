// Launches of CUDA kernels on MLX's arrays, through MLX's own way for custom kernels: it compiles them when they are
// first needed, and has them run in the order of what they read and write.

#pragma once

#include <string>
#include <vector>

#include "../arrays.h"
#include "mlx/array.h"
#include "mlx/utils.h"

namespace lstsq_mlx::gpu {

/// Whether MLX has a GPU for CUDA, and the kernels are known.
bool is_available();

/// The folder of the kernels, and the bytes that the threads of a block may share on this GPU. Before the first launch.
void set_kernels(std::string folder, Int shared_limit);
Int shared_limit();

/// A kernel, and how it is called.
struct Kernel {
  std::string name;                  ///< No other has it.
  std::vector<std::string> files;    ///< Its file in the folder, without the ending, after those that it needs.
  std::vector<std::string> inputs;   ///< As `body` calls them.
  std::vector<std::string> outputs;  ///< As `body` calls them.
  std::string body;                  ///< The call. It may use size(0), size(1), ... and the number `rcond`.
  std::string definitions = "";      ///< Lines of the preprocessor, for the text.
};

struct Grid {
  Int blocks, threads, shared;
};

/// Start the kernel. The outputs have no memory yet, and get it. The kernel runs after all that wrote to its inputs;
/// what it writes to an input is seen by those alone that run after it for another reason. `sizes` are at most six
/// numbers from 0 up.
void launch(const Kernel& kernel,
            const Grid& grid,
            const std::vector<mx::array>& inputs,
            std::vector<mx::array> outputs,
            const std::vector<Int>& sizes,
            double rcond,
            mx::Stream stream);

/// Kernels that work one after the other on one memory, an array. All are told the sizes of the problem first.
class Chain {
 public:
  Chain(const std::vector<Int>& sizes, double rcond, const mx::array& memory, mx::Stream stream)
      : sizes_(sizes), rcond_(rcond), memory_(memory), before_(memory), stream_(stream) {}

  /// The first, which has the memory for its output.
  void begin(const Kernel& kernel,
             const Grid& grid,
             const std::vector<mx::array>& inputs,
             const std::vector<Int>& more);
  /// Those that follow: their inputs end with the memory and what the kernel before said to be done; so they say.
  void then(const Kernel& kernel,
            const Grid& grid,
            const std::vector<Int>& more = {},
            const std::vector<mx::array>& inputs = {});
  /// The last, which has outputs of its own.
  void end(const Kernel& kernel, const Grid& grid, const std::vector<Int>& more, const std::vector<mx::array>& outputs);

 private:
  std::vector<Int> with(const std::vector<Int>& more) const;

  std::vector<Int> sizes_;
  double rcond_;
  mx::array memory_, before_;
  mx::Stream stream_;
};

}  // namespace lstsq_mlx::gpu
