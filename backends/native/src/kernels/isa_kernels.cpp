// The inner loops, compiled once per instruction set with LSTSQ_ISA naming the namespace.
#include "batch-inl.h"
#include "gram-inl.h"
#include "isa.h"
#include "lu-inl.h"
#include "residual-inl.h"
#include "singular_values-inl.h"
#include "stack-inl.h"
#include "symmetric-inl.h"
#include "triangular-inl.h"

namespace lstsq::kernels::LSTSQ_ISA {

#define LSTSQ_TEXT_(x) #x
#define LSTSQ_TEXT(x) LSTSQ_TEXT_(x)

extern const Isa table;
const Isa table = {
    .name = LSTSQ_TEXT(LSTSQ_ISA),
    .gram_f = gram_f,
    .gram_d = gram_d,
    .residual_f = residual<float>,
    .residual_d = residual<double>,
    .transpose_f = transpose_times<float>,
    .transpose_d = transpose_times<double>,
    .batch_f = batch<float>,
    .batch_d = batch<double>,
    .batch_workspace = batch_workspace,
    .cholesky = cholesky,
    .cholesky_panel = cholesky_panel,
    .cholesky_update = cholesky_update,
    .solve_rt = solve_rt,
    .solve_r = solve_r,
    .solve_rt_one = solve_rt_one,
    .solve_r_one = solve_r_one,
    .stack_f = stack<float>,
    .stack_d = stack<double>,
    .singular_f = singular<float>,
    .singular_d = singular<double>,
    .singular_workspace = singular_workspace,
    .tridiagonal = tridiagonal,
    .lu_f = {.panel = lu_panel<float>, .update = lu_update<float>, .solve = lu_solve<float>},
    .lu_d = {.panel = lu_panel<double>, .update = lu_update<double>, .solve = lu_solve<double>},
};

}  // namespace lstsq::kernels::LSTSQ_ISA
