// Is a triangle certainly of full rank? Asked without its singular values.

#pragma once

#include "solver.h"

namespace lstsq::drivers {

/// Whether the smallest singular value of a triangle is above rcond times the largest, beyond doubt.
///
/// The largest singular value is estimated by power iteration with R^H R, the smallest with its inverse, from a start
/// that is random but the same each time. An estimate errs towards full rank, by a factor of (g / |v|)^(1/2q) after q
/// steps, g being the share of the singular vector in the start v (Dixon 1983, "Estimating extremal eigenvalues and
/// condition numbers of matrices", theorem 1): by more than 4 for one matrix of order 2000 in a million. The margin
/// covers both estimates; between it and the cutoff the answer is no, and the singular values are computed.
template <class W>
class RankCheck {
 public:
  explicit RankCheck(Int n) : n_(n), start_(n), v_(n) {
    std::uint64_t state = 0x9e3779b97f4a7c15;
    for (Int i = 0; i < n; ++i) {
      state = state * 6364136223846793005u + 1442695040888963407u;  // Knuth's linear congruential generator
      start_[i] = 0.5 + static_cast<double>(state >> 33) * 0x1p-31;
      if (state >> 63) start_[i] = -start_[i];
    }
  }

  bool certainly_full(char uplo, const W* r, double rcond) {
    for (Int i = 0; i < n_; ++i) {
      if (r[i + i * n_] == W(0)) return false;
    }
    constexpr double eps = std::numeric_limits<double>::epsilon();
    const double cutoff = margin * std::max(rcond, static_cast<double>(n_) * eps);
    if (cutoff >= 1) return false;
    const auto multiply = [&](char trans) { lapack::trmv(uplo, trans, n_, r, n_, v_.data()); };
    const auto divide = [&](char trans) { lapack::trsv(uplo, trans, n_, r, n_, v_.data()); };
    const double largest = power_iteration(4, [&] { multiply('N'), multiply('C'); });
    const double inverse_smallest = power_iteration(6, [&] { divide('C'), divide('N'); });
    // Overflow gives inf or NaN here, and NaN compares false.
    return 1 / inverse_smallest > cutoff * largest;
  }

 private:
  static constexpr double margin = 16;

  /// The square root of the norm of a Hermitian matrix, from below.
  template <class Apply>
  double power_iteration(int steps, Apply&& apply) {
    std::copy_n(start_.data(), n_, v_.data());
    double growth = 0;
    scale_to_one();
    for (int step = 0; step < steps; ++step) {
      apply();
      growth = scale_to_one();
    }
    return std::sqrt(growth);
  }

  double scale_to_one() {
    double largest = 0, sum = 0;
    for (Int i = 0; i < n_; ++i) largest = std::max(largest, std::abs(v_[i]));
    if (!(largest > 0 && std::isfinite(largest))) return std::numeric_limits<double>::quiet_NaN();
    for (Int i = 0; i < n_; ++i) sum += square(v_[i] / largest);
    const double norm = largest * std::sqrt(sum);
    for (Int i = 0; i < n_; ++i) v_[i] /= norm;
    return norm;
  }

  Int n_;
  Buffer<W> start_, v_;
};

}  // namespace lstsq::drivers
