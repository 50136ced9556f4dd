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
  const int64_t ld = padded(p.n) + padded(p.k), size = p.n * ld + p.k;
  // The triangles of two threads cost as much as n / 3 rows or so.
  const double work = static_cast<double>(p.n) * static_cast<double>(p.n + p.k);
  const int64_t cuts = std::min<int64_t>(pieces(p.m, work, reduce_piece, 1), std::max<int64_t>(1, p.m / (2 * p.n)));
  std::vector<double> triangles(static_cast<size_t>(cuts * size), 0.0);
  parallel(cuts, [&](int64_t cut) {
    double* r = triangles.data() + cut * size;
    const StackTask<T> task{p.a, p.n, p.b, p.k, p.m * cut / cuts, p.m * (cut + 1) / cuts, false, r, ld, r + p.n * ld};
    if constexpr (sizeof(T) == 4)
      isa().stack_f(task);
    else
      isa().stack_d(task);
  });
  double* r = triangles.data();
  double* left = r + p.n * ld;
  for (int64_t cut = 1; cut < cuts; ++cut) {
    const double* other = r + cut * size;
    for (int64_t c = 0; c < p.k; ++c) left[c] += other[p.n * ld + c];
    const Strided<double> upper{other, ld, 1}, right{other + padded(p.n), ld, 1};
    isa().stack_d({upper, p.n, right, p.k, 0, p.n, true, r, ld, left});
  }
  for (int64_t j = 0; j < p.n; ++j)
    for (int64_t i = 0; i < p.n; ++i) p.r[j * p.n + i] = i <= j ? r[i * ld + j] : 0;
  for (int64_t c = 0; c < p.k; ++c) {
    for (int64_t i = 0; i < p.n; ++i) p.c[c * p.n + i] = r[i * ld + padded(p.n) + c];
    p.left[c] = left[c];
  }
}

template void reduce(const Reduction<float>&);
template void reduce(const Reduction<double>&);

}  // namespace lstsq::kernels
