// Singular values of batches of small matrices, spread over the threads.
#include "chunks.h"
#include "isa.h"
#include "kernels.h"

namespace lstsq::kernels {

template <class T>
bool singular_values(const SingularBatch<T>& p) {
  // A wide matrix has the singular values of its transpose.
  const MatrixView<T> a = p.a.rows < p.a.cols ? p.a.transposed() : p.a;
  const int64_t m = a.rows, n = a.cols;
  if (n < 1 || n > max_batch_columns) return false;
  const int64_t workspace = isa().singular_workspace(m, n);
  const double work = static_cast<double>(n * n) * static_cast<double>(m + 2 * n) + 300.0;
  in_chunks(p.count, values_multiple, work, [&](int64_t from, int64_t to) {
    const SingularTask<T> t{.m = m,
                            .n = n,
                            .a = a.data,
                            .a_stride = p.a_stride,
                            .row = a.row_stride,
                            .column = a.col_stride,
                            .s = p.s,
                            .ok = p.ok,
                            .elements = p.elements,
                            .from = from,
                            .to = to,
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
