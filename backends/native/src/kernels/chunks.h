// A batch of small matrices, spread over the threads.
#pragma once

#include <algorithm>
#include <cstdint>

#include "pool.h"
#include "tuning.h"

namespace lstsq::kernels {

// Calls f(from, to) for all of `count` elements, in tasks of about `batch_task` operations, of which one element takes
// `work`. Each task but the last has a multiple of `multiple` elements.
template <class F>
void in_chunks(int64_t count, int64_t multiple, double work, const F& f) {
  int64_t chunk = std::max(multiple, static_cast<int64_t>(batch_task / work) / multiple * multiple);
  chunk = std::max(chunk, (count / (batch_tasks * thread_count()) + multiple - 1) / multiple * multiple);
  parallel((count + chunk - 1) / chunk, [&](int64_t task) { f(task * chunk, std::min(count, (task + 1) * chunk)); });
}

}  // namespace lstsq::kernels
