#include "blas.h"

#include <algorithm>

#include "kernels/kernels.h"
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

// What the kernels have in rows are columns to BLAS: a matrix is its transpose, and its upper triangle the lower one.
void gram(bool wide, std::int64_t n, std::int64_t depth, const float* a, std::int64_t lda, float* out) {
  lapack::syrk('L', wide ? 'T' : 'N', n, depth, a, lda, out, n);
}

void cross(std::int64_t n,
           std::int64_t k,
           std::int64_t depth,
           const float* a,
           std::int64_t lda,
           const float* b,
           std::int64_t ldb,
           float* out) {
  lapack::gemm('N', 'T', n, k, depth, 1.0F, a, lda, b, ldb, 0.0F, out, n);
}

}  // namespace

void give_kernels_single_products(bool use) {
  kernels::use_single_products(use ? kernels::SingleProducts{.gram = gram, .cross = cross} : kernels::SingleProducts{});
}

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
