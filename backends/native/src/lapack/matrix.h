// Matrices between MLX's memory and LAPACK's: strided views, scaling, loading in double precision.
//
// MLX is row-major: element (i, j) of a contiguous m x n array lies at i n + j. LAPACK is column-major: it lies at
// i + j ld. The same memory read in the other order is the transpose. That identity is used here and nowhere else: a
// view carries both strides, and whoever needs LAPACK's order loads through `load`, or `load_adjoint` for the adjoint.

#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <complex>
#include <cstdint>
#include <limits>
#include <memory>
#include <type_traits>

#include "kernels/matrix_view.h"

namespace lstsq::drivers {

using lstsq::MatrixView;

/// The precision that a dtype is worked in: double, real or complex.
template <class T>
struct Field {
  using Real = T;
  using Work = double;
  static constexpr bool is_complex = false;
};
template <class T>
struct Field<std::complex<T>> {
  using Real = T;
  using Work = std::complex<double>;
  static constexpr bool is_complex = true;
};
template <class T>
using WorkOf = typename Field<T>::Work;
template <class T>
using RealOf = typename Field<T>::Real;

inline double conjugate(double z) {
  return z;
}
inline std::complex<double> conjugate(std::complex<double> z) {
  return std::conj(z);
}

/// |z|^2.
inline double square(double z) {
  return z * z;
}
inline double square(std::complex<double> z) {
  return z.real() * z.real() + z.imag() * z.imag();
}

template <class T>
T not_a_number() {
  constexpr auto nan = std::numeric_limits<RealOf<T>>::quiet_NaN();
  if constexpr (Field<T>::is_complex) {
    return {nan, nan};
  } else {
    return nan;
  }
}

/// Memory of trivial elements that is not initialised, and grows but is never copied.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(std::int64_t size) { reserve(size); }

  T* reserve(std::int64_t size) {
    if (size > size_) {
      data_.reset();
      size_ = 0;
      // The elements are trivial: raw memory, so that no page is touched before it is used.
      data_.reset(static_cast<T*>(::operator new(static_cast<std::size_t>(size) * sizeof(T))));
      size_ = size;
    }
    return data_.get();
  }
  T* data() const { return data_.get(); }
  T& operator[](std::int64_t i) const { return data_.get()[i]; }

 private:
  struct Free {
    void operator()(T* data) const { ::operator delete(data); }
  };
  std::unique_ptr<T, Free> data_;
  std::int64_t size_ = 0;
};

/// A column-major matrix, as LAPACK has it.
template <class T>
MatrixView<T> column_major(const T* data, std::int64_t rows, std::int64_t cols, std::int64_t ld) {
  return {data, rows, cols, 1, ld, 0};
}

// ---------------------------------------------------------------------------------------------------------------------
// Scanning: is it finite, and how large is it?
// ---------------------------------------------------------------------------------------------------------------------

struct Scan {
  bool finite;
  /// Multiplying by 2^-exponent brings the entries into the range where their squares neither overflow nor vanish, just
  /// to its edge: what is much smaller than the largest keeps its digits if it can. It is 0, and nothing is multiplied,
  /// for all but extreme matrices: always so for those given in single precision.
  int exponent;
};

/// How far the exponent of this number lies beyond `safe` or before -safe. 0 for zero, and for all in single precision.
template <class Real>
int exponent_beyond(Real largest, int safe) {
  if (std::is_same_v<Real, float> || largest == 0) return 0;
  const int exponent = std::ilogb(largest);
  return exponent > safe ? exponent - safe : exponent < -safe ? exponent + safe : 0;
}

namespace detail {

template <class Real>
using BitsOf = std::conditional_t<sizeof(Real) == 4, std::int32_t, std::int64_t>;

/// The largest magnitude as an integer: magnitudes order as their bits do, with inf and then NaN above all numbers.
/// Integers, because a maximum of floating-point numbers loses NaN and is not vectorised.
template <class Real>
BitsOf<Real> largest_bits(const Real* data, std::int64_t count, BitsOf<Real> largest) {
  using Bits = BitsOf<Real>;
  constexpr Bits magnitude = std::numeric_limits<Bits>::max();
  for (std::int64_t i = 0; i < count; ++i) {
    largest = std::max(largest, static_cast<Bits>(std::bit_cast<Bits>(data[i]) & magnitude));
  }
  return largest;
}

}  // namespace detail

template <class T>
Scan scan(const MatrixView<T>& a) {
  using Real = RealOf<T>;
  constexpr std::int64_t parts = sizeof(T) / sizeof(Real);
  // Along the smaller stride, which is 1 for almost every matrix.
  const bool by_rows = std::abs(a.col_stride) <= std::abs(a.row_stride);
  const std::int64_t outer = by_rows ? a.rows : a.cols, inner = by_rows ? a.cols : a.rows;
  const std::int64_t outer_stride = by_rows ? a.row_stride : a.col_stride;
  const std::int64_t inner_stride = by_rows ? a.col_stride : a.row_stride;
  const Real* data = reinterpret_cast<const Real*>(a.data);

  detail::BitsOf<Real> bits = 0;
  for (std::int64_t i = 0; i < outer; ++i) {
    const Real* line = data + i * outer_stride * parts;
    if (inner_stride == 1) {
      bits = detail::largest_bits(line, inner * parts, bits);
    } else {
      for (std::int64_t j = 0; j < inner; ++j) {
        bits = detail::largest_bits(line + j * inner_stride * parts, parts, bits);
      }
    }
  }
  const Real largest = std::bit_cast<Real>(bits);
  if (!std::isfinite(largest)) return {false, 0};
  // Products of two such numbers and a right-hand side, and their squares, summed over any number of rows, stay below
  // 2^1024; likewise from below. The certified kernels take norms up to 2^200.
  constexpr int safe = 150;
  return {true, exponent_beyond(largest, safe)};
}

// ---------------------------------------------------------------------------------------------------------------------
// Scaling and loading
// ---------------------------------------------------------------------------------------------------------------------

/// z 2^exponent, rounded once where it is subnormal.
inline double scaled(double x, int exponent) {
  return std::ldexp(x, exponent);
}
inline float scaled(float x, int exponent) {
  return std::ldexp(x, exponent);
}
inline std::complex<double> scaled(std::complex<double> z, int exponent) {
  return {std::ldexp(z.real(), exponent), std::ldexp(z.imag(), exponent)};
}
inline std::complex<float> scaled(std::complex<float> z, int exponent) {
  return {std::ldexp(z.real(), exponent), std::ldexp(z.imag(), exponent)};
}

namespace detail {

/// to[i + j ld] = f(a(i, j)) in tiles that stay in the first cache, so that neither side is read or written astray.
template <class T, class W, class F>
void load_tiles(const MatrixView<T>& a, W* to, std::int64_t ld, F&& f) {
  if (std::abs(a.row_stride) <= std::abs(a.col_stride)) {
    for (std::int64_t j = 0; j < a.cols; ++j) {
      for (std::int64_t i = 0; i < a.rows; ++i) to[i + j * ld] = f(a(i, j));
    }
    return;
  }
  constexpr std::int64_t tile = 16;
  for (std::int64_t i0 = 0; i0 < a.rows; i0 += tile) {
    const std::int64_t i1 = std::min(i0 + tile, a.rows);
    for (std::int64_t j0 = 0; j0 < a.cols; j0 += tile) {
      const std::int64_t j1 = std::min(j0 + tile, a.cols);
      for (std::int64_t j = j0; j < j1; ++j) {
        for (std::int64_t i = i0; i < i1; ++i) to[i + j * ld] = f(a(i, j));
      }
    }
  }
}

}  // namespace detail

/// Copy into column-major memory, in double precision, scaled.
template <class T>
void load(const MatrixView<T>& a, WorkOf<T>* to, std::int64_t ld) {
  using W = WorkOf<T>;
  if (a.exponent == 0) {
    detail::load_tiles(a, to, ld, [](const T& z) { return static_cast<W>(z); });
  } else {
    detail::load_tiles(a, to, ld, [e = -a.exponent](const T& z) { return scaled(static_cast<W>(z), e); });
  }
}

/// Copy the adjoint into column-major memory (cols x rows), in double precision, scaled.
template <class T>
void load_adjoint(const MatrixView<T>& a, WorkOf<T>* to, std::int64_t ld) {
  load(a.transposed(), to, ld);
  if constexpr (Field<T>::is_complex) {
    for (std::int64_t j = 0; j < a.rows; ++j) {
      for (std::int64_t i = 0; i < a.cols; ++i) to[i + j * ld] = std::conj(to[i + j * ld]);
    }
  }
}

}  // namespace lstsq::drivers
