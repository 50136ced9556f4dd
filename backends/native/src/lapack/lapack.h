// LAPACK and BLAS as SciPy has them: a table of function pointers, filled once at import.
//
// SciPy publishes its LAPACK through the capsules of scipy.linalg.cython_lapack and cython_blas: OpenBLAS, MKL or
// Accelerate, with no Fortran compiler and no link step. Its integers are 32 or 64 bits wide. Every integer goes by
// address, and on a little-endian machine the low half of a 64-bit integer is the same number in 32 bits; so every
// integer here is 64 bits wide, and what LAPACK writes is read back through `value`. One path serves both widths.

#pragma once

#include <algorithm>
#include <bit>
#include <complex>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace lstsq::lapack {

static_assert(std::endian::native == std::endian::little);

using Int = std::int64_t;
using Complex = std::complex<double>;

/// An integer that LAPACK wrote: its low half. The numbers that we read (info, rank, workspace sizes that fit) are
/// checked to fit in 32 bits beforehand.
inline int value(Int written) {
  return static_cast<std::int32_t>(written);
}

// Name and type of every routine that is used. To use another one, add its line here and its wrapper below.
// clang-format off
#define LSTSQ_MLX_LAPACK_ROUTINES(X)                                                                                   \
  X(ilaver, void(Int*, Int*, Int*))                                                                                    \
  X(dgelsd, void(Int*, Int*, Int*, double*, Int*, double*, Int*, double*, double*, Int*, double*, Int*, Int*, Int*))   \
  X(zgelsd, void(Int*, Int*, Int*, Complex*, Int*, Complex*, Int*, double*, double*, Int*, Complex*, Int*, double*,    \
                 Int*, Int*))                                                                                          \
  X(dgesdd, void(char*, Int*, Int*, double*, Int*, double*, double*, Int*, double*, Int*, double*, Int*, Int*, Int*))  \
  X(zgesdd, void(char*, Int*, Int*, Complex*, Int*, double*, Complex*, Int*, Complex*, Int*, Complex*, Int*, double*,  \
                 Int*, Int*))                                                                                          \
  X(dgesvd, void(char*, char*, Int*, Int*, double*, Int*, double*, double*, Int*, double*, Int*, double*, Int*, Int*)) \
  X(zgesvd, void(char*, char*, Int*, Int*, Complex*, Int*, double*, Complex*, Int*, Complex*, Int*, Complex*, Int*,    \
                 double*, Int*))                                                                                       \
  X(dgeqrf, void(Int*, Int*, double*, Int*, double*, double*, Int*, Int*))                                             \
  X(zgeqrf, void(Int*, Int*, Complex*, Int*, Complex*, Complex*, Int*, Int*))                                          \
  X(dormqr, void(char*, char*, Int*, Int*, Int*, double*, Int*, double*, double*, Int*, double*, Int*, Int*))          \
  X(zunmqr, void(char*, char*, Int*, Int*, Int*, Complex*, Int*, Complex*, Complex*, Int*, Complex*, Int*, Int*))

#define LSTSQ_MLX_BLAS_ROUTINES(X)                                                                                     \
  X(dgemm, void(char*, char*, Int*, Int*, Int*, double*, double*, Int*, double*, Int*, double*, double*, Int*))        \
  X(zgemm, void(char*, char*, Int*, Int*, Int*, Complex*, Complex*, Int*, Complex*, Int*, Complex*, Complex*, Int*))   \
  X(dtrsm, void(char*, char*, char*, char*, Int*, Int*, double*, double*, Int*, double*, Int*))                        \
  X(ztrsm, void(char*, char*, char*, char*, Int*, Int*, Complex*, Complex*, Int*, Complex*, Int*))                     \
  X(dtrsv, void(char*, char*, char*, Int*, double*, Int*, double*, Int*))                                              \
  X(ztrsv, void(char*, char*, char*, Int*, Complex*, Int*, Complex*, Int*))                                            \
  X(dtrmv, void(char*, char*, char*, Int*, double*, Int*, double*, Int*))                                              \
  X(ztrmv, void(char*, char*, char*, Int*, Complex*, Int*, Complex*, Int*))
// clang-format on

struct Table {
#define LSTSQ_MLX_MEMBER(name, type) std::add_pointer_t<type> name = nullptr;
  LSTSQ_MLX_LAPACK_ROUTINES(LSTSQ_MLX_MEMBER)
  LSTSQ_MLX_BLAS_ROUTINES(LSTSQ_MLX_MEMBER)
#undef LSTSQ_MLX_MEMBER
};

/// The routines. Written by `load` before the first solve, only read afterwards.
extern Table table;

/// Fill the table. `lookup(library, name)` gives the address of a routine of "lapack" or "blas".
template <class Lookup>
void load(Lookup&& lookup) {
#define LSTSQ_MLX_LAPACK(name, type) table.name = reinterpret_cast<std::add_pointer_t<type>>(lookup("lapack", #name));
#define LSTSQ_MLX_BLAS(name, type) table.name = reinterpret_cast<std::add_pointer_t<type>>(lookup("blas", #name));
  LSTSQ_MLX_LAPACK_ROUTINES(LSTSQ_MLX_LAPACK)
  LSTSQ_MLX_BLAS_ROUTINES(LSTSQ_MLX_BLAS)
#undef LSTSQ_MLX_LAPACK
#undef LSTSQ_MLX_BLAS
}

/// The largest integer that this LAPACK takes. Throws std::logic_error before `load`.
Int largest_integer();

// ---------------------------------------------------------------------------------------------------------------------
// Wrappers: one name for both fields, integers by value, info returned. `rwork` is used by the complex routine only.
// ---------------------------------------------------------------------------------------------------------------------

inline int gelsd(Int m,
                 Int n,
                 Int nrhs,
                 double* a,
                 Int lda,
                 double* b,
                 Int ldb,
                 double* s,
                 double rcond,
                 Int* rank,
                 double* work,
                 Int lwork,
                 double* /*rwork*/,
                 Int* iwork) {
  Int info = 0;
  table.dgelsd(&m, &n, &nrhs, a, &lda, b, &ldb, s, &rcond, rank, work, &lwork, iwork, &info);
  return value(info);
}

inline int gelsd(Int m,
                 Int n,
                 Int nrhs,
                 Complex* a,
                 Int lda,
                 Complex* b,
                 Int ldb,
                 double* s,
                 double rcond,
                 Int* rank,
                 Complex* work,
                 Int lwork,
                 double* rwork,
                 Int* iwork) {
  Int info = 0;
  table.zgelsd(&m, &n, &nrhs, a, &lda, b, &ldb, s, &rcond, rank, work, &lwork, rwork, iwork, &info);
  return value(info);
}

inline int gesdd(char jobz,
                 Int m,
                 Int n,
                 double* a,
                 Int lda,
                 double* s,
                 double* u,
                 Int ldu,
                 double* vt,
                 Int ldvt,
                 double* work,
                 Int lwork,
                 double* /*rwork*/,
                 Int* iwork) {
  Int info = 0;
  table.dgesdd(&jobz, &m, &n, a, &lda, s, u, &ldu, vt, &ldvt, work, &lwork, iwork, &info);
  return value(info);
}

inline int gesdd(char jobz,
                 Int m,
                 Int n,
                 Complex* a,
                 Int lda,
                 double* s,
                 Complex* u,
                 Int ldu,
                 Complex* vt,
                 Int ldvt,
                 Complex* work,
                 Int lwork,
                 double* rwork,
                 Int* iwork) {
  Int info = 0;
  table.zgesdd(&jobz, &m, &n, a, &lda, s, u, &ldu, vt, &ldvt, work, &lwork, rwork, iwork, &info);
  return value(info);
}

inline int gesvd(char jobu,
                 char jobvt,
                 Int m,
                 Int n,
                 double* a,
                 Int lda,
                 double* s,
                 double* u,
                 Int ldu,
                 double* vt,
                 Int ldvt,
                 double* work,
                 Int lwork,
                 double* /*rwork*/) {
  Int info = 0;
  table.dgesvd(&jobu, &jobvt, &m, &n, a, &lda, s, u, &ldu, vt, &ldvt, work, &lwork, &info);
  return value(info);
}

inline int gesvd(char jobu,
                 char jobvt,
                 Int m,
                 Int n,
                 Complex* a,
                 Int lda,
                 double* s,
                 Complex* u,
                 Int ldu,
                 Complex* vt,
                 Int ldvt,
                 Complex* work,
                 Int lwork,
                 double* rwork) {
  Int info = 0;
  table.zgesvd(&jobu, &jobvt, &m, &n, a, &lda, s, u, &ldu, vt, &ldvt, work, &lwork, rwork, &info);
  return value(info);
}

inline int geqrf(Int m, Int n, double* a, Int lda, double* tau, double* work, Int lwork) {
  Int info = 0;
  table.dgeqrf(&m, &n, a, &lda, tau, work, &lwork, &info);
  return value(info);
}

inline int geqrf(Int m, Int n, Complex* a, Int lda, Complex* tau, Complex* work, Int lwork) {
  Int info = 0;
  table.zgeqrf(&m, &n, a, &lda, tau, work, &lwork, &info);
  return value(info);
}

/// Multiply c by Q of geqrf from the left, or by its adjoint.
inline int unmqr(
    bool adjoint, Int m, Int n, Int k, double* a, Int lda, double* tau, double* c, Int ldc, double* work, Int lwork) {
  char side = 'L', trans = adjoint ? 'T' : 'N';
  Int info = 0;
  table.dormqr(&side, &trans, &m, &n, &k, a, &lda, tau, c, &ldc, work, &lwork, &info);
  return value(info);
}

inline int unmqr(bool adjoint,
                 Int m,
                 Int n,
                 Int k,
                 Complex* a,
                 Int lda,
                 Complex* tau,
                 Complex* c,
                 Int ldc,
                 Complex* work,
                 Int lwork) {
  char side = 'L', trans = adjoint ? 'C' : 'N';
  Int info = 0;
  table.zunmqr(&side, &trans, &m, &n, &k, a, &lda, tau, c, &ldc, work, &lwork, &info);
  return value(info);
}

inline void gemm(char transa,
                 char transb,
                 Int m,
                 Int n,
                 Int k,
                 double alpha,
                 const double* a,
                 Int lda,
                 const double* b,
                 Int ldb,
                 double beta,
                 double* c,
                 Int ldc) {
  table.dgemm(
      &transa, &transb, &m, &n, &k, &alpha, const_cast<double*>(a), &lda, const_cast<double*>(b), &ldb, &beta, c, &ldc);
}

inline void gemm(char transa,
                 char transb,
                 Int m,
                 Int n,
                 Int k,
                 Complex alpha,
                 const Complex* a,
                 Int lda,
                 const Complex* b,
                 Int ldb,
                 Complex beta,
                 Complex* c,
                 Int ldc) {
  table.zgemm(&transa,
              &transb,
              &m,
              &n,
              &k,
              &alpha,
              const_cast<Complex*>(a),
              &lda,
              const_cast<Complex*>(b),
              &ldb,
              &beta,
              c,
              &ldc);
}

/// Solve with a triangle from the left: op(r) x = b, x over b. `uplo` is 'U' or 'L', `trans` is 'N' or 'C'.
inline void trsm(char uplo, char trans, Int m, Int n, const double* r, Int ldr, double* b, Int ldb) {
  char side = 'L', diag = 'N';
  double one = 1;
  table.dtrsm(&side, &uplo, &trans, &diag, &m, &n, &one, const_cast<double*>(r), &ldr, b, &ldb);
}

inline void trsm(char uplo, char trans, Int m, Int n, const Complex* r, Int ldr, Complex* b, Int ldb) {
  char side = 'L', diag = 'N';
  Complex one = 1;
  table.ztrsm(&side, &uplo, &trans, &diag, &m, &n, &one, const_cast<Complex*>(r), &ldr, b, &ldb);
}

/// Solve with a triangle: op(r) y = x, y over x. `uplo` is 'U' or 'L', `trans` is 'N' or 'C'.
inline void trsv(char uplo, char trans, Int n, const double* r, Int ldr, double* x) {
  char diag = 'N';
  Int one = 1;
  table.dtrsv(&uplo, &trans, &diag, &n, const_cast<double*>(r), &ldr, x, &one);
}

inline void trsv(char uplo, char trans, Int n, const Complex* r, Int ldr, Complex* x) {
  char diag = 'N';
  Int one = 1;
  table.ztrsv(&uplo, &trans, &diag, &n, const_cast<Complex*>(r), &ldr, x, &one);
}

/// Multiply by a triangle: x becomes op(r) x. `uplo` is 'U' or 'L', `trans` is 'N' or 'C'.
inline void trmv(char uplo, char trans, Int n, const double* r, Int ldr, double* x) {
  char diag = 'N';
  Int one = 1;
  table.dtrmv(&uplo, &trans, &diag, &n, const_cast<double*>(r), &ldr, x, &one);
}

inline void trmv(char uplo, char trans, Int n, const Complex* r, Int ldr, Complex* x) {
  char diag = 'N';
  Int one = 1;
  table.ztrmv(&uplo, &trans, &diag, &n, const_cast<Complex*>(r), &ldr, x, &one);
}

/// The size that a workspace query answered with. Single-precision queries round down; these are double, and exact.
inline Int queried(double size) {
  return std::max<Int>(1, static_cast<Int>(size));
}
inline Int queried(Complex size) {
  return queried(size.real());
}

}  // namespace lstsq::lapack
