// The operation on a GPU for CUDA, where the arrays stay: small problems and long matrices of few columns, in single
// precision, with everything inside in double precision. It is for the driver "auto".

#pragma once

#include "../lstsq.h"

namespace lstsq_mlx::gpu {

/// How many problems there are, a (m, n) and b (m, k).
struct Sizes {
  Int count, m, n, k;

  Sizes(Int count, Int m, Int n, Int k) : count(count), m(m), n(n), k(k) {}
  Sizes(const mx::array& a, const mx::array& b);
};

/// Whether there are kernels for problems of these sizes, none of which is 0.
bool has_kernels(const Sizes& sizes);

/// x, residuals and rank, as nodes on this stream of a GPU, where there are kernels. a and b have one batch, and b has
/// columns.
std::vector<mx::array> solve(const mx::array& a, const mx::array& b, const Cutoff& cutoff, mx::Stream stream);

/// What the nodes for the GPU have in common. Their rules are those of the operation on the CPU, in double precision:
/// no product of them may be of TF32. Mapped, what has no kernels goes there too: this gives x, residuals and rank.
lstsq_mlx::Lstsq rules(const Cutoff& cutoff);
std::vector<mx::array> mapped_on_cpu(const std::vector<mx::array>& inputs,
                                     const std::vector<int>& axes,
                                     const Cutoff& cutoff);

/// Inputs a (..., m, n) and b (..., m, k), float32. The kernels find out by themselves where a Gram matrix proves
/// nothing, and solve there by orthogonal transformations: nobody waits for an answer.
class Lstsq final : public mx::Primitive {
 public:
  enum Output { x, residuals, rank, work };

  Lstsq(mx::Stream stream, Cutoff cutoff) : Primitive(stream), cutoff_(cutoff) {}

  void eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override;
  void eval_gpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override;
  DEFINE_GRADS()
  DEFINE_VMAP()
  bool is_equivalent(const mx::Primitive&) const override { return false; }  // See `lstsq_mlx::Lstsq`.
  std::vector<mx::Shape> output_shapes(const std::vector<mx::array>& inputs) override;
  DEFINE_NAME(LstsqOnGpu)

 private:
  Cutoff cutoff_;
};

/// An answer that was found by other operations, as a function of a and b: no derivative goes through them.
std::vector<mx::array> answered(const mx::array& a,
                                const mx::array& b,
                                const std::vector<mx::array>& answer,
                                const Cutoff& cutoff,
                                mx::Stream stream);

/// Inputs a (..., m, n) and b (..., m, k), and x, residuals and rank, which are the outputs.
class Answered final : public mx::Primitive {
 public:
  Answered(mx::Stream stream, Cutoff cutoff) : Primitive(stream), cutoff_(cutoff) {}

  void eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override;
  void eval_gpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override;
  DEFINE_GRADS()
  DEFINE_VMAP()
  bool is_equivalent(const mx::Primitive&) const override { return false; }
  std::vector<mx::Shape> output_shapes(const std::vector<mx::array>& inputs) override;
  DEFINE_NAME(LstsqAnswered)

 private:
  Cutoff cutoff_;
};

}  // namespace lstsq_mlx::gpu
