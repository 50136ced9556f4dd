// The drivers that begin with the certified kernels (kernels/kernels.h, docs/certificate.md): solve what they certify,
// and the rest by the driver qr, or not at all.

#pragma once

#include "batched.h"

namespace lstsq::drivers {

/// Where the kernels solved an element, its state says what they did not find: the singular values, and, unless the
/// residuals are wanted now, those of more rows than columns. (Independent rows leave none.)
template <class T>
void solve_certified(
    Driver driver, double rcond, const Problem& p, const Batch<T>& as, const Batch<T>& bs, const Outputs<T>& out);

}  // namespace lstsq::drivers
