// The drivers that begin with the certified kernels (kernels/kernels.h, docs/certificate.md): solve what they certify,
// and the rest by the driver qr, or not at all.

#pragma once

#include "batched.h"

namespace lstsq_mlx {

/// Where the kernels solved an element its singular values and residuals were not found: the core is open, and the
/// residuals are NaN.
template <class T>
void solve_certified(
    Driver driver, double rcond, const Problem& p, const Batch<T>& as, const Batch<T>& bs, const Outputs<T>& out);

}  // namespace lstsq_mlx
