#include "lstsq.h"

#include <numeric>
#include <stdexcept>

#include "../lstsq.h"
#include "../shapes.h"
#include "launch.h"
#include "mlx/ops.h"

namespace lstsq_mlx::gpu {

namespace {

// ---------------------------------------------------------------------------------------------------------------------
// Which kernels, and with how much of everything. The page on GPUs says what was measured.
// ---------------------------------------------------------------------------------------------------------------------

/// Columns of a matrix and right-hand sides up to which there are kernels: what is n x n fits into shared memory.
constexpr Int most_columns = 64, most_right_sides = 16;
/// Numbers of a matrix up to which one block of threads reads it alone.
constexpr Int most_of_a_block = 65536;
/// Columns and rows of a matrix that one thread solves with alone, and threads of a block of such.
constexpr Int tiny_columns = 8, tiny_rows = 64, tiny_team = 32;
/// Shared memory up to which several blocks run at the same time on a processor of the GPU.
constexpr Int crowded = 96 * 1024;
/// Rows that are reduced at once where the rank is in doubt (reveal.cu).
constexpr Int height = 32;
/// Blocks that share a long matrix, and how many rows are worth a block; and those that share what is left of it.
constexpr Int most_blocks = 528, rows_of_a_block = 256, most_parts = 132, parts_of_a_block = 12;
/// Threads of a block that is alone on its processor. Kernels of MLX may have no more, whatever they do.
constexpr Int most_threads = 256;
/// Steps of refinement (common.cu).
constexpr int steps = 6;

struct Plan : Sizes {
  using Sizes::Sizes;
  explicit Plan(const Sizes& sizes) : Sizes(sizes) {}

  Int threads() const { return n <= 16 ? 64 : n <= 32 ? 128 : most_threads; }

  Int shared_by_batch() const { return 8 * (3 * n * n + n + 3 * n * k + m * k + 4 * threads()); }
  Int shared_by_reveal() const {
    return 8 * (n * (n + k) + k + height * ((n + k) | 1) + 2 * n * (n | 1) + n + 3 * threads());
  }
  bool is_small() const { return m * n <= most_of_a_block && shared_by_batch() <= shared_limit(); }

  // A long matrix.
  Int across() const { return (n + k + 3) / 4; }
  Int tiles() const { return across() * (across() + 1) / 2; }
  Int entries() const { return n * k + 2 * k; }
  Int rows_each() const { return std::max(rows_of_a_block, (m + most_blocks - 1) / most_blocks); }
  Int blocks() const { return (m + rows_each() - 1) / rows_each(); }
  Int shared_by_gram() const { return 8 * (32 * 4 * across() + 16 * tiles() * (most_threads / tiles())); }
  Int shared_by_core() const { return 8 * (3 * n * n + n + 4 * most_threads); }
  Int shared_by_residual() const {
    const Int groups = std::max<Int>(1, most_threads / (n * k));
    return 8 * (n * k + 64 * k + groups * n * k + most_threads + 2 * k) + 4 * 64 * (n | 1);
  }
  Int shared_by_refine() const {
    return 8 * (std::max<Int>(1, most_threads / entries()) * entries() + entries() + n * k + most_threads);
  }
  Int part() const { return n * (n + k) + k; }
  /// Rows that a block reduces where there is no proof.
  Int rows_of_part() const { return std::max(rows_of_a_block, (m + most_parts - 1) / most_parts); }
  Int parts() const { return (m + rows_of_part() - 1) / rows_of_part(); }
  Int fewer_parts() const { return (parts() + parts_of_a_block - 1) / parts_of_a_block; }
  /// Doubles of the memory that the kernels for a long matrix share; see `layout`.
  Int work() const {
    const Int found = 1 + (n * k + k + 1) / 2;
    const Int before_pieces = 8 + n + n * n + n * k + 2 * k + (n + k) * (n + k);
    const Int pieces = blocks() * std::max(16 * tiles(), entries());
    return found + before_pieces + std::max(pieces, (parts() + fewer_parts()) * part());
  }
  Int most_shared_by_long() const {
    return std::max(std::max(shared_by_gram(), shared_by_core()),
                    std::max({shared_by_residual(), shared_by_refine(), shared_by_reveal()}));
  }
};

// ---------------------------------------------------------------------------------------------------------------------
// The kernels
// ---------------------------------------------------------------------------------------------------------------------

/// Where the answers of a batch are before the rank is known of all of them: x, the sums of squares, the rank.
const std::string of_batch = R"(
  int count = size(0), m = size(1), n = size(2), k = size(3);
  float *x_found = const_cast<float*>(work), *squares_found = x_found + (long long)count * n * k;
  int* rank_found = reinterpret_cast<int*>(squares_found + (long long)count * k);
)";

const Kernel solve_batch{
    "solve_batch",
    "batch",
    {"a", "b"},
    {"work"},
    of_batch + "::solve_batch(a, b, x_found, squares_found, rank_found, nullptr, m, n, k, rcond, size(4));"};

const Kernel reveal_batch{"reveal_batch",
                          "reveal",
                          {"a", "b", "work"},
                          {"x", "squares", "rank"},
                          of_batch +
                              "::reveal_batch(a, b, x_found, squares_found, rank_found, x, squares, rank, "
                              "count, m, n, k, rcond, size(4));"};

Kernel solve_tiny(Int columns) {
  const std::string n = std::to_string(columns);
  return {"solve_tiny_" + n,
          "tiny",
          {"a", "b"},
          {"work"},
          of_batch + "::solve_tiny_" + n +
              "(a, b, x_found, squares_found, rank_found, nullptr, count, m, k, rcond, size(4));",
          "#define LSTSQ_COLUMNS " + n + "\n"};
}

/// What the kernels for a long matrix have of the memory that they share: the status; x and the sums of squares, as
/// they are found; what long.cu calls work, and at its end pieces, or the parts of reveal.cu. A kernel that writes to
/// it says so by its output, of which nothing is read: whoever reads what it wrote takes that for an input.
const std::string layout = R"(
  int m = size(0), n = size(1), k = size(2);
  double* memory = const_cast<double*>(work);
  int* status = reinterpret_cast<int*>(memory);
  float *x_found = reinterpret_cast<float*>(memory + 1), *squares_found = x_found + n * k;
  memory += 1 + (n * k + k + 1) / 2;
)";

const Kernel gram{"gram", "long", {"a", "b"}, {"work"}, layout + "::gram(a, b, memory, m, n, k, size(3));"};

const Kernel add_pieces{
    "add_pieces", "long", {"work", "before"}, {"done"}, layout + "::add_pieces(memory, size(3), n, k);"};

const Kernel core{
    "core", "long", {"work", "before"}, {"done"}, layout + "::core(memory, status, n, k, double(size(3)), rcond);"};

const Kernel residual{
    "residual", "long", {"a", "b", "work", "before"}, {"done"}, layout + "::residual(a, b, memory, m, n, k, size(3));"};

const Kernel refine{"refine",
                    "long",
                    {"work", "before"},
                    {"done"},
                    layout + "::refine(memory, x_found, squares_found, status, size(3), m == n, n, k);"};

const std::string parts = layout + R"(
  double *parts = Work(memory, n, k).pieces, *fewer = parts + (long long)size(4) * (n * (n + k) + k);
)";

const Kernel absorb_rows{"absorb_rows",
                         "reveal",
                         {"a", "b", "work", "before"},
                         {"done"},
                         parts + "::absorb_rows(a, b, status, parts, m, n, k, size(3), size(5));"};

const Kernel absorb_parts{"absorb_parts",
                          "reveal",
                          {"work", "before"},
                          {"done"},
                          parts + "::absorb_parts(parts, status, fewer, size(4), n, k, size(3), size(5));"};

const Kernel reveal_parts{"reveal_parts",
                          "reveal",
                          {"work", "before"},
                          {"x", "squares", "rank"},
                          parts +
                              "::reveal_parts(fewer, status, x_found, squares_found, x, squares, rank, size(3), "
                              "n, k, rcond, size(5));"};

void launch_batch(const Plan& p,
                  double rcond,
                  const std::vector<mx::array>& inputs,
                  const std::vector<mx::array>& out,
                  mx::Stream stream) {
  const mx::array& work = out[Lstsq::work];
  const Int wide_copy = 4 * p.m * (p.n | 1);
  if (p.n <= tiny_columns && p.m <= tiny_rows) {
    const Int of_team = 4 * tiny_team * ((p.m * p.n | 1) + (p.m * p.k | 1));
    const bool is_shared = of_team <= std::min(crowded, shared_limit());
    launch(solve_tiny(p.n),
           {(p.count + tiny_team - 1) / tiny_team, tiny_team, is_shared ? of_team : 0},
           inputs,
           {work},
           {p.count, p.m, p.n, p.k, is_shared},
           rcond,
           stream);
  } else {
    const bool is_shared = p.shared_by_batch() + wide_copy <= std::min(crowded, shared_limit());
    launch(solve_batch,
           {p.count, p.threads(), p.shared_by_batch() + (is_shared ? wide_copy : 0)},
           inputs,
           {work},
           {p.count, p.m, p.n, p.k, is_shared},
           rcond,
           stream);
  }
  launch(reveal_batch,
         {std::min(p.count, most_blocks), p.threads(), p.shared_by_reveal()},
         {inputs[0], inputs[1], work},
         {out[Lstsq::x], out[Lstsq::residuals], out[Lstsq::rank]},
         {p.count, p.m, p.n, p.k, height},
         rcond,
         stream);
}

void launch_long(const Plan& p,
                 double rcond,
                 const std::vector<mx::array>& inputs,
                 const std::vector<mx::array>& out,
                 mx::Stream stream) {
  const mx::array &a = inputs[0], &b = inputs[1], &work = out[Lstsq::work];
  const Int rows = p.rows_each(), blocks = p.blocks();
  const auto start = [&](const Kernel& kernel,
                         const Grid& grid,
                         const std::vector<mx::array>& in,
                         const std::vector<mx::array>& results,
                         const std::vector<Int>& more) {
    std::vector<Int> sizes{p.m, p.n, p.k};
    sizes.insert(sizes.end(), more.begin(), more.end());
    launch(kernel, grid, in, results, sizes, rcond, stream);
  };
  mx::array before = work;
  const auto then =
      [&](const Kernel& kernel, const Grid& grid, std::vector<mx::array> in, const std::vector<Int>& more) {
        mx::array done({1}, mx::int32, nullptr, {});
        in.insert(in.end(), {work, before});
        start(kernel, grid, in, {done}, more);
        before = done;
      };
  start(gram, {blocks, most_threads, p.shared_by_gram()}, {a, b}, {work}, {rows});
  then(add_pieces, {p.tiles(), most_threads, 8 * most_threads}, {}, {blocks});
  then(core, {1, most_threads, p.shared_by_core()}, {}, {rows + most_threads + blocks});
  for (int step = 0; step <= steps; ++step) {
    then(residual, {blocks, most_threads, p.shared_by_residual()}, {a, b}, {rows});
    then(refine, {1, most_threads, p.shared_by_refine()}, {}, {blocks});
  }
  const Int shared = p.shared_by_reveal(), threads = p.threads();
  then(absorb_rows, {p.parts(), threads, shared}, {a, b}, {p.rows_of_part(), p.parts(), height});
  then(absorb_parts, {p.fewer_parts(), threads, shared}, {}, {parts_of_a_block, p.parts(), height});
  start(reveal_parts,
        {1, threads, shared},
        {work, before},
        {out[Lstsq::x], out[Lstsq::residuals], out[Lstsq::rank]},
        {p.fewer_parts(), p.parts(), height});
}

}  // namespace

// ---------------------------------------------------------------------------------------------------------------------
// The operation
// ---------------------------------------------------------------------------------------------------------------------

Sizes::Sizes(const mx::array& a, const mx::array& b)
    : Sizes(std::accumulate(a.shape().begin(), a.shape().end() - 2, Int{1}, std::multiplies<Int>()),
            a.shape(-2),
            a.shape(-1),
            b.shape(-1)) {}

bool has_kernels(const Sizes& sizes) {
  const Plan p(sizes);
  constexpr Int most = std::numeric_limits<std::int32_t>::max() / most_threads;
  if (p.m < p.n || p.n > most_columns || p.k > most_right_sides || std::max(p.count, p.m) > most) return false;
  if (p.shared_by_reveal() > shared_limit()) return false;
  return p.is_small() || (p.count == 1 && p.most_shared_by_long() <= shared_limit());
}

std::vector<mx::array> solve(const mx::array& a, const mx::array& b, const Cutoff& cutoff, mx::Stream stream) {
  const auto primitive = std::make_shared<Lstsq>(stream, cutoff);
  const std::vector<mx::array> inputs{mx::contiguous(a, false, stream), mx::contiguous(b, false, stream)};
  const auto shapes = primitive->output_shapes(inputs);
  const auto of_work = shapes[Lstsq::work].size() == 1 ? mx::float32 : mx::float64;
  return mx::array::make_arrays(shapes, {mx::float32, mx::float32, mx::int32, of_work}, primitive, inputs);
}

std::vector<mx::Shape> Lstsq::output_shapes(const std::vector<mx::array>& inputs) {
  const Plan p(inputs[0], inputs[1]);
  const auto with = [&](std::initializer_list<Int> sizes) {
    mx::Shape shape(inputs[0].shape().begin(), inputs[0].shape().end() - 2);
    for (Int size : sizes) shape.push_back(mx::safe_cast(size, "lstsq"));
    return shape;
  };
  const auto size = [](Int value) { return mx::safe_cast(value, "lstsq"); };
  const mx::Shape of_batch{size(p.count * (p.n * p.k + p.k + 1))}, of_long{1, size(p.work())};
  return {with({p.n, p.k}), with({p.k}), with({}), p.is_small() ? of_batch : of_long};
}

void Lstsq::eval_cpu(const std::vector<mx::array>&, std::vector<mx::array>&) {
  throw std::runtime_error("[lstsq] A node for the GPU was moved to a stream of the CPU.");
}

void Lstsq::eval_gpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) {
  const Plan p(inputs[0], inputs[1]);
  const double rcond = cutoff_.of({p.m, p.n, p.k});
  (p.is_small() ? launch_batch : launch_long)(p, rcond, inputs, outputs, stream());
}

// ---------------------------------------------------------------------------------------------------------------------
// Transformations
// ---------------------------------------------------------------------------------------------------------------------

// The rules are those of the operation on the CPU, in double precision: no product of them may be of TF32.

namespace {

lstsq_mlx::Lstsq on_cpu(const Cutoff& cutoff) {
  return {mx::default_stream(mx::Device::cpu), cutoff, Driver::automatic};
}

}  // namespace

std::vector<mx::array> Lstsq::jvp(const std::vector<mx::array>& primals,
                                  const std::vector<mx::array>& tangents,
                                  const std::vector<int>& argnums) {
  auto jvps = on_cpu(cutoff_).jvp(primals, tangents, argnums);
  jvps.resize(work, jvps[rank]);
  const auto shape = output_shapes(primals)[work];
  jvps.push_back(mx::zeros(shape, shape.size() == 1 ? mx::float32 : mx::float64, mx::Device::cpu));
  return jvps;
}

std::vector<mx::array> Lstsq::vjp(const std::vector<mx::array>& primals,
                                  const std::vector<mx::array>& cotangents,
                                  const std::vector<int>& argnums,
                                  const std::vector<mx::array>& outputs) {
  return on_cpu(cutoff_).vjp(primals, cotangents, argnums, outputs);
}

std::pair<std::vector<mx::array>, std::vector<int>> Lstsq::vmap(const std::vector<mx::array>& inputs,
                                                                const std::vector<int>& axes) {
  const auto mapped = all_mapped(inputs, axes, stream());
  if (axes[0] >= 0 && has_kernels({mapped[0], mapped[1]})) {
    return {solve(mapped[0], mapped[1], cutoff_, stream()), {0, 0, 0, 0}};
  }
  // Where there are no kernels for so many, and for one matrix of many right-hand sides, which is factorised once.
  const mx::array a = axes[0] >= 0 ? mapped[0] : mx::expand_dims(inputs[0], 0, stream());
  auto outputs = lstsq_mlx::lstsq(a, mapped[1], cutoff_.rcond, "auto", cutoff_.growth, mx::Device::cpu);
  outputs[work] = mx::zeros_like(outputs[x], mx::Device::cpu);  // In the place of s. Nobody reads it.
  return {outputs, {0, 0, 0, 0}};
}

}  // namespace lstsq_mlx::gpu
