// The operations on MLX arrays.

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "arrays.h"
#include "mlx/array.h"
#include "mlx/utils.h"

namespace lstsq_mlx {

/// Least-squares solution of minimum norm.
///
/// a (..., m, n) and b (..., m, k), or (m), have the same dtype (float32, float64 or complex64), and no dimension is 0.
/// Batch dimensions broadcast; a matrix of several elements is factorised once. A singular value is zero iff
/// s <= rcond * min(max(m, n), growth) * s_max, for any rcond >= 0 and growth >= 1: a rule, and not a number, because a
/// graph that was compiled without shapes meets other m and n. `driver` is "auto", "cholesky" (NaN and rank 0 where it
/// cannot certify an answer), "gelsd", "svd" or "qr".
///
/// Returns x (..., n, k), or (..., n) where b is (m); residuals (..., k), real, the sums of squares of b - a x;
/// rank (...), int32; and s (..., min(m, n)), real, descending. All are lazy. s, and of "auto" and "cholesky" the
/// residuals, are nodes of their own: whoever does not read them does not pay for them. In double precision inside,
/// whatever the dtype. Runs on the GPU where `stream`, or the default device, is one for CUDA and there are kernels for
/// the problem (gpu/lstsq.h), but for s; elsewhere on a CPU stream: that of `stream`, or the default one of the CPU
/// where the default device is another.
///
/// Throws std::invalid_argument for shapes, dtypes, cutoffs and drivers other than these, and where the sizes exceed
/// LAPACK's integers.
std::vector<mx::array> lstsq(const mx::array& a,
                             const mx::array& b,
                             double rcond,
                             const std::string& driver,
                             std::int64_t growth = 1,
                             mx::StreamOrDevice stream = {});

/// Whether `lstsq` would solve this on the GPU. Throws std::invalid_argument as it does.
bool runs_on_gpu(const mx::array& a, const mx::array& b, const std::string& driver, mx::StreamOrDevice stream = {});

}  // namespace lstsq_mlx
