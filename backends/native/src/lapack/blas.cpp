#include "blas.h"

#include <algorithm>

#include "lapack.h"

namespace lstsq::drivers {

namespace {

// A matrix in the form that BLAS takes: columns without gaps, `ld` apart, to be transposed or not.
struct Operand {
  const double* data;
  std::int64_t ld;
  char trans;
  Buffer<double> packed;

  explicit Operand(const MatrixView<double>& a) {
    if (columns_are_dense(a)) {
      set(a, 'N');
    } else if (columns_are_dense(transposed(a))) {
      set(transposed(a), 'T');
    } else {
      load(a, packed.reserve(a.rows * a.cols), a.rows);
      set(column_major(packed.data(), a.rows, a.cols, a.rows), 'N');
    }
  }

 private:
  static bool columns_are_dense(const MatrixView<double>& a) {
    return (a.rows == 1 || a.row_stride == 1) && (a.cols == 1 || a.col_stride >= a.rows);
  }

  void set(const MatrixView<double>& stored, char t) {
    data = stored.data;
    ld = stored.cols == 1 ? stored.rows : stored.col_stride;
    trans = t;
  }
};

}  // namespace

void multiply(const MatrixView<double>& a, const MatrixView<double>& b, double* out) {
  if (a.rows == 0 || b.cols == 0 || a.cols == 0) {
    std::fill_n(out, a.rows * b.cols, 0.0);
    return;
  }
  // Row-major A B is column-major (A B)ᵀ = Bᵀ Aᵀ.
  const Operand left(transposed(b));
  const Operand right(transposed(a));
  lapack::gemm(
      left.trans, right.trans, b.cols, a.rows, a.cols, 1.0, left.data, left.ld, right.data, right.ld, 0.0, out, b.cols);
}

}  // namespace lstsq::drivers
