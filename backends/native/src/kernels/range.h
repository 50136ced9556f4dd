// Which sizes the certificate is proved for, and when a bound says enough.
#pragma once

namespace lstsq::kernels {

// The range of double precision that the certificate is proved for (docs/certificate.md, "Range"): norms of columns (of
// rows of a wide matrix), and sizes of right-hand sides, within [1 / limit, limit]. No square, product or power that
// matters can then over- or underflow. Everything given in single precision lies within.
inline constexpr double largest_norm = 0x1p200, largest_right_side = 0x1p150;

// Whether a right-hand side of this size (NaN and infinity are none) may be certified; zeros are, too, and are asked
// for beside it.
inline bool ordinary(double size) {
  return size >= 1 / largest_right_side && size <= largest_right_side;
}

// Whether the smallest singular value is above rcond times the largest, beyond doubt: `condition` bounds their quotient
// from above. A bound that is NaN, infinite, or below what any matrix has, says nothing and never certifies.
inline bool certainly_above(double rcond, double condition, double margin) {
  return condition >= 0.5 && condition <= 0x1p1000 && margin * rcond * condition < 1;
}

}  // namespace lstsq::kernels
