// Certified least squares by Gram matrix, LU and Cholesky, and orthogonal reduction for what is not certified: compute
// kernels in plain C++20, without MLX, LAPACK or BLAS.
//
// Every solver here either returns an answer that it can certify (docs/certificate.md says what that means and why) or
// says `declined` and leaves x unspecified: the caller then takes the general path. No function throws, save for
// std::bad_alloc. All may be called from several threads at once.
//
// Matrices are row-major where a view is not said to be of any strides. The exponents of views are 0, but for
// Reduction.
#pragma once

#include <complex>
#include <cstdint>
#include <type_traits>

#include "matrix_view.h"

namespace lstsq::kernels {

enum class Status : int {
  certified = 0,        // x (and residuals) are the answer; the rank is min(m, n)
  ill_conditioned = 1,  // the singular values are not provably above the cutoff, or refinement does not contract
  out_of_range = 2,     // NaN, infinity, or sizes that the certificate is not proved for (range.h)
  unsupported = 3,      // this shape has no kernel here
};

// What a number is made of: its real part, or that and the imaginary part.
template <class T>
struct Real {
  using type = T;
  static constexpr int parts = 1;
};
template <class T>
struct Real<std::complex<T>> {
  using type = T;
  static constexpr int parts = 2;
};

// One problem: a is m by n, b is m by k, x is n by k.
template <class T>
struct Problem {
  MatrixView<T> a;  // of real numbers: any strides
  MatrixView<T> b;
  double rcond;                                 // a singular value s is zero iff s <= rcond * s_max
  T* x;                                         // n by k, contiguous
  typename Real<T>::type* residuals = nullptr;  // k sums of squares of b - a x, or null: not wanted
  double* precise = nullptr;  // x before it was rounded to T, n by k (real and imaginary parts in turn), or null
  double* gram = nullptr;     // the upper triangle of A'A, n by n, where the report says that it was formed; or null
};

// How a problem was solved.
enum class Tier : int { none = 0, single_gram = 1, double_gram = 2, lu = 3 };

// What the certificate found, for tests and for the curious. Norms are those of the equilibrated matrix.
struct Report {
  double condition = 0;    // upper estimate of the equilibrated matrix's condition number
  double contraction = 0;  // a priori bound of the refinement's contraction
  int steps = 0;           // refinement steps taken
  bool has_gram = false;   // whether Problem::gram was written: for real matrices with more rows than columns
  Tier tier = Tier::none;
};

// Solve one problem, using every core. T: float, double, std::complex<float>, std::complex<double>.
template <class T>
Status solve(const Problem<T>& problem, Report* report = nullptr);

// Sums of squares of the columns of b - a x in double precision, in one pass over a. x is n by k, double precision (or
// complex double), rows of length k. Entries that overflow give infinity, as the sum itself would.
template <class T>
void residuals(const MatrixView<T>& a,
               const MatrixView<T>& b,
               const std::conditional_t<Real<T>::parts == 2, std::complex<double>, double>* x,
               double* sums);

// A (m by n, m >= n) = Q [R; 0]. All entries of A are finite, and none of their squares overflows. Squares may
// underflow only in columns that are negligible beside A. The triangle and the first n rows of Q'b are kept, and Q is
// not.
template <class T>
struct Reduction {
  MatrixView<T> a;  // m by n, any strides
  MatrixView<T> b;  // m by k, any strides
  double* r;        // n by n, column-major, zeros below the diagonal
  double* c;        // n by k, column-major: the first rows of Q'b
  double* left;     // k: the sums of squares of its other rows
};

// Reduce by Householder reflections in blocks of rows, using every core. No copy of A is made. T: float or double.
template <class T>
void reduce(const Reduction<T>& reduction);

// The same from the Gram matrix of A, in a third of the time or less: r is the triangle, within rounding, of a matrix
// whose columns differ from A's by less than 2^-28 of their norms; c and left are as of `reduce`. False where that
// cannot be proved, or A is not long enough, and then nothing means anything.
bool reduce_by_gram(const Reduction<float>& reduction);

// Products in single precision by another library, which has a processor's units for matrices where we have its
// vectors. Every sum of a product is over `depth` terms, in any order, in single precision.
struct SingleProducts {
  // The upper triangle of out (n by n in rows without gaps) = A'A, A depth by n in rows of lda; or with `wide` AA', A n
  // by depth.
  void (*gram)(bool wide, int64_t n, int64_t depth, const float* a, int64_t lda, float* out) = nullptr;
  // out (k by n in rows without gaps) = B'A, A depth by n in rows of lda, B depth by k in rows of ldb.
  void (*cross)(
      int64_t n, int64_t k, int64_t depth, const float* a, int64_t lda, const float* b, int64_t ldb, float* out) =
      nullptr;
};

// Form Gram matrices in single precision by these from now on; or, where they are null, by our own loops, as at first.
// Not while a solver runs.
void use_single_products(const SingleProducts& products);

// R (n by n, column-major, zeros below the diagonal) with R'R = A'A, or AA' of a wide A: n is the smaller size. From
// the Gram matrix, in less than half of the time of `reduce`, and singular values are what R is good for. False where
// one of them might differ from A's by more than 2^-28 of the largest, and r then means nothing.
bool gram_triangle(const MatrixView<float>& a, double* r);

// The diagonal d (n) and what is beside it, e (n - 1), of a tridiagonal matrix with the eigenvalues of a symmetric one,
// by one thread. a: n by n in rows, of which the upper triangle counts; it is overwritten. work: 4 n. The squares of
// its entries are in range.
void tridiagonalise(int64_t n, double* a, double* d, double* e, double* work);

// A batch of problems of one shape. a and b are those of the first element, in rows, and element i begins i strides
// after it. A stride of 0 repeats an operand. 1 <= n <= max_batch_columns and n <= m; everything else is `unsupported`
// (false).
inline constexpr int64_t max_batch_columns = 64;

template <class T>
struct Batch {
  int64_t count;
  MatrixView<T> a;
  int64_t a_stride;
  MatrixView<T> b;
  int64_t b_stride;
  double rcond;
  T* x;                                         // count by n by k, contiguous
  typename Real<T>::type* residuals = nullptr;  // count by k, contiguous, or null
  double* precise = nullptr;                    // x before it was rounded to T, likewise, or null
  uint8_t* ok;                                  // count: 1 where certified; elsewhere all else is unspecified
  // The singular values of elements whose Gram matrix is good enough for them, count by n, descending, and 1 for each
  // of those elements; or null.
  double* values = nullptr;
  uint8_t* found = nullptr;
};

// Solve all elements, using every core; false where the shape is not supported, and then nothing was written.
// T: float or double. Does not allocate per element, calls no library.
template <class T>
bool solve_batch(const Batch<T>& batch);

// A batch of small matrices of one shape, whose singular values are wanted. a is the first element, anywhere in memory;
// element i begins i strides after it.
template <class T>
struct SingularBatch {
  int64_t count;
  MatrixView<T> a;
  int64_t a_stride;
  T* s;         // min(m, n) for each element, contiguous; descending
  uint8_t* ok;  // 1 for each element of which they were found; elsewhere s of that element is unspecified
  const int64_t* elements = nullptr;  // the numbers of those that are wanted, `count`; or null: the first ones
};

// Find the singular values of all elements, in double precision and rounded once, using every core. Their errors are a
// few units of rounding of the largest. Not found are those of elements with NaN or infinity, and of sizes out of
// range (range.h); zeros are in range. False, and nothing was written, where min(m, n) is not within
// [1, max_batch_columns]. T: float or double.
template <class T>
bool singular_values(const SingularBatch<T>& batch);

// The instruction set chosen at run time: "avx512", "avx2" or "baseline". LSTSQ_ISA may name a lesser one (for tests).
const char* instruction_set();

}  // namespace lstsq::kernels
