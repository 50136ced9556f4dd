// A C face of the kernels for the ctypes-driven tests and micro-benchmarks.
#include "isa.h"
#include "kernels.h"
#include "passes.h"

using namespace lstsq::kernels;

namespace {

Lapack lapack;
using Potrf = void (*)(const char*, const int*, double*, const int*, int*);
template <class T>
using Getrf = void (*)(const int*, const int*, T*, const int*, int*, int*);
using Trsm = void (*)(const char*, const char*, const char*, const char*, const int*, const int*, const double*,
                      const double*, const int*, double*, const int*);
Potrf potrf;
Trsm trsm;
Getrf<float> sgetrf;
Getrf<double> dgetrf;

}  // namespace

#pragma GCC visibility push(default)
extern "C" {

// LAPACK and BLAS with 32-bit integers, as SciPy's wheels have them.
void shim_lapack(void* dpotrf_address, void* dtrsm_address, void* sgetrf_address, void* dgetrf_address) {
  potrf = reinterpret_cast<Potrf>(dpotrf_address);
  trsm = reinterpret_cast<Trsm>(dtrsm_address);
  sgetrf = reinterpret_cast<Getrf<float>>(sgetrf_address);
  dgetrf = reinterpret_cast<Getrf<double>>(dgetrf_address);
  lapack.dpotrf = [](int64_t n, double* a, int64_t lda) -> int64_t {
    int n32 = static_cast<int>(n), lda32 = static_cast<int>(lda), info = 0;
    potrf("L", &n32, a, &lda32, &info);
    return info;
  };
  lapack.dtrsm = [](bool transposed, int64_t m, int64_t n, const double* a, int64_t lda, double* b, int64_t ldb) {
    int m32 = static_cast<int>(m), n32 = static_cast<int>(n), lda32 = static_cast<int>(lda),
        ldb32 = static_cast<int>(ldb);
    const double one = 1;
    trsm("R", "L", transposed ? "T" : "N", "N", &m32, &n32, &one, a, &lda32, b, &ldb32);
  };
  lapack.sgetrf = [](int64_t n, float* a, int64_t lda, int32_t* p) -> int64_t {
    int n32 = static_cast<int>(n), lda32 = static_cast<int>(lda), info = 0;
    sgetrf(&n32, &n32, a, &lda32, p, &info);
    return info;
  };
  lapack.dgetrf = [](int64_t n, double* a, int64_t lda, int32_t* p) -> int64_t {
    int n32 = static_cast<int>(n), lda32 = static_cast<int>(lda), info = 0;
    dgetrf(&n32, &n32, a, &lda32, p, &info);
    return info;
  };
}

const char* shim_isa() { return instruction_set(); }
int shim_threads() { return thread_count(); }

#define SHIM(S, T, R)                                                                                                \
  int shim_solve_##S(const T* a, int64_t m, int64_t n, int64_t lda, const T* b, int64_t k, int64_t ldb, double rcond, \
                     T* x, R* residuals, double* report) {                                                           \
    Problem<T> p{a, m, n, lda, b, k, ldb, rcond, x, k, residuals};                                                   \
    Report r;                                                                                                        \
    const int status = static_cast<int>(solve(p, lapack, &r));                                                       \
    report[0] = r.condition, report[1] = r.contraction, report[2] = r.steps, report[3] = r.tier;                     \
    return status;                                                                                                   \
  }
SHIM(s, float, float)
SHIM(d, double, double)
SHIM(c, std::complex<float>, float)
SHIM(z, std::complex<double>, double)

#define SHIM_BATCH(S, T)                                                                                            \
  int shim_batch_##S(int64_t count, int64_t m, int64_t n, int64_t k, const T* a, const T* b, double rcond, T* x,    \
                     T* residuals, uint8_t* ok) {                                                                   \
    return solve_batch(Batch<T>{count, m, n, k, a, m * n, n, b, m * k, k, rcond, x, residuals, nullptr, ok});                \
  }
SHIM_BATCH(s, float)
SHIM_BATCH(d, double)

// The upper triangle of A'A, padded(n) square.
void shim_gram_s(const float* a, int64_t m, int64_t n, int64_t single, double* g) {
  gram(Rows<float>{a, m, n, n, nullptr, 0, 0}, false, single != 0, g, nullptr);
}

}  // extern "C"
