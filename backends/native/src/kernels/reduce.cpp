// Orthogonal reduction of a long matrix: each thread reduces its share of the rows, then the triangles are reduced to
// one (Demmel, Grigori, Hoemmen and Langou 2012, "Communication-optimal parallel and sequential QR and LU
// factorizations", section 2).
#include <cmath>
#include <memory>
#include <vector>

#include "core.h"
#include "isa.h"
#include "kernels.h"
#include "passes.h"
#include "refinement.h"

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

// |R x - c|^2 + left^2 = |A x - b|^2 for every x, where R'R = A'A, R y = c and left = |b - A y|, y the solution: so c
// and left are as good as y is, which is refined with the residual of A itself. (Q'b by R^-T A'b would lose more.)
bool reduce_by_gram(const Reduction<float>& p) {
  const int64_t m = p.a.rows, n = p.a.cols, k = p.b.cols, ld = padded(n);
  if (m < shortest_certified * n) return false;
  MatrixView<float> b{p.b.data, m, k, p.b.row_stride, 1};
  std::vector<float> in_rows;
  if (k > 1 && p.b.col_stride != 1) {
    in_rows.resize(static_cast<size_t>(m * k));
    copy_block(p.b, in_rows.data());
    b.data = in_rows.data(), b.row_stride = k;
  }
  const Operands<float> operands{p.a, b};
  const auto g = std::make_unique_for_overwrite<double[]>(static_cast<size_t>(ld * ld));
  std::vector<double> cross(static_cast<size_t>(k * ld)), y(static_cast<size_t>(n * k)), step(y.size()),
      decrease(static_cast<size_t>(k));
  const int64_t chain = gram(operands, false, false, g.get(), cross.data());
  Core core(n, g.get());
  if (core.factorise(chain, 0x1p-53, largest_norm * largest_norm, 0) != Status::certified) return false;
  if (!(core.backward < negligible<float>)) return false;

  const auto solve = [&](std::vector<double>& w, double* norms) {
    for (int64_t j = 0; j < n; ++j)
      for (int64_t c = 0; c < k; ++c) w[static_cast<size_t>(j * k + c)] = cross[static_cast<size_t>(c * ld + j)];
    core.solve(w.data(), k, norms);
  };
  if (k) {
    solve(y, nullptr);
    const bool done = core.contraction < negligible<float>;
    residual_pass(operands, y.data(), p.left, done ? nullptr : cross.data(), nullptr);
    if (!done) {
      solve(step, decrease.data());
      for (size_t i = 0; i < y.size(); ++i) y[i] += step[i];
      if (!lower_by_step(decrease.data(), p.left, k)) residual_pass(operands, y.data(), p.left, nullptr, nullptr);
    }
  }
  for (int64_t j = 0; j < n; ++j)
    for (int64_t i = 0; i < n; ++i) p.r[j * n + i] = i <= j ? g[static_cast<size_t>(i * ld + j)] / core.scale(j) : 0;
  for (int64_t c = 0; c < k; ++c)
    for (int64_t i = 0; i < n; ++i) {
      double sum = 0;
      for (int64_t j = i; j < n; ++j) sum += p.r[j * n + i] * y[static_cast<size_t>(j * k + c)];
      p.c[c * n + i] = sum;
    }
  return true;
}

}  // namespace lstsq::kernels
