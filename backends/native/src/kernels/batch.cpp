// Batches of small problems, spread over the threads.
#include <algorithm>

#include "isa.h"
#include "kernels.h"
#include "pool.h"

namespace lstsq::kernels {

template <class T>
bool solve_batch(const Batch<T>& p) {
  const int64_t elements = p.m * padded(p.n + p.k);
  if (p.n < 1 || p.n > max_batch_columns || p.m < p.n || p.k < 1 || elements > largest_batch_element) return false;
  const int64_t workspace = isa().batch_workspace(p.m, p.n, p.k);
  const double work = static_cast<double>(p.m) * static_cast<double>((p.n + 2 * p.k) * p.n) + 300.0;
  int64_t chunk =
      std::max<int64_t>(batch_multiple, static_cast<int64_t>(batch_task / work) / batch_multiple * batch_multiple);
  chunk = std::max(chunk,
                   (p.count / (batch_tasks * thread_count()) + batch_multiple - 1) / batch_multiple * batch_multiple);
  const int64_t tasks = (p.count + chunk - 1) / chunk;
  parallel(tasks, [&](int64_t task) {
    BatchTask<T> t{p.m,
                   p.n,
                   p.k,
                   p.a,
                   p.a_stride,
                   p.lda,
                   p.b,
                   p.b_stride,
                   p.ldb,
                   p.rcond,
                   p.x,
                   p.residuals,
                   p.precise,
                   p.ok,
                   p.values,
                   p.found,
                   task * chunk,
                   std::min(p.count, (task + 1) * chunk),
                   scratch(3, workspace)};
    if constexpr (sizeof(T) == 4)
      isa().batch_f(t);
    else
      isa().batch_d(t);
  });
  return true;
}

template bool solve_batch(const Batch<float>&);
template bool solve_batch(const Batch<double>&);

}  // namespace lstsq::kernels
