// Spreads the elements of a batch over the threads of the kernels.

#pragma once

#include <algorithm>

#include "kernels/pool.h"
#include "matrix.h"

namespace lstsq::drivers {

/// Whether there are elements enough for every core to have its own.
inline bool fill_the_cores(Int count) {
  return count >= 8 * kernels::thread_count();
}

/// Calls f(from, to) for shares of the elements from 0 to count, side by side. With few elements there is one share, in
/// this thread, so that all threads can be at work on each of them.
template <class F>
void in_shares(Int count, const F& f) {
  if (!fill_the_cores(count)) return f(0, count);
  const Int shares = std::min<Int>(count, 16 * kernels::thread_count());
  kernels::parallel(shares, [&](Int share) { f(count * share / shares, count * (share + 1) / shares); });
}

}  // namespace lstsq::drivers
