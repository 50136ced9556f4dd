// Gram matrices in single precision by another library's products, block by block as ours are summed.
#include <limits>
#include <memory>

#include "kernels.h"
#include "passes.h"

namespace lstsq::kernels {

namespace {

SingleProducts others;  // Written at import, before the first solve.

// to (rows of ld) += from (rows of cols); of a square matrix the upper triangle alone.
void add(int64_t rows, int64_t cols, bool triangle, const float* from, double* to, int64_t ld) {
  const int64_t strips = pieces(rows, static_cast<double>(cols), gram_piece, 1);
  parallel(strips, [&](int64_t strip) {
    for (int64_t i = rows * strip / strips; i < rows * (strip + 1) / strips; ++i)
      for (int64_t j = triangle ? i : 0; j < cols; ++j) to[i * ld + j] += static_cast<double>(from[i * cols + j]);
  });
}

}  // namespace

void use_single_products(const SingleProducts& products) {
  others = products;
}

bool gram_by_others(const Operands<float>& p, bool wide, double* g, double* c) {
  const int64_t n = wide ? p.a.rows : p.a.cols, inner = wide ? p.a.cols : p.a.rows, k = wide ? 0 : p.b.cols,
                ldg = padded(n);
  // Of what is stepped over in memory, BLAS may take no more than 32 bits. Rows that overlap it does not know at all.
  constexpr int64_t most = std::numeric_limits<int32_t>::max();
  const int64_t own = p.a.col_stride == 1 ? p.a.row_stride : p.a.cols;
  const bool fits = own >= p.a.cols && own <= most && (k == 0 || (p.b.row_stride >= k && p.b.row_stride <= most));
  if (others.gram == nullptr || !fits) return false;

  std::fill(g, g + ldg * ldg, 0.0);
  if (k) std::fill(c, c + k * ldg, 0.0);
  const auto sums = std::make_unique_for_overwrite<float[]>(static_cast<size_t>(std::max(n, k) * n));
  const auto in_blocks = [&](const float* a, int64_t lda, int64_t from, int64_t to, int64_t first) {
    // As short as our own blocks: the bounds of the error count on it.
    for (int64_t at = from; at < to; at += longest_gram_block) {
      const int64_t depth = std::min(longest_gram_block, to - at);
      const float* block = a + (wide ? at : at * lda);
      others.gram(wide, n, depth, block, lda, sums.get());
      add(n, n, true, sums.get(), g, ldg);
      if (k == 0) continue;
      others.cross(n, k, depth, block, lda, p.b.data + (first + at) * p.b.row_stride, p.b.row_stride, sums.get());
      add(k, n, false, sums.get(), c, ldg);
    }
  };
  if (wide)
    in_columns(p.a, 0, inner, in_blocks);
  else
    in_rows(p.a, 0, inner, in_blocks);
  return true;
}

}  // namespace lstsq::kernels
