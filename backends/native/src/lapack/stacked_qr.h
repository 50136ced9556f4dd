// QR of a complex triangle with a block of rows under it, by Householder reflections: the step of a factorisation in
// blocks. (That of real ones is kernels/stack-inl.h.)
//
// LAPACK is the wrong tool for narrow blocks: its calls would be thousands of small matrix-vector products, each
// perhaps spread over threads that wait for each other. Here a block stays in the cache, and the zeros of the triangle
// are never touched, so that carrying it along costs nothing.

#pragma once

#include <limits>

#include "matrix.h"

namespace lstsq::drivers {

namespace detail {

/// sum of conj(v_i) y_i.
inline std::complex<double> dot(const std::complex<double>* v, const std::complex<double>* y, std::int64_t count) {
  const auto* p = reinterpret_cast<const double*>(v);
  const auto* q = reinterpret_cast<const double*>(y);
  double same[2] = {}, crossed[2] = {};
  for (std::int64_t i = 0; i < 2 * count; i += 2) {
    same[0] += p[i] * q[i];
    same[1] += p[i + 1] * q[i + 1];
    crossed[0] += p[i] * q[i + 1];
    crossed[1] += p[i + 1] * q[i];
  }
  return {same[0] + same[1], crossed[0] - crossed[1]};
}

/// y -= w v.
inline void subtract(std::complex<double> w,
                     const std::complex<double>* v,
                     std::complex<double>* y,
                     std::int64_t count) {
  const auto* p = reinterpret_cast<const double*>(v);
  auto* q = reinterpret_cast<double*>(y);
  const double re = w.real(), im = w.imag();
  for (std::int64_t i = 0; i < 2 * count; i += 2) {
    q[i] -= re * p[i] - im * p[i + 1];
    q[i + 1] -= re * p[i + 1] + im * p[i];
  }
}

/// sqrt(|first|^2 + sum of squares of v), also where the squares vanish.
inline double norm(std::complex<double> first, const std::complex<double>* v, std::int64_t count) {
  const double sum = square(first) + std::abs(dot(v, v, count));
  if (sum > 1e-280) return std::sqrt(sum);
  double largest = std::abs(first);
  for (std::int64_t i = 0; i < count; ++i) largest = std::max(largest, std::abs(v[i]));
  if (largest == 0) return 0;
  double ratios = square(first / largest);
  for (std::int64_t i = 0; i < count; ++i) ratios += square(v[i] / largest);
  return largest * std::sqrt(ratios);
}

}  // namespace detail

/// Reduce [R; block] to [R'; 0] and [c; right] to [c'; right'] by the same reflections.
///
/// r is n x n, upper, c is n x k; block is rows x n and becomes the reflectors, right is rows x k. All column-major.
///
/// The reflector of a column x with first entry a is H = I - t u u^H with u = x - b e1, b = -(a / |a|) |x|, scaled so
/// that its first entry is 1; then t = 1 + |a| / |x| is real, and H is Hermitian, for complex columns too.
inline void stack_and_reduce(std::complex<double>* r,
                             std::int64_t n,
                             std::complex<double>* c,
                             std::int64_t k,
                             std::complex<double>* block,
                             std::complex<double>* right,
                             std::int64_t rows) {
  using W = std::complex<double>;
  for (std::int64_t j = 0; j < n; ++j) {
    W* const v = block + j * rows;
    const W a = r[j + j * n];
    const double length = detail::norm(a, v, rows);
    // Nothing, or nothing next to the other entries, which scan() has brought into range.
    if (length < std::numeric_limits<double>::min()) continue;
    const double size = std::abs(a);
    const W phase = size == 0 ? W(1) : a / size;
    const double t = 1 + size / length;
    const W scale = W(1) / (phase * (size + length));
    for (std::int64_t i = 0; i < rows; ++i) v[i] *= scale;
    r[j + j * n] = -phase * length;
    const auto reflect = [&](W& top, W* y) {
      const W w = t * (top + detail::dot(v, y, rows));
      top -= w;
      detail::subtract(w, v, y, rows);
    };
    for (std::int64_t l = j + 1; l < n; ++l) reflect(r[j + l * n], block + l * rows);
    for (std::int64_t l = 0; l < k; ++l) reflect(c[j + l * n], right + l * rows);
  }
}

}  // namespace lstsq::drivers
