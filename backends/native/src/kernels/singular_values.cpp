// Singular values of batches of small matrices, spread over the threads.
#include <algorithm>

#include "isa.h"
#include "kernels.h"
#include "pool.h"

namespace lstsq::kernels {

template <class T>
bool singular_values(const SingularBatch<T>& p) {
  // A wide matrix has the singular values of its transpose.
  const MatrixView<T> a = p.a.rows < p.a.cols ? p.a.transposed() : p.a;
  const int64_t m = a.rows, n = a.cols;
  if (n < 1 || n > max_batch_columns) return false;
  const int64_t workspace = isa().singular_workspace(m, n);
  const double work = static_cast<double>(n * n) * static_cast<double>(m + 2 * n) + 300.0;
  int64_t chunk =
      std::max<int64_t>(values_multiple, static_cast<int64_t>(batch_task / work) / values_multiple * values_multiple);
  chunk = std::max(
      chunk, (p.count / (batch_tasks * thread_count()) + values_multiple - 1) / values_multiple * values_multiple);
  parallel((p.count + chunk - 1) / chunk, [&](int64_t task) {
    const SingularTask<T> t{.m = m,
                            .n = n,
                            .a = a.data,
                            .a_stride = p.a_stride,
                            .row = a.row_stride,
                            .column = a.col_stride,
                            .s = p.s,
                            .ok = p.ok,
                            .elements = p.elements,
                            .from = task * chunk,
                            .to = std::min(p.count, (task + 1) * chunk),
                            .workspace = scratch(3, workspace)};
    if constexpr (sizeof(T) == 4)
      isa().singular_f(t);
    else
      isa().singular_d(t);
  });
  return true;
}

template bool singular_values(const SingularBatch<float>&);
template bool singular_values(const SingularBatch<double>&);

}  // namespace lstsq::kernels
