// Complex problems in real arithmetic. A row of n complex numbers is a row of 2 n interleaved reals; the real Gram
// matrix of those columns holds every product that A^H A is made of, at the same cost. Unknowns are interleaved too:
// the system (A^H A) x = A^H b becomes a real one of twice the size, with the 2 by 2 blocks [re -im; im re].
#pragma once

#include <cstdint>
#include <vector>

#include "isa.h"

namespace lstsq::kernels {

// In place: from the real Gram matrix of 2 n interleaved columns to the real form of A^H A, upper triangles.
inline void fold_gram(int64_t n, double* g) {
  const int64_t ld = padded(2 * n);
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = i; j < n; ++j) {
      double* top = g + 2 * i * ld + 2 * j;
      double* bottom = top + ld;
      const double re = top[0] + bottom[1], im = i == j ? 0 : top[1] - bottom[0];
      top[0] = re;
      top[1] = -im;
      bottom[0] = im;
      bottom[1] = re;
    }
}

// From the cross products of interleaved A and b (2 k rows of padded(2 n)) to A^H b: w, 2 n rows of k.
inline void fold_cross(int64_t n, int64_t k, const double* cross, double* w) {
  const int64_t ld = padded(2 * n);
  for (int64_t c = 0; c < k; ++c)
    for (int64_t j = 0; j < n; ++j) {
      const double *re = cross + 2 * c * ld + 2 * j, *im = re + ld;
      w[2 * j * k + c] = re[0] + im[1];
      w[(2 * j + 1) * k + c] = im[0] - re[1];
    }
}

// The matrix X with (interleaved A) X = interleaved A x: 2 n rows of 2 k, from x, 2 n rows of k.
inline std::vector<double> spread_unknowns(int64_t n, int64_t k, const double* x) {
  std::vector<double> out(static_cast<size_t>(4 * n * k));
  for (int64_t j = 0; j < n; ++j)
    for (int64_t c = 0; c < k; ++c) {
      const double re = x[2 * j * k + c], im = x[(2 * j + 1) * k + c];
      double* top = out.data() + 2 * j * 2 * k + 2 * c;
      top[0] = re;
      top[1] = im;
      top[2 * k] = -im;
      top[2 * k + 1] = re;
    }
  return out;
}

}  // namespace lstsq::kernels
