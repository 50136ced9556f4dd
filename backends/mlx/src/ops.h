// The operations on MLX arrays.

#pragma once

#include <string>
#include <vector>

#include "mlx/array.h"
#include "mlx/utils.h"

namespace lstsq_mlx {

namespace mx = mlx::core;

/// Least-squares solution of minimum norm.
///
/// a (..., m, n) and b (..., m, k) have the same batch dimensions and dtype (float32, float64 or complex64), and all of
/// m, n, k are at least 1. A singular value is zero iff s <= rcond * s_max, for any rcond >= 0. `driver` is "auto",
/// "cholesky" (NaN and rank 0 where it cannot certify an answer), "gelsd", "svd" or "qr".
///
/// Returns x (..., n, k); residuals (..., k), real, the sums of squares of b - a x; rank (...), int32; and
/// s (..., min(m, n)), real, descending. All are lazy. s, and of "auto" and "cholesky" the residuals, are nodes of
/// their own: whoever does not read them does not pay for them. In double precision inside, whatever the dtype. Runs on
/// a CPU stream: that of `stream`, or the default one of the CPU where the default device is another.
///
/// Throws std::invalid_argument for shapes, dtypes, cutoffs and drivers other than these, and where the sizes exceed
/// LAPACK's integers.
std::vector<mx::array> lstsq(
    const mx::array& a, const mx::array& b, double rcond, const std::string& driver, mx::StreamOrDevice stream = {});

}  // namespace lstsq_mlx
