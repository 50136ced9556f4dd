// The singular values, from what a solve left for them (core.h).

#pragma once

#include "batched.h"

namespace lstsq::drivers {

/// Where the elements of a batch of cores lie: their numbers, and their exponents.
struct Cores {
  const double* data;
  Places places;
  const double* exponents;
  Places exponent_places;
};

/// Writes min(m, n) singular values for each element, descending, without gaps. What lies at one place, a core or a
/// matrix, is decomposed once.
template <class T>
void find_singular_values(Driver driver, const Problem& problem, const Batch<T>& as, const Cores& cores, RealOf<T>* s);

}  // namespace lstsq::drivers
