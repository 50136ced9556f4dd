// The right-hand sides of one problem, each in a scale of its own: brought by powers of two into the range where
// products with A neither overflow nor vanish; and those taken out that are not finite, which have no answer.

#pragma once

#include <vector>

#include "matrix.h"

namespace lstsq::drivers {

template <class T>
class RightSides {
 public:
  /// b, or a copy of it where a column is not as it should be: zeros stand for a column that is not finite.
  MatrixView<T> take(const MatrixView<T>& b) {
    find_sizes(b);
    changed_ = false;
    for (const Size& size : sizes_) changed_ = changed_ || !size.finite || size.exponent != 0;
    if (!changed_) return b;
    T* copy = copy_.reserve(b.rows * b.cols);
    for (std::int64_t i = 0; i < b.rows; ++i) {
      for (std::int64_t j = 0; j < b.cols; ++j) {
        const Size& size = sizes_[j];
        copy[i * b.cols + j] = size.finite ? static_cast<T>(scaled(b(i, j), -size.exponent)) : T(0);
      }
    }
    return {copy, b.rows, b.cols, b.cols, 1};
  }

  /// Whether the last ones taken were changed at all.
  bool changed() const { return changed_; }

  bool finite(std::int64_t j) const { return sizes_[j].finite; }
  /// Column j stands for itself times 2^exponent.
  int exponent(std::int64_t j) const { return sizes_[j].exponent; }

 private:
  using Real = RealOf<T>;
  using Bits = detail::BitsOf<Real>;

  struct Size {
    Bits largest;
    bool finite;
    int exponent;
  };

  void find_sizes(const MatrixView<T>& b) {
    constexpr std::int64_t parts = sizeof(T) / sizeof(Real);
    sizes_.assign(b.cols, Size{0, true, 0});
    for (std::int64_t i = 0; i < b.rows; ++i) {
      for (std::int64_t j = 0; j < b.cols; ++j) {
        Bits& largest = sizes_[j].largest;
        largest = detail::largest_bits(reinterpret_cast<const Real*>(&b(i, j)), parts, largest);
      }
    }
    for (Size& size : sizes_) {
      const Real largest = std::bit_cast<Real>(size.largest);
      size.finite = std::isfinite(largest);
      size.exponent = size.finite ? exponent_beyond(largest, safe) : 0;
    }
  }

  /// Next to A, whose entries scan() brings below 2^150. Two thirds of that, so that the kernels take them.
  static constexpr int safe = 100;

  std::vector<Size> sizes_;
  bool changed_ = false;
  Buffer<T> copy_;
};

}  // namespace lstsq::drivers
