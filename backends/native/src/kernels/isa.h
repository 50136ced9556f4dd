// What is compiled once per instruction set: the inner loops, behind a table of function pointers.
//
// "Tall" below means: G = A'A is wanted, the inner products run down the columns. "Wide": G = AA', along the rows.
// Complex matrices come as real ones with interleaved parts, twice as many columns; the caller folds the result.
#pragma once

#include <cstdint>

#include "matrix_view.h"
#include "tuning.h"

namespace lstsq::kernels {

static constexpr int64_t padded(int64_t n) {
  return (n + pad_to - 1) / pad_to * pad_to;
}

// Accumulate into the upper triangle of g (padded(n) square, row-major, initialised by the caller) and into c
// (k rows of padded(n)): over the inner indices [from, to), g += A'A (or AA'), c += (A'B)'.
template <class T>
struct GramTask {
  const T* a;
  int64_t lda, n;
  const T* b;  // tall only; may be null with k = 0
  int64_t ldb, k;
  bool wide;
  bool single;  // products and sums of a block in single precision: twice as fast, for a preconditioner
  int64_t from, to;
  double* g;
  double* c;
};

// For the rows [from, to): r = b - a x; sums[j] += |r_j|^2; and, where g is given, g (k rows of padded(n)) += (A'r)'.
// x is n rows of k. Where r is given, r is stored there (to - from rows of k).
template <class T>
struct ResidualTask {
  const T* a;
  int64_t lda, n;
  const T* b;
  int64_t ldb, k;
  const double* x;
  int64_t from, to;
  double* sums;
  double* g;
  double* r;
};

// y (columns [from, to), rows of k) = A' v: the long product of a wide problem. v is m rows of k.
template <class T>
struct TransposeTask {
  const T* a;
  int64_t lda, m;
  const double* v;
  int64_t k, from, to;
  double* y;
};

template <class T>
struct BatchTask {
  int64_t m, n, k;
  const T* a;
  int64_t a_stride, lda;
  const T* b;
  int64_t b_stride, ldb;
  double rcond;
  T* x;
  T* residuals;
  double* precise;
  uint8_t* ok;
  double* values;  // n for each element, or null; and of which elements they were found
  uint8_t* found;
  int64_t from, to;  // the elements to do; pointers above are those of element 0
  void* workspace;   // batch_workspace bytes, aligned to 64
};

// Singular values, descending, of the elements [from, to) of a batch: m by n, m >= n.
template <class T>
struct SingularTask {
  int64_t m, n;
  const T* a;
  int64_t a_stride, row, column;
  T* s;                     // n for each element
  uint8_t* ok;              // 0 where they were not found
  const int64_t* elements;  // or null; [from, to) are places in it
  int64_t from, to;
  void* workspace;  // singular_workspace bytes, aligned to 64
};

// Reduce [R c; A b], for the rows [from, to) of A and b, to [R' c'; 0 rest] by reflections.
template <class T>
struct StackTask {
  MatrixView<T> a, b;
  int64_t from, to;
  bool triangular;  // row i of a begins with i zeros, and `from` is 0
  double* r;        // as many rows of ldr as A has columns, c from column padded(n) on
  int64_t ldr;
  double* left;  // one for each column of b: the squares of `rest` are added
};

// LU factors of A (n by n, rows of ld >= padded(n), zeros beyond n), as lu-inl.h says, in panels of rows as above.
template <class T>
struct LuIsa {
  bool (*panel)(int64_t n, T* lu, int64_t ld, int32_t* pivots, int64_t at, int64_t depth, T* packed);
  // Rows [from, to), at most lu_rows of them.
  void (*update)(int64_t n,
                 T* lu,
                 int64_t ld,
                 const int32_t* pivots,
                 int64_t at,
                 int64_t depth,
                 const T* packed,
                 int64_t from,
                 int64_t to);
  // Solve A w = w, or A'w = w; k is 4 or, for A itself, 1.
  void (*solve)(int64_t n, const T* lu, int64_t ld, const int32_t* pivots, bool transposed, double* w, int64_t k);
};

struct Isa {
  const char* name;
  void (*gram_f)(const GramTask<float>&);
  void (*gram_d)(const GramTask<double>&);
  void (*residual_f)(const ResidualTask<float>&);
  void (*residual_d)(const ResidualTask<double>&);
  void (*transpose_f)(const TransposeTask<float>&);
  void (*transpose_d)(const TransposeTask<double>&);
  void (*batch_f)(const BatchTask<float>&);
  void (*batch_d)(const BatchTask<double>&);
  int64_t (*batch_workspace)(int64_t m, int64_t n, int64_t k);
  // Cholesky factors in place, row-major g (n by n, rows of ldg) to its upper triangle R with R'R = g; false where a
  // pivot is not positive. The whole of it; or, for large n, the rows [at, at + depth), which all rows before them have
  // updated, and `packed` (depth rows of padded(n) at most) for the update of the rows [from, to) after them. at and
  // depth are multiples of pad_to, from and to those of 4, save at the end.
  bool (*cholesky)(int64_t n, double* g, int64_t ldg);
  bool (*cholesky_panel)(int64_t n, double* g, int64_t ldg, int64_t at, int64_t depth, double* packed);
  void (*cholesky_update)(
      int64_t n, double* g, int64_t ldg, int64_t at, int64_t depth, const double* packed, int64_t from, int64_t to);
  // In place on w (n rows of ldw): w = R'^-1 w, or R^-1 w. `columns` is a multiple of 8. Or on one vector.
  void (*solve_rt)(int64_t n, const double* r, int64_t ldr, double* w, int64_t columns, int64_t ldw);
  void (*solve_r)(int64_t n, const double* r, int64_t ldr, double* w, int64_t columns, int64_t ldw);
  void (*solve_rt_one)(int64_t n, const double* r, int64_t ldr, double* w);
  void (*solve_r_one)(int64_t n, const double* r, int64_t ldr, double* w);
  void (*stack_f)(const StackTask<float>&);
  void (*stack_d)(const StackTask<double>&);
  void (*singular_f)(const SingularTask<float>&);
  void (*singular_d)(const SingularTask<double>&);
  int64_t (*singular_workspace)(int64_t m, int64_t n);
  void (*tridiagonal)(int64_t n, double* a, double* d, double* e, double* work);
  LuIsa<float> lu_f;
  LuIsa<double> lu_d;
};

const Isa& isa();  // the one to use, chosen once

// This thread's scratch memory, aligned to 64, kept for the next call; the contents of a slot are lost when it grows.
void* scratch(int slot, int64_t bytes);

}  // namespace lstsq::kernels
