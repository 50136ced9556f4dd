// The cutoff as a rule of the shape, which a graph that was compiled without shapes asks when it runs.

#pragma once

#include <algorithm>

#include "arrays.h"

namespace lstsq_mlx {

/// A singular value is zero iff s <= rcond * min(max(m, n), growth) * s_max. A number is a rule that does not grow.
struct Cutoff {
  double rcond;
  Int growth = 1;

  double of(const Problem& p) const { return rcond * static_cast<double>(std::min(std::max(p.m, p.n), growth)); }

  /// The same cutoff for the real problem that a complex one is isomorphic to, twice as high and as wide.
  Cutoff of_real_problem() const { return {rcond / 2, 2 * growth}; }

  bool operator==(const Cutoff&) const = default;
};

}  // namespace lstsq_mlx
