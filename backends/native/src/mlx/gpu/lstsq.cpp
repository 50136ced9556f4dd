#include "lstsq.h"

#include <numeric>
#include <stdexcept>

#include "../shapes.h"
#include "dense.h"
#include "launch.h"
#include "mlx/ops.h"

namespace lstsq_mlx::gpu {

namespace {

// ---------------------------------------------------------------------------------------------------------------------
// Which kernels, and with how much of everything. The page on GPUs says what was measured.
// ---------------------------------------------------------------------------------------------------------------------

/// Columns of a matrix and right-hand sides up to which there are kernels: what is n x n fits into shared memory.
constexpr Int most_columns = 64, most_right_sides = 16;
/// Blocks of eight columns up to which a warp has room for the Gram matrix in its registers.
constexpr Int most_eights = 9;
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
/// Steps of refinement. Each is a pass over the matrix that is started before it is known whether it is needed. Where
/// it takes more than these, the matrix is so ill-conditioned that the rank is in doubt, nearly.
constexpr int steps = 2;

struct Plan : Sizes {
  using Sizes::Sizes;
  explicit Plan(const Sizes& sizes) : Sizes(sizes) {}

  Int threads() const { return n <= 16 ? 64 : n <= 32 ? 128 : most_threads; }

  Int shared_by_batch() const { return 8 * (3 * n * n + n + 3 * n * k + m * k + 4 * threads()); }
  Int shared_by_reveal() const {
    return 8 * (n * (n + k) + k + height * ((n + k) | 1) + 2 * n * (n | 1) + n + 3 * threads());
  }
  bool is_small() const {
    return n <= most_columns && m * n <= most_of_a_block &&
           std::max(shared_by_batch(), shared_by_reveal()) <= shared_limit();
  }
  bool is_long() const { return count == 1 && n <= most_columns && most_shared_by_long() <= shared_limit(); }

  // A long matrix.
  Int across() const { return (n + k + 3) / 4; }
  Int tiles() const { return across() * (across() + 1) / 2; }
  Int eights() const { return (n + 7) / 8 + (k + 7) / 8; }
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
    return 8 * (std::max<Int>(1, most_threads / entries()) * entries() + entries() + n * k + 4 * most_threads);
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
    const Int pieces = blocks() * std::max((n + k) * (n + k), entries());
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

/// Where a Gram matrix proves nothing the kernels reveal the rank, `height` rows at a time: nothing is counted.
const Kernel solve_batch{
    "solve_batch",
    {"common", "reveal", "batch"},
    {"a", "b"},
    {"x", "squares", "rank"},
    "::solve_batch(a, b, x, squares, rank, nullptr, size(0), size(1), size(2), rcond, size(3), size(4));"};

Kernel solve_tiny(Int columns) {
  const std::string n = std::to_string(columns);
  return {
      "solve_tiny_" + n,
      {"common", "reveal", "tiny"},
      {"a", "b"},
      {"x", "squares", "rank"},
      "::solve_tiny_" + n + "(a, b, x, squares, rank, nullptr, size(0), size(1), size(2), rcond, size(3), size(4));",
      "#define LSTSQ_COLUMNS " + n + "\n"};
}

/// What the kernels for a long matrix have of the memory that they share: the status; x and the sums of squares, as
/// they are found; what long.cu calls work, and at its end pieces, or the parts of reveal.cu. A kernel that writes to
/// it says so by its output, of which nothing is read: whoever reads what it wrote takes that for an input. It is in
/// double precision, for which MLX has no array on a GPU.
const std::string layout = R"(
  int m = size(0), n = size(1), k = size(2);
  double* memory = reinterpret_cast<double*>(const_cast<float*>(work));
  int* status = reinterpret_cast<int*>(memory);
  float *x_found = reinterpret_cast<float*>(memory + 1), *squares_found = x_found + n * k;
  memory += 1 + (n * k + k + 1) / 2;
)";

const Kernel gram{"gram", {"common", "long"}, {"a", "b"}, {"work"}, layout + "::gram(a, b, memory, m, n, k, size(3));"};

/// The same by warps, where a takes so many blocks of eight columns, and b so many.
Kernel gram_by_warps(Int of_a, Int of_b) {
  const std::string columns = std::to_string(of_a), right_sides = std::to_string(of_b);
  const std::string name = "gram_by_warps_" + columns + "_" + right_sides;
  return {name,
          {"common", "gram"},
          {"a", "b"},
          {"work"},
          layout + "::" + name + "(a, b, memory, m, n, k, size(3));",
          "#define LSTSQ_COLUMNS " + columns + "\n#define LSTSQ_RIGHT_SIDES " + right_sides + "\n"};
}

// Most of the time that a compiler takes for a kernel is spent on what MLX includes, so that several are one: size(5)
// says which.

enum Between { add_pieces, core, refine };
const Kernel between{"between", {"common", "long"}, {"work", "before"}, {"done"}, layout + R"(
  switch (size(5)) {
    case 0: return ::add_pieces(memory, size(3), n, k);
    case 1: return ::core(memory, status, n, k, double(size(3)), rcond);
    default: return ::refine(memory, x_found, squares_found, status, size(3), m == n, n, k, size(4));
  })"};

const Kernel residual{"residual",
                      {"common", "long"},
                      {"a", "b", "work", "before"},
                      {"done"},
                      layout + "::residual(a, b, memory, m, n, k, size(3));"};

const std::string parts = layout + R"(
  double *parts = Work(memory, n, k).pieces, *fewer = parts + (long long)size(4) * (n * (n + k) + k);
)";

enum Absorb { absorb_rows, absorb_parts };
const Kernel absorb{"absorb",
                    {"common", "reveal", "parts"},
                    {"a", "b", "work", "before"},
                    {"done"},
                    parts + R"(
  switch (size(5)) {
    case 0: return ::absorb_rows(a, b, status, parts, m, n, k, size(3), )" +
                        std::to_string(height) + R"();
    default: return ::absorb_parts(parts, status, fewer, size(4), n, k, size(3), )" +
                        std::to_string(height) + R"();
  })"};

const Kernel reveal_parts{"reveal_parts",
                          {"common", "reveal", "parts"},
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
  const Int wide_copy = 4 * p.m * (p.n | 1), most = std::min(crowded, shared_limit());
  const auto start = [&](const Kernel& kernel, const Grid& grid, const std::vector<Int>& sizes) {
    launch(kernel, grid, inputs, out, sizes, rcond, stream);
  };
  if (p.n <= tiny_columns && p.m <= tiny_rows) {
    const Int of_team = 4 * tiny_team * ((p.m * p.n | 1) + (p.m * p.k | 1));
    const bool is_shared = of_team <= most;
    const Int shared = std::max(is_shared ? of_team : 0, 8 * tiny_team + p.shared_by_reveal());
    start(solve_tiny(p.n),
          {(p.count + tiny_team - 1) / tiny_team, tiny_team, shared},
          {p.count, p.m, p.k, is_shared, height});
  } else {
    const bool is_shared = p.shared_by_batch() + wide_copy <= most;
    const Int shared = std::max(p.shared_by_batch() + (is_shared ? wide_copy : 0), p.shared_by_reveal());
    start(solve_batch, {p.count, p.threads(), shared}, {p.m, p.n, p.k, is_shared, height});
  }
}

void launch_long(const Plan& p,
                 double rcond,
                 const std::vector<mx::array>& inputs,
                 const std::vector<mx::array>& out,
                 mx::Stream stream) {
  const mx::array &a = inputs[0], &b = inputs[1], &work = out[Lstsq::work];
  const std::vector<mx::array> matrix{a, b};
  const Int rows = p.rows_each(), blocks = p.blocks();
  Chain chain({p.m, p.n, p.k}, rcond, work, stream);
  if (p.eights() <= most_eights) {
    const Int shared = 8 * 32 * p.eights() * (p.eights() + 1);
    chain.begin(gram_by_warps((p.n + 7) / 8, (p.k + 7) / 8), {blocks, most_threads, shared}, matrix, {rows});
  } else {
    chain.begin(gram, {blocks, most_threads, p.shared_by_gram()}, matrix, {rows});
  }
  // The most that one of them needs.
  const Int scratch = std::max({p.shared_by_core(), p.shared_by_refine(), 8 * most_threads});
  const Int sixteens = ((p.n + p.k) * (p.n + p.k + 1) / 2 + 15) / 16;
  chain.then(between, {sixteens, most_threads, scratch}, {blocks, 0, add_pieces});
  chain.then(between, {1, most_threads, scratch}, {rows + most_threads + blocks, 0, core});
  for (int step = 0; step <= steps; ++step) {
    chain.then(residual, {blocks, most_threads, p.shared_by_residual()}, {rows}, matrix);
    chain.then(between, {1, most_threads, scratch}, {blocks, steps, refine});
  }
  const Int shared = p.shared_by_reveal(), threads = p.threads();
  chain.then(absorb, {p.parts(), threads, shared}, {p.rows_of_part(), p.parts(), absorb_rows}, matrix);
  chain.then(absorb, {p.fewer_parts(), threads, shared}, {parts_of_a_block, p.parts(), absorb_parts}, matrix);
  chain.end(reveal_parts,
            {1, threads, shared},
            {p.fewer_parts(), p.parts(), height},
            {out[Lstsq::x], out[Lstsq::residuals], out[Lstsq::rank]});
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
  if (p.m < p.n || p.k > most_right_sides || std::max(p.count, p.m) > most) return false;
  return p.is_small() || p.is_long() || is_dense(sizes);
}

namespace {

/// Contiguous, in rows. What is known to be so needs no node.
mx::array in_rows(const mx::array& array, mx::Stream stream) {
  const bool is_known = array.status() == mx::array::Status::available && array.flags().row_contiguous;
  return is_known ? array : mx::contiguous(array, /*allow_col_major=*/false, stream);
}

}  // namespace

std::vector<mx::array> solve(const mx::array& a, const mx::array& b, const Cutoff& cutoff, mx::Stream stream) {
  const std::vector<mx::array> inputs{in_rows(a, stream), in_rows(b, stream)};
  const Plan p(a, b);
  if (!p.is_small() && !p.is_long()) return solve_dense(inputs[0], inputs[1], cutoff, stream);
  const auto primitive = std::make_shared<Lstsq>(stream, cutoff);
  const auto shapes = primitive->output_shapes(inputs);
  std::vector<mx::Dtype> dtypes{mx::float32, mx::float32, mx::int32};
  dtypes.resize(shapes.size(), mx::float32);
  return mx::array::make_arrays(shapes, dtypes, primitive, inputs);
}

std::vector<mx::Shape> Lstsq::output_shapes(const std::vector<mx::array>& inputs) {
  const Plan p(inputs[0], inputs[1]);
  const auto with = [&](std::initializer_list<Int> sizes) {
    mx::Shape shape(inputs[0].shape().begin(), inputs[0].shape().end() - 2);
    for (Int size : sizes) shape.push_back(mx::safe_cast(size, "lstsq"));
    return shape;
  };
  std::vector<mx::Shape> shapes{with({p.n, p.k}), with({p.k}), with({})};
  if (!p.is_small()) shapes.push_back({mx::safe_cast(2 * p.work(), "lstsq")});
  return shapes;
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

lstsq_mlx::Lstsq rules(const Cutoff& cutoff) {
  return {mx::default_stream(mx::Device::cpu), cutoff, Driver::automatic};
}

std::vector<mx::array> mapped_on_cpu(const std::vector<mx::array>& inputs,
                                     const std::vector<int>& axes,
                                     const Cutoff& cutoff) {
  const mx::Stream s = mx::default_stream(mx::Device::cpu);
  const auto mapped = all_mapped({inputs[0], inputs[1]}, {axes[0], axes[1]}, s);
  const mx::array a = axes[0] >= 0 ? mapped[0] : mx::expand_dims(inputs[0], 0, s);
  auto outputs = lstsq_mlx::lstsq(a, mapped[1], cutoff.rcond, "auto", cutoff.growth, s);
  outputs.pop_back();  // s, which no node for the GPU gives.
  return outputs;
}

std::vector<mx::array> Lstsq::jvp(const std::vector<mx::array>& primals,
                                  const std::vector<mx::array>& tangents,
                                  const std::vector<int>& argnums) {
  auto jvps = rules(cutoff_).jvp(primals, tangents, argnums);
  const auto shapes = output_shapes(primals);
  jvps.resize(work, jvps[rank]);
  if (shapes.size() > work) jvps.push_back(mx::zeros(shapes[work], mx::float32, mx::Device::cpu));
  return jvps;
}

std::vector<mx::array> Lstsq::vjp(const std::vector<mx::array>& primals,
                                  const std::vector<mx::array>& cotangents,
                                  const std::vector<int>& argnums,
                                  const std::vector<mx::array>& outputs) {
  return rules(cutoff_).vjp(primals, cotangents, argnums, outputs);
}

std::pair<std::vector<mx::array>, std::vector<int>> Lstsq::vmap(const std::vector<mx::array>& inputs,
                                                                const std::vector<int>& axes) {
  const auto mapped = all_mapped(inputs, axes, stream());
  const Plan p(mapped[0], mapped[1]);
  // One matrix of many right-hand sides is factorised once, on the CPU.
  auto outputs = axes[0] >= 0 && p.is_small() ? solve(mapped[0], mapped[1], cutoff_, stream())
                                              : mapped_on_cpu(inputs, axes, cutoff_);
  // Nobody reads what a long matrix leaves besides; but a node has as many outputs after as before.
  const std::size_t count = p.is_small() ? work : work + 1;
  outputs.resize(count, outputs[rank]);
  return {outputs, std::vector<int>(count, 0)};
}

// ---------------------------------------------------------------------------------------------------------------------
// An answer as a function of a and b
// ---------------------------------------------------------------------------------------------------------------------

std::vector<mx::array> answered(const mx::array& a,
                                const mx::array& b,
                                const std::vector<mx::array>& answer,
                                const Cutoff& cutoff,
                                mx::Stream stream) {
  std::vector<mx::array> inputs{a, b};
  std::vector<mx::Shape> shapes;
  std::vector<mx::Dtype> dtypes;
  for (const auto& part : answer) {
    inputs.push_back(mx::stop_gradient(part, stream));
    shapes.push_back(part.shape());
    dtypes.push_back(part.dtype());
  }
  return mx::array::make_arrays(shapes, dtypes, std::make_shared<Answered>(stream, cutoff), inputs);
}

std::vector<mx::Shape> Answered::output_shapes(const std::vector<mx::array>& inputs) {
  return {inputs[2].shape(), inputs[3].shape(), inputs[4].shape()};
}

void Answered::eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) {
  for (std::size_t i = 0; i < outputs.size(); ++i) outputs[i].copy_shared_buffer(inputs[2 + i]);
}

void Answered::eval_gpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) {
  eval_cpu(inputs, outputs);
}

std::vector<mx::array> Answered::jvp(const std::vector<mx::array>& primals,
                                     const std::vector<mx::array>& tangents,
                                     const std::vector<int>& argnums) {
  auto jvps = rules(cutoff_).jvp({primals[0], primals[1]}, tangents, argnums);
  jvps.resize(3, jvps[2]);
  return jvps;
}

std::vector<mx::array> Answered::vjp(const std::vector<mx::array>& primals,
                                     const std::vector<mx::array>& cotangents,
                                     const std::vector<int>& argnums,
                                     const std::vector<mx::array>& outputs) {
  return rules(cutoff_).vjp({primals[0], primals[1]}, cotangents, argnums, outputs);
}

std::pair<std::vector<mx::array>, std::vector<int>> Answered::vmap(const std::vector<mx::array>& inputs,
                                                                   const std::vector<int>& axes) {
  const auto mapped = all_mapped(inputs, axes, stream());
  return {answered(mapped[0], mapped[1], {mapped[2], mapped[3], mapped[4]}, cutoff_, stream()), {0, 0, 0}};
}

}  // namespace lstsq_mlx::gpu
