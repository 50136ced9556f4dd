// Batches of small problems, spread over the threads.
#include "chunks.h"
#include "isa.h"
#include "kernels.h"

namespace lstsq::kernels {

template <class T>
bool solve_batch(const Batch<T>& p) {
  const int64_t m = p.a.rows, n = p.a.cols, k = p.b.cols;
  const int64_t elements = m * padded(n + k);
  if (n < 1 || n > max_batch_columns || m < n || k < 1 || elements > largest_batch_element) return false;
  const int64_t workspace = isa().batch_workspace(m, n, k);
  const double work = static_cast<double>(m) * static_cast<double>((n + 2 * k) * n) + 300.0;
  in_chunks(p.count, batch_multiple, work, [&](int64_t from, int64_t to) {
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
                         .from = from,
                         .to = to,
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
