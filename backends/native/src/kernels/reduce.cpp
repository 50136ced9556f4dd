// Orthogonal reduction of a long matrix: each thread reduces its share of the rows, then the triangles are reduced to
// one (Demmel, Grigori, Hoemmen and Langou 2012, "Communication-optimal parallel and sequential QR and LU
// factorizations", section 2).
#include <vector>

#include "isa.h"
#include "kernels.h"
#include "passes.h"

namespace lstsq::kernels {

template <class T>
void reduce(const Reduction<T>& p) {
  const int64_t m = p.a.rows, n = p.a.cols, k = p.b.cols;
  const int64_t ld = padded(n) + padded(k), size = n * ld + k;
  // The triangles of two threads cost as much as n / 3 rows or so.
  const double work = static_cast<double>(n) * static_cast<double>(n + k);
  const int64_t cuts = std::min<int64_t>(pieces(m, work, reduce_piece, 1), std::max<int64_t>(1, m / (2 * n)));
  std::vector<double> triangles(static_cast<size_t>(cuts * size), 0.0);
  parallel(cuts, [&](int64_t cut) {
    double* r = triangles.data() + cut * size;
    const StackTask<T> task{p.a, p.b, m * cut / cuts, m * (cut + 1) / cuts, false, r, ld, r + n * ld};
    if constexpr (sizeof(T) == 4)
      isa().stack_f(task);
    else
      isa().stack_d(task);
  });
  double* r = triangles.data();
  double* left = r + n * ld;
  for (int64_t cut = 1; cut < cuts; ++cut) {
    const double* other = r + cut * size;
    for (int64_t c = 0; c < k; ++c) left[c] += other[n * ld + c];
    const MatrixView<double> upper{other, n, n, ld, 1}, right{other + padded(n), n, k, ld, 1};
    isa().stack_d({upper, right, 0, n, true, r, ld, left});
  }
  for (int64_t j = 0; j < n; ++j)
    for (int64_t i = 0; i < n; ++i) p.r[j * n + i] = i <= j ? r[i * ld + j] : 0;
  for (int64_t c = 0; c < k; ++c) {
    for (int64_t i = 0; i < n; ++i) p.c[c * n + i] = r[i * ld + padded(n) + c];
    p.left[c] = left[c];
  }
}

template void reduce(const Reduction<float>&);
template void reduce(const Reduction<double>&);

}  // namespace lstsq::kernels
