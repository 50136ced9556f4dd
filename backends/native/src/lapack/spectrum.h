// What a solve leaves for the singular values, in double precision, so that whoever wants them can find them later.
//
// The spectrum of an element is, of a driver that finds the singular values, those: min(m, n) numbers. Of qr it is a
// triangle that has the singular values of a: min(m, n) squared numbers, column-major, zeros in its other half, each
// entry of a complex one as two numbers. Where qr had to find the singular values to solve, it leaves the diagonal
// matrix of them: so they are never found twice, and rank and s never contradict each other. It stands for 2^exponent
// times itself.
//
// Of a driver that certifies, the singular values may not have been found at all. They are found from the matrix then
// (docs/certificate.md, "Singular values").

#pragma once

#include "drivers.h"

namespace lstsq::drivers {

/// What became of an element.
enum class State : std::int32_t {
  not_finite,  ///< no answer: the matrix has NaN or inf
  unsolved,    ///< no answer: nothing converged, or the driver had no certificate
  complete,    ///< all was found, and the spectrum is there
  without_s,   ///< the singular values are still to be found from the matrix
  x_alone,     ///< and so are the residuals
};

inline bool is_answered(State state) {
  return state != State::not_finite && state != State::unsolved;
}

/// The dimensions of one element's spectrum.
inline std::vector<Int> spectrum_shape(Driver driver, Int narrow, bool is_complex) {
  if (leaves_triangle(driver)) return {narrow, narrow * (is_complex ? 2 : 1)};
  return {narrow};
}

/// The numbers of it.
inline Int spectrum_size(Driver driver, Int narrow, bool is_complex) {
  return leaves_triangle(driver) ? narrow * narrow * (is_complex ? 2 : 1) : narrow;
}

/// Write an element's spectrum after it was solved; a driver of triangles has left the triangle there. Returns what
/// is still to be found.
template <class W>
State finish_spectrum(Driver driver, Int narrow, const Answer<W>& answer, double* spectrum) {
  if (!leaves_triangle(driver)) {
    if (!answer.has_s) return State::without_s;
    std::copy_n(answer.s, narrow, spectrum);
  } else if (answer.has_s) {
    std::fill_n(answer.triangle, narrow * narrow, W(0));
    for (Int i = 0; i < narrow; ++i) answer.triangle[i + i * narrow] = answer.s[i];
  }
  return State::complete;
}

}  // namespace lstsq::drivers
