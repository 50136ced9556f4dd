// Factorisations of large square cores, on all cores: panels of rows, one ahead of the rows that they update.
#pragma once

#include <cstdint>

namespace lstsq::kernels {

// In place: the upper triangle of row-major g (n by n, rows of ldg = padded(n), zeros beyond n) becomes R with R'R = g;
// false where a pivot is not positive.
bool cholesky(int64_t n, double* g, int64_t ldg);

// In place, with pivoting: A as isa.h says; false where a pivot is zero or NaN.
template <class T>
bool lu(int64_t n, T* a, int64_t ld, int32_t* pivots);

}  // namespace lstsq::kernels
