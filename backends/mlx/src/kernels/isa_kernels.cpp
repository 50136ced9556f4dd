// The inner loops, compiled once per instruction set with LSTSQ_ISA naming the namespace.
#include "isa.h"

namespace lstsq::kernels::LSTSQ_ISA {
namespace {

#include "simd.h"
// After the vectors:
#include "gram.inl"
#include "lu.inl"
#include "residual.inl"
#include "triangular.inl"
// After widen() of residual.inl:
#include "batch.inl"

}  // namespace

#define LSTSQ_TEXT_(x) #x
#define LSTSQ_TEXT(x) LSTSQ_TEXT_(x)

extern const Isa table;
const Isa table = {
    LSTSQ_TEXT(LSTSQ_ISA),
    gram_f,
    gram_d,
    residual<float>,
    residual<double>,
    transpose_times<float>,
    transpose_times<double>,
    batch<float>,
    batch<double>,
    batch_workspace,
    cholesky,
    solve_rt,
    solve_r,
    lu_solve<float>,
    lu_solve<double>,
};

}  // namespace lstsq::kernels::LSTSQ_ISA
