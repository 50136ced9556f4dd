// The sums of squares that a certified solve has left open.

#pragma once

#include "batched.h"

namespace lstsq::drivers {

/// Writes k sums of squares of b - a x for each element, without gaps: those of `found`, unless its state is `x_alone`.
/// x is that before it was rounded, n rows of k.
template <class T>
void find_residual_sums(const Batch<T>& as,
                        const Batch<T>& bs,
                        const Batch<double>& xs,
                        const Batch<RealOf<T>>& found,
                        const Batch<State>& states,
                        RealOf<T>* sums);

}  // namespace lstsq::drivers
