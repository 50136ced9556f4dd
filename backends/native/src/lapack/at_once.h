// Everything at once: x, the residuals, the rank and, if they are wanted, the singular values. For arrays that are not
// lazy.

#pragma once

#include "batched.h"

namespace lstsq::drivers {

/// Where the answers go: contiguous, one element after the other.
template <class T>
struct Answers {
  T* x;
  RealOf<T>* residuals;
  std::int32_t* rank;
  RealOf<T>* s;  ///< or null: not wanted
};

/// Solve every element. Returns `not_finite` if one of them is, else `unsolved` if one of them is, else `complete`;
/// where there is no answer, x, residuals and s are NaN, and the rank is 0.
template <class T>
State solve_at_once(
    Driver driver, double rcond, const Problem& problem, const Batch<T>& as, const Batch<T>& bs, const Answers<T>& out);

}  // namespace lstsq::drivers
