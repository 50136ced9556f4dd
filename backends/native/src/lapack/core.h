// What the solve leaves for the singular values, from one node of the graph to the other, in float64. (MLX has no
// complex128, and float64 carries what s needs before it is rounded.)
//
// core: of a driver that finds the singular values, those, (..., min(m, n)); of one that certifies, those if it found
// them, else NaN: they are found from the matrix then (from a Gram matrix they would not be exact). Of qr the triangle,
// whose singular values are those of a: (..., min(m, n), min(m, n)), column-major, zeros in its other half, and each
// entry of a complex one as two numbers. Where qr had to find the singular values to solve, it leaves the diagonal
// matrix of them: so they are never found twice, and rank and s never contradict each other.
//
// exponent: (...), the scale of the core, which stands for 2^exponent times itself. NaN where there is no answer.

#pragma once

#include "drivers.h"

namespace lstsq::drivers {

/// The dimensions of one element's core.
inline std::vector<Int> core_shape(Driver driver, Int narrow, bool is_complex) {
  if (leaves_triangle(driver)) return {narrow, narrow * (is_complex ? 2 : 1)};
  return {narrow};
}

/// In the place of a residual sum that is still to be found.
template <class Real>
inline constexpr Real sum_not_found = -1;

/// A core that says that the singular values were not found.
inline void leave_open(Int narrow, double* core) {
  std::fill_n(core, narrow, not_a_number<double>());
}
inline bool is_open(const double* core) {
  return std::isnan(core[0]);
}

/// Write an element's core after it was solved; a driver of triangles has left the triangle there.
template <class W>
void finish_core(Driver driver, Int narrow, const Answer<W>& answer, double* core) {
  if (!leaves_triangle(driver)) {
    if (answer.has_s) {
      std::copy_n(answer.s, narrow, core);
    } else {
      leave_open(narrow, core);
    }
  } else if (answer.has_s) {
    std::fill_n(answer.triangle, narrow * narrow, W(0));
    for (Int i = 0; i < narrow; ++i) answer.triangle[i + i * narrow] = answer.s[i];
  }
}

}  // namespace lstsq::drivers
