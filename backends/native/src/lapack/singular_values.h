// The singular values, from what a solve left for them (spectrum.h).

#pragma once

#include "batched.h"

namespace lstsq::drivers {

/// What the solves of a batch left, and where in memory the elements lie.
struct Spectra {
  const double* data;
  Places places;
  const std::int32_t* exponents;
  Places exponent_places;
  const State* states;
  Places state_places;
};

/// Writes min(m, n) singular values for each element, descending, without gaps. What lies at one place, a spectrum or a
/// matrix, is decomposed once.
template <class T>
void find_singular_values(
    Driver driver, const Problem& problem, const Batch<T>& as, const Spectra& spectra, RealOf<T>* s);

}  // namespace lstsq::drivers
