// The ways to solve one problem; `solve` in solve.cpp chooses among them. T: float or double; parts: 2 for complex
// numbers as interleaved reals, else 1, and then sizes count complex numbers.
#pragma once

#include "kernels.h"
#include "passes.h"

namespace lstsq::kernels {

// p has the real sizes (columns and right-hand sides times parts). x: n rows of k in double precision, real form.
// sums: the k sums of squares, or null. given: room for A'A, or null.
template <class T>
Status solve_tall(
    const Operands<T>& p, int parts, double rcond, double* x, double* sums, double* given, Report& report);
template <class T>
Status solve_wide(const Operands<T>& p, double rcond, double* x, double* sums, Report& report);
template <class T>
Status solve_square(const Operands<T>& p, double rcond, double* x, double* sums, Report& report);

}  // namespace lstsq::kernels
