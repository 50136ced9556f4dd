// Sums of squares of b - a x, taken from the operands themselves: for every case in which no factorisation left them.

#pragma once

#include "solver.h"

namespace lstsq::drivers {

/// The sums of squares of the columns of a column-major block, added to `sums`.
template <class W>
void add_squares(const W* block, Int rows, Int cols, Int ld, double* sums) {
  for (Int j = 0; j < cols; ++j) {
    double sum = 0;
    for (Int i = 0; i < rows; ++i) sum += square(block[i + j * ld]);
    sums[j] += sum;
  }
}

template <class T>
class Residuals {
 public:
  using W = WorkOf<T>;

  /// sums[j] = |b_j - a x_j|^2. Reads the operands in tiles, so that it needs the same memory for every shape.
  void compute(const MatrixView<T>& a, const MatrixView<T>& b, const W* x, Int ldx, double* sums) {
    const Int tile_cols = std::min<Int>(a.cols, 4096);
    const Int tile_rows = std::min<Int>(a.rows, std::max<Int>(16, 65536 / tile_cols));
    W* tile = tile_.reserve(tile_rows * tile_cols);
    W* r = r_.reserve(tile_rows * b.cols);
    std::fill(sums, sums + b.cols, 0.0);
    for (Int i = 0; i < a.rows; i += tile_rows) {
      const Int rows = std::min(tile_rows, a.rows - i);
      load(b.rows_from(i, rows), r, rows);
      for (Int j = 0; j < a.cols; j += tile_cols) {
        const Int cols = std::min(tile_cols, a.cols - j);
        const MatrixView<T> part = a.rows_from(i, rows).cols_from(j, cols);
        // The transpose of row-major memory is read and written straight through.
        load(part.transposed(), tile, cols);
        lapack::gemm(/*transa=*/'T',
                     /*transb=*/'N',
                     /*m=*/rows,
                     /*n=*/b.cols,
                     /*k=*/cols,
                     /*alpha=*/W(-1),
                     /*a=*/tile,
                     /*lda=*/cols,
                     /*b=*/x + j,
                     /*ldb=*/ldx,
                     /*beta=*/W(1),
                     /*c=*/r,
                     /*ldc=*/rows);
      }
      add_squares(r, rows, b.cols, rows, sums);
    }
  }

  /// The same for x = 0.
  void compute_at_zero(const MatrixView<T>& b, double* sums) {
    const Int tile_rows = std::min<Int>(b.rows, std::max<Int>(16, 65536 / b.cols));
    W* r = r_.reserve(tile_rows * b.cols);
    std::fill(sums, sums + b.cols, 0.0);
    for (Int i = 0; i < b.rows; i += tile_rows) {
      const Int rows = std::min(tile_rows, b.rows - i);
      load(b.rows_from(i, rows), r, rows);
      add_squares(r, rows, b.cols, rows, sums);
    }
  }

 private:
  Buffer<W> tile_, r_;
};

}  // namespace lstsq::drivers
