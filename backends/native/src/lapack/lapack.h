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
#include <type_traits>

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
#define LSTSQ_LAPACK_ROUTINES(X)                                                                                   \
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
  X(dsterf, void(Int*, double*, double*, Int*))                                                                        \
  X(dgeqrf, void(Int*, Int*, double*, Int*, double*, double*, Int*, Int*))                                             \
  X(zgeqrf, void(Int*, Int*, Complex*, Int*, Complex*, Complex*, Int*, Int*))                                          \
  X(dormqr, void(char*, char*, Int*, Int*, Int*, double*, Int*, double*, double*, Int*, double*, Int*, Int*))          \
  X(zunmqr, void(char*, char*, Int*, Int*, Int*, Complex*, Int*, Complex*, Complex*, Int*, Complex*, Int*, Int*))

#define LSTSQ_BLAS_ROUTINES(X)                                                                                     \
  X(ssyrk, void(char*, char*, Int*, Int*, float*, float*, Int*, float*, float*, Int*))                                 \
  X(sgemm, void(char*, char*, Int*, Int*, Int*, float*, float*, Int*, float*, Int*, float*, float*, Int*))             \
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
#define LSTSQ_MEMBER(name, type) std::add_pointer_t<type> name = nullptr;
  LSTSQ_LAPACK_ROUTINES(LSTSQ_MEMBER)
  LSTSQ_BLAS_ROUTINES(LSTSQ_MEMBER)
#undef LSTSQ_MEMBER
};

/// The routines. Written by `load` before the first solve, only read afterwards.
extern Table table;

/// Fill the table. `lookup(library, name)` gives the address of a routine of "lapack" or "blas".
template <class Lookup>
void load(Lookup&& lookup) {
#define LSTSQ_LAPACK(name, type) table.name = reinterpret_cast<std::add_pointer_t<type>>(lookup("lapack", #name));
#define LSTSQ_BLAS(name, type) table.name = reinterpret_cast<std::add_pointer_t<type>>(lookup("blas", #name));
  LSTSQ_LAPACK_ROUTINES(LSTSQ_LAPACK)
  LSTSQ_BLAS_ROUTINES(LSTSQ_BLAS)
#undef LSTSQ_LAPACK
#undef LSTSQ_BLAS
}

/// The largest integer that this LAPACK takes. Throws std::logic_error before `load`.
Int largest_integer();

// ---------------------------------------------------------------------------------------------------------------------
// Calls: one name for both fields, scalars by value, info returned
// ---------------------------------------------------------------------------------------------------------------------

namespace detail {

/// What goes to a routine of Fortran, to which everything goes by address: an array as it is, or a scalar that is kept
/// here meanwhile.
template <class P>
struct Argument {
  P scalar{};
  P* address;

  Argument(P value) : scalar(value), address(&scalar) {}
  Argument(P* array) : address(array) {}
  // What is only read is not declared so in Fortran.
  Argument(const P* array) : address(const_cast<P*>(array)) {}
  Argument(const Argument&) = delete;
};

template <class... P, class... A>
void call(void (*routine)(P*...), A... arguments) {
  routine(Argument<P>(arguments).address...);
}

/// Of a routine whose last argument is info.
template <class Routine, class... A>
int call_with_info(Routine routine, A... arguments) {
  Int info = 0;
  call(routine, arguments..., &info);
  return value(info);
}

}  // namespace detail

template <class W>
inline constexpr bool is_complex = std::is_same_v<W, Complex>;

/// Least squares by divide and conquer. `rwork` is used for complex matrices only, here and below.
template <class W>
int gelsd(Int m,
          Int n,
          Int nrhs,
          W* a,
          Int lda,
          W* b,
          Int ldb,
          double* s,
          double rcond,
          Int* rank,
          W* work,
          Int lwork,
          double* rwork,
          Int* iwork) {
  if constexpr (is_complex<W>) {
    return detail::call_with_info(table.zgelsd, m, n, nrhs, a, lda, b, ldb, s, rcond, rank, work, lwork, rwork, iwork);
  } else {
    return detail::call_with_info(table.dgelsd, m, n, nrhs, a, lda, b, ldb, s, rcond, rank, work, lwork, iwork);
  }
}

/// Singular value decomposition by divide and conquer.
template <class W>
int gesdd(char jobz,
          Int m,
          Int n,
          W* a,
          Int lda,
          double* s,
          W* u,
          Int ldu,
          W* vt,
          Int ldvt,
          W* work,
          Int lwork,
          double* rwork,
          Int* iwork) {
  if constexpr (is_complex<W>) {
    return detail::call_with_info(table.zgesdd, jobz, m, n, a, lda, s, u, ldu, vt, ldvt, work, lwork, rwork, iwork);
  } else {
    return detail::call_with_info(table.dgesdd, jobz, m, n, a, lda, s, u, ldu, vt, ldvt, work, lwork, iwork);
  }
}

/// Singular value decomposition by QR iteration.
template <class W>
int gesvd(char jobu,
          char jobvt,
          Int m,
          Int n,
          W* a,
          Int lda,
          double* s,
          W* u,
          Int ldu,
          W* vt,
          Int ldvt,
          W* work,
          Int lwork,
          double* rwork) {
  if constexpr (is_complex<W>) {
    return detail::call_with_info(table.zgesvd, jobu, jobvt, m, n, a, lda, s, u, ldu, vt, ldvt, work, lwork, rwork);
  } else {
    return detail::call_with_info(table.dgesvd, jobu, jobvt, m, n, a, lda, s, u, ldu, vt, ldvt, work, lwork);
  }
}

/// The eigenvalues of a symmetric tridiagonal matrix, ascending, in the place of its diagonal d (n). e (n - 1) is what
/// is beside that, and is destroyed.
inline int sterf(Int n, double* d, double* e) {
  return detail::call_with_info(table.dsterf, n, d, e);
}

/// a = Q R.
template <class W>
int geqrf(Int m, Int n, W* a, Int lda, W* tau, W* work, Int lwork) {
  if constexpr (is_complex<W>) {
    return detail::call_with_info(table.zgeqrf, m, n, a, lda, tau, work, lwork);
  } else {
    return detail::call_with_info(table.dgeqrf, m, n, a, lda, tau, work, lwork);
  }
}

/// Multiply c by Q of geqrf from the left, or by its adjoint.
template <class W>
int unmqr(bool adjoint, Int m, Int n, Int k, W* a, Int lda, W* tau, W* c, Int ldc, W* work, Int lwork) {
  if constexpr (is_complex<W>) {
    return detail::call_with_info(table.zunmqr, 'L', adjoint ? 'C' : 'N', m, n, k, a, lda, tau, c, ldc, work, lwork);
  } else {
    return detail::call_with_info(table.dormqr, 'L', adjoint ? 'T' : 'N', m, n, k, a, lda, tau, c, ldc, work, lwork);
  }
}

/// The triangle `uplo` of c (n by n) = a a' of a (n by k); or a' a of a (k by n), if `trans` is 'T'.
inline void syrk(char uplo, char trans, Int n, Int k, const float* a, Int lda, float* c, Int ldc) {
  detail::call(table.ssyrk, uplo, trans, n, k, 1.0F, a, lda, 0.0F, c, ldc);
}

/// c = alpha op(a) op(b) + beta c.
template <class W>
void gemm(char transa,
          char transb,
          Int m,
          Int n,
          Int k,
          W alpha,
          const W* a,
          Int lda,
          const W* b,
          Int ldb,
          W beta,
          W* c,
          Int ldc) {
  if constexpr (is_complex<W>) {
    detail::call(table.zgemm, transa, transb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
  } else if constexpr (std::is_same_v<W, float>) {
    detail::call(table.sgemm, transa, transb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
  } else {
    detail::call(table.dgemm, transa, transb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
  }
}

/// Solve with a triangle from the left: r x = b, x over b. `uplo` is 'U' or 'L'.
template <class W>
void trsm(char uplo, Int m, Int n, const W* r, Int ldr, W* b, Int ldb) {
  if constexpr (is_complex<W>) {
    detail::call(table.ztrsm, 'L', uplo, 'N', 'N', m, n, W(1), r, ldr, b, ldb);
  } else {
    detail::call(table.dtrsm, 'L', uplo, 'N', 'N', m, n, W(1), r, ldr, b, ldb);
  }
}

/// Solve with a triangle: op(r) y = x, y over x. `uplo` is 'U' or 'L', `trans` is 'N' or 'C'.
template <class W>
void trsv(char uplo, char trans, Int n, const W* r, Int ldr, W* x) {
  if constexpr (is_complex<W>) {
    detail::call(table.ztrsv, uplo, trans, 'N', n, r, ldr, x, Int{1});
  } else {
    detail::call(table.dtrsv, uplo, trans, 'N', n, r, ldr, x, Int{1});
  }
}

/// Multiply by a triangle: x becomes op(r) x. `uplo` is 'U' or 'L', `trans` is 'N' or 'C'.
template <class W>
void trmv(char uplo, char trans, Int n, const W* r, Int ldr, W* x) {
  if constexpr (is_complex<W>) {
    detail::call(table.ztrmv, uplo, trans, 'N', n, r, ldr, x, Int{1});
  } else {
    detail::call(table.dtrmv, uplo, trans, 'N', n, r, ldr, x, Int{1});
  }
}

/// The size that a workspace query answered with. Single-precision queries round down; these are double, and exact.
inline Int queried(double size) {
  return std::max<Int>(1, static_cast<Int>(size));
}
inline Int queried(Complex size) {
  return queried(size.real());
}

}  // namespace lstsq::lapack
