// The inner loops, compiled once per instruction set with LSTSQ_ISA naming the namespace.
#include "isa.h"
#include "range.h"

namespace lstsq::kernels::LSTSQ_ISA {
namespace {

#include "simd.h"
// After the vectors:
#include "gram.inl"
#include "residual.inl"
#include "triangular.inl"
// After pack_panels() of triangular.inl:
#include "lu.inl"
// After widen() of residual.inl:
#include "batch.inl"
#include "stack.inl"
#include "singular.inl"

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
    cholesky_panel,
    cholesky_update,
    solve_rt,
    solve_r,
    solve_rt_one,
    solve_r_one,
    stack<float>,
    stack<double>,
    singular<float>,
    singular<double>,
    singular_workspace,
    {lu_panel<float>, lu_update<float>, lu_solve<float>},
    {lu_panel<double>, lu_update<double>, lu_solve<double>},
};

}  // namespace lstsq::kernels::LSTSQ_ISA
