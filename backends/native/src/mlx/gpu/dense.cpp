#include "dense.h"

#include <algorithm>
#include <limits>
#include <stdexcept>

#include "lapack/batched.h"
#include "launch.h"
#include "mlx/ops.h"

namespace lstsq_mlx::gpu {

namespace {

/// Numbers of a matrix from which it is worth some fifty launches, and columns up to which there is memory.
constexpr Int fewest_numbers = 65536, most_columns = 8192;
/// Of dense.cu.
constexpr Int edge = 64, team = 128, deep = 16, alone = 256;
/// Rows that are worth a share of them, and blocks that keep a GPU busy.
constexpr Int rows_of_a_share = 512, busy = 792, blocks_for_residual = 1056;
/// Steps of refinement; see `Lstsq`.
constexpr int steps = 2;

struct Plan : Sizes {
  using Sizes::Sizes;
  explicit Plan(const Sizes& sizes) : Sizes(sizes) {}

  static Int parts(Int whole, Int of) { return (whole + of - 1) / of; }

  Int tiles() const { return parts(n, edge); }
  Int lower() const { return tiles() * (tiles() + 1) / 2; }
  Int most_shares() const { return std::max<Int>(1, m / rows_of_a_share); }
  Int shares() const { return std::clamp<Int>(busy / lower(), 1, most_shares()); }
  Int rows_each() const { return parts(m, shares()); }
  Int stripes() const { return parts(n, team); }
  Int thin_shares() const { return std::clamp<Int>(busy / stripes(), 1, most_shares()); }
  Int thin_rows() const { return parts(m, thin_shares()); }

  Int found() const { return 1 + (n * k + k + 1) / 2; }
  /// The sums over shares come after those of blocks.
  Int before_shares() const { return blocks_for_residual * k; }
  Int work() const {
    const Int before_pieces = 8 + 2 * n + 3 * n * k + 3 * k + 3 * n * n + m * k;
    const Int pieces = std::max(shares() * lower() * edge * edge, before_shares() + thin_shares() * n * k);
    return found() + before_pieces + std::max(pieces, tiles() * tiles());
  }
};

/// What the kernels have of the memory: the status; x and the sums of squares, as they are found; what dense.cu has.
const std::string layout = R"(
  int m = size(0), n = size(1), k = size(2);
  double* memory = reinterpret_cast<double*>(const_cast<float*>(work));
  int* status = reinterpret_cast<int*>(memory);
  float *x_found = reinterpret_cast<float*>(memory + 1), *squares_found = x_found + n * k;
  memory += 1 + (n * k + k + 1) / 2;
  double* of_shares = Dense(memory, m, n, k).pieces + k * )" +
                           std::to_string(blocks_for_residual) + ";\n";

const Kernel gram{
    "dense_gram", {"common", "dense"}, {"a", "b"}, {"work"}, layout + "::dense_gram(a, memory, m, n, k, size(3));"};

// Most of the time that a compiler takes for a kernel is spent on what MLX includes, so that several are one: size(3)
// says which.

enum Tiles { panel, trailing, halves, square, defect };
const Kernel tiles{"dense_tiles", {"common", "dense"}, {"work", "before"}, {"done"}, layout + R"(
  switch (size(3)) {
    case 0: return ::dense_panel(memory, m, n, k, size(4));
    case 1: return ::dense_trailing(memory, m, n, k, size(4));
    case 2: return ::dense_halves(memory, m, n, k, size(4), size(5));
    case 3: return ::dense_square(memory, m, n, k);
    default: return ::dense_defect(memory, m, n, k);
  })"};

enum Between { add, norms, scale, diagonal, prove, sum, step, advance };
const Kernel between{"dense_between", {"common", "dense"}, {"work", "before"}, {"done"}, layout + R"(
  switch (size(3)) {
    case 0: return ::dense_add(memory, m, n, k, size(4));
    case 1: return ::dense_norms(memory, m, n, k);
    case 2: return ::dense_scale(memory, m, n, k);
    case 3: return ::dense_diagonal(memory, m, n, k, size(4));
    case 4: return ::dense_prove(memory, status, m, n, k, size(4), rcond);
    case 5: return ::dense_sum(memory, of_shares, m, n, k, size(4));
    case 6: return ::dense_step(memory, m, n, k);
    default: return ::dense_advance(memory, x_found, squares_found, status, m, n, k, size(4));
  })"};

enum Passes { residual, transposed };
const Kernel passes{"dense_passes", {"common", "dense"}, {"a", "b", "work", "before"}, {"done"}, layout + R"(
  switch (size(3)) {
    case 0: return ::dense_residual(a, b, memory, m, n, k);
    default: return ::dense_transposed(a, b, memory, of_shares, m, n, k, size(4), size(5));
  })"};

const Kernel finish{
    "dense_finish", {"common", "dense"}, {"work", "before"}, {"x", "squares", "status_of_all"}, layout + R"(
  for (int e = threadIdx.x; e < n * k; e += blockDim.x) x[e] = x_found[e];
  for (int e = threadIdx.x; e < k; e += blockDim.x) squares[e] = squares_found[e];
  if (threadIdx.x == 0) status_of_all[0] = status_of_all[1] = *status;
)"};

}  // namespace

bool is_dense(const Sizes& sizes) {
  const Plan p(sizes);
  return p.count == 1 && p.n <= most_columns && p.m * p.n > fewest_numbers &&
         2 * p.work() < std::numeric_limits<std::int32_t>::max();
}

std::vector<mx::array> solve_dense(const mx::array& a, const mx::array& b, const Cutoff& cutoff, mx::Stream stream) {
  const auto attempt = std::make_shared<Attempt>(stream, cutoff);
  const std::vector<mx::array> operands{mx::stop_gradient(a, stream), mx::stop_gradient(b, stream)};
  const auto found = mx::array::make_arrays(
      attempt->output_shapes(operands), {mx::float32, mx::float32, mx::int32, mx::float32}, attempt, operands);
  const mx::Stream of_cpu = mx::default_stream(mx::Device::cpu);
  const auto settled = std::make_shared<Settled>(of_cpu, cutoff);
  const std::vector<mx::array> inputs{operands[0], operands[1], found[0], found[1], found[2]};
  const auto answer =
      mx::array::make_arrays(settled->output_shapes(inputs), {mx::float32, mx::float32, mx::int32}, settled, inputs);
  return answered(a, b, answer, cutoff, of_cpu);
}

std::vector<mx::Shape> Attempt::output_shapes(const std::vector<mx::array>& inputs) {
  const Plan p(inputs[0], inputs[1]);
  mx::Shape x = inputs[0].shape(), squares = x;
  x.end()[-2] = inputs[0].shape(-1);
  x.back() = inputs[1].shape(-1);
  squares.pop_back();
  squares.back() = inputs[1].shape(-1);
  // Eight bytes: MLX keeps so few where the CPU can read them without moving anything.
  return {x, squares, {2}, {mx::safe_cast(2 * p.work(), "lstsq")}};
}

void Attempt::eval_cpu(const std::vector<mx::array>&, std::vector<mx::array>&) {
  throw std::runtime_error("[lstsq] A node for the GPU was moved to a stream of the CPU.");
}

void Attempt::eval_gpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& out) {
  const Plan p(inputs[0], inputs[1]);
  const Int tile = 8 * 2 * deep * (edge + 4), count = p.tiles();
  // The most that one of them needs.
  const Int scratch = std::max(8 * 4 * alone, 8 * 2 * edge * edge);
  Chain chain({p.m, p.n, p.k}, cutoff_.of({p.m, p.n, p.k}), out[3], stream());
  chain.begin(gram, {p.lower() * p.shares(), team, tile}, inputs, {p.rows_each()});
  chain.then(between, {p.lower() * edge, team, scratch}, {add, p.shares()});
  chain.then(between, {p.stripes(), team, scratch}, {norms});
  chain.then(between, {p.n, team, scratch}, {scale});
  for (Int i = 0; i < count; ++i) {
    const Int left = count - i - 1;
    chain.then(between, {1, alone, scratch}, {diagonal, i});
    if (left == 0) break;
    chain.then(tiles, {left, team, tile}, {panel, i});
    chain.then(tiles, {left * (left + 1) / 2, team, tile}, {trailing, i});
  }
  for (Int size = edge; size < p.n; size *= 2) {
    const Int across = size / edge, blocks = Plan::parts(p.n, 2 * size) * across * across;
    chain.then(tiles, {blocks, team, tile}, {halves, size, 0});
    chain.then(tiles, {blocks, team, tile}, {halves, size, 1});
  }
  chain.then(tiles, {p.lower(), team, tile}, {square});
  chain.then(tiles, {count * count, team, tile}, {defect});
  chain.then(between, {1, alone, scratch}, {prove, p.rows_each() + p.shares()});
  for (int taken = 0; taken <= steps; ++taken) {
    const Int blocks = std::min(blocks_for_residual, Plan::parts(p.m, team / 32));
    if (taken > 0) chain.then(passes, {blocks, team, 8 * team}, {residual}, inputs);
    const Int counted = taken > 0 ? blocks : 0;
    chain.then(passes, {p.stripes() * p.thin_shares(), team, 8 * team}, {transposed, p.thin_rows(), counted}, inputs);
    chain.then(between, {Plan::parts(p.n * p.k, team), team, scratch}, {sum, p.thin_shares()});
    chain.then(between, {Plan::parts(p.n, team / 32), team, scratch}, {step});
    chain.then(between, {1, alone, scratch}, {advance, steps});
  }
  chain.end(finish, {1, alone, 0}, {}, {out[0], out[1], out[2]});
}

std::pair<std::vector<mx::array>, std::vector<int>> Attempt::vmap(const std::vector<mx::array>& inputs,
                                                                  const std::vector<int>& axes) {
  // `Settled` finds its answer anew where it is mapped. This is in the place of what nobody reads.
  auto outputs = mapped_on_cpu(inputs, axes, cutoff_);
  outputs.push_back(outputs[0]);
  return {outputs, {0, 0, 0, 0}};
}

std::vector<mx::Shape> Settled::output_shapes(const std::vector<mx::array>& inputs) {
  return {inputs[2].shape(), inputs[3].shape(), mx::Shape(inputs[0].shape().begin(), inputs[0].shape().end() - 2)};
}

void Settled::eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) {
  run_on_cpu(
      stream(), inputs, outputs, [cutoff = cutoff_](const std::vector<mx::array>& in, std::vector<mx::array>& out) {
        const Problem p{in[0].shape(-2), in[0].shape(-1), in[1].shape(-1)};
        constexpr int proven = 1;  // common.cu
        if (*in[4].data<std::int32_t>() == proven) {
          std::copy_n(in[2].data<float>(), in[2].size(), out[0].data<float>());
          std::copy_n(in[3].data<float>(), in[3].size(), out[1].data<float>());
          *out[2].data<std::int32_t>() = static_cast<std::int32_t>(p.n);
          return;
        }
        State state;
        std::int32_t exponent;
        const Outputs<float> answer{
            out[0].data<float>(), out[1].data<float>(), out[2].data<std::int32_t>(), &state, &exponent, nullptr};
        solve_batch<float>(Driver::qr, cutoff.of(p), p, batch<float>(in[0]), batch<float>(in[1]), answer);
      });
}

std::pair<std::vector<mx::array>, std::vector<int>> Settled::vmap(const std::vector<mx::array>& inputs,
                                                                  const std::vector<int>& axes) {
  return {mapped_on_cpu(inputs, axes, cutoff_), {0, 0, 0}};
}

}  // namespace lstsq_mlx::gpu
