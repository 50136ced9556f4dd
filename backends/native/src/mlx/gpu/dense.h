// The operation on a GPU for CUDA for one matrix of many columns: a proof by products of tiles, and where there is none
// the CPU.

#pragma once

#include "lstsq.h"

namespace lstsq_mlx::gpu {

/// Whether a matrix of these sizes is worth it, and there is memory.
bool is_dense(const Sizes& sizes);

/// x, residuals and rank. a and b are contiguous, in rows.
std::vector<mx::array> solve_dense(const mx::array& a, const mx::array& b, const Cutoff& cutoff, mx::Stream stream);

/// Inputs a (..., m, n) and b (..., m, k), float32. Outputs x, residuals, the status and memory for the kernels.
class Attempt final : public mx::Primitive {
 public:
  Attempt(mx::Stream stream, Cutoff cutoff) : Primitive(stream), cutoff_(cutoff) {}

  void eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override;
  void eval_gpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override;
  DEFINE_VMAP()
  bool is_equivalent(const mx::Primitive&) const override { return false; }  // See `lstsq_mlx::Lstsq`.
  std::vector<mx::Shape> output_shapes(const std::vector<mx::array>& inputs) override;
  DEFINE_NAME(LstsqAttempt)

 private:
  Cutoff cutoff_;
};

/// Inputs a and b, and the x, residuals and status of an attempt. Outputs x, residuals and rank: those, if the status
/// says that they are proven, else the CPU's. No derivative goes through it: `answered` has the rule.
class Settled final : public CpuPrimitive {
 public:
  Settled(mx::Stream stream, Cutoff cutoff) : CpuPrimitive(stream), cutoff_(cutoff) {}

  void eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override;
  DEFINE_VMAP()
  bool is_equivalent(const mx::Primitive&) const override { return false; }
  std::vector<mx::Shape> output_shapes(const std::vector<mx::array>& inputs) override;
  DEFINE_NAME(LstsqSettled)

 private:
  Cutoff cutoff_;
};

}  // namespace lstsq_mlx::gpu
