// Batches of small problems, spread over the threads.
#include <algorithm>

#include "isa.h"
#include "kernels.h"
#include "pool.h"

namespace lstsq::kernels {

template <class T>
bool solve_batch(const Batch<T>& p) {
  const int64_t m = p.a.rows, n = p.a.cols, k = p.b.cols;
  const int64_t elements = m * padded(n + k);
  if (n < 1 || n > max_batch_columns || m < n || k < 1 || elements > largest_batch_element) return false;
  const int64_t workspace = isa().batch_workspace(m, n, k);
  const double work = static_cast<double>(m) * static_cast<double>((n + 2 * k) * n) + 300.0;
  int64_t chunk =
      std::max<int64_t>(batch_multiple, static_cast<int64_t>(batch_task / work) / batch_multiple * batch_multiple);
  chunk = std::max(chunk,
                   (p.count / (batch_tasks * thread_count()) + batch_multiple - 1) / batch_multiple * batch_multiple);
  const int64_t tasks = (p.count + chunk - 1) / chunk;
  parallel(tasks, [&](int64_t task) {
    const BatchTask<T> t{.m = m,
                         .n = n,
                         .k = k,
                         .a = p.a.data,
                         .a_stride = p.a_stride,
                         .lda = p.a.row_stride,
                         .b = p.b.data,
                         .b_stride = p.b_stride,
                         .ldb = p.b.row_stride,
                         .rcond = p.rcond,
                         .x = p.x,
                         .residuals = p.residuals,
                         .precise = p.precise,
                         .ok = p.ok,
                         .values = p.values,
                         .found = p.found,
                         .from = task * chunk,
                         .to = std::min(p.count, (task + 1) * chunk),
                         .workspace = scratch(3, workspace)};
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
