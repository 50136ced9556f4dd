// What the singular values of a Gram matrix are found from: its triangle, or a tridiagonal matrix.
#include <memory>

#include "core.h"
#include "isa.h"
#include "refinement.h"
#include "solvers.h"

namespace lstsq::kernels {

bool gram_triangle(const MatrixView<float>& a, double* r) {
  const bool wide = a.rows < a.cols;
  const int64_t narrow = wide ? a.rows : a.cols, ld = padded(narrow);
  const auto g = std::make_unique_for_overwrite<double[]>(static_cast<size_t>(ld * ld));
  const int64_t chain = gram(Operands<float>{a, {nullptr, a.rows, 0, 0, 1}}, wide, false, g.get(), nullptr);
  Core core(narrow, g.get());
  if (core.factorise(chain, 0x1p-53, largest_norm * largest_norm, 0) != Status::certified) return false;
  if (!(core.loss < negligible<float>)) return false;
  for (int64_t j = 0; j < narrow; ++j)
    for (int64_t i = 0; i < narrow; ++i) r[j * narrow + i] = i <= j ? g[i * ld + j] / core.scale(j) : 0;
  return true;
}

void tridiagonalise(int64_t n, double* a, double* d, double* e, double* work) {
  isa().tridiagonal(n, a, d, e, work);
}

}  // namespace lstsq::kernels
