// The n by n core of a Gram solve: equilibration, Cholesky factorisation, and what they prove about the matrix.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "kernels.h"

namespace lstsq::kernels {

class Core {
 public:
  // g: padded(n) square, row-major, the upper triangle of A'A; overwritten by its scaled factor, and to outlive this.
  Core(int64_t n, double* g);

  // In place on v (n rows of `probes`): v = A'A v, from A itself.
  using Multiply = std::function<void(double* v)>;

  // chain: how many additions the longest sum behind an entry of g had. unit: the unit roundoff of products and sums.
  // limit: the diagonal of g must lie within [1 / limit, limit]; the limit is at most the square of largest_norm
  // (range.h). multiply: where it is given and the bound of the contraction is too large, the contraction is measured
  // with it.
  Status factorise(int64_t chain, double unit, double limit, double rcond, const Multiply& multiply = nullptr);

  // w (n rows of k) = (A'A)^-1 w. norms (k), where given: the columns' |R^-T D w|_2.
  void solve(double* w, int64_t k, double* norms = nullptr) const;

  double scale(int64_t j) const { return d_[static_cast<size_t>(j)]; }  // a power of two; column j of A D has norm 1..2

  double frobenius = 0;    // |A|_F
  double condition = 0;    // upper estimate of |A D|_2 |(A D)^+|_2
  double contraction = 0;  // upper estimate of |I - (R'R)^-1 D A'A D|_2
  double backward = 0;     // upper estimate of |dA D|_2, where R D^-1 is the exact triangle of A + dA
  double loss = 0;         // upper estimate of how far the singular values of R D^-1 are from A's, over the largest

 private:
  // Upper estimates of |R^-1|_2^2 and, with the scaling undone, of 1 / sigma_min(A)^2.
  struct Inverse {
    double scaled, unscaled;
  };
  Inverse inverse_bounds() const;
  Inverse inverse_estimates() const;
  double measured_contraction(const Multiply& multiply) const;

  int64_t n_, ld_;
  double* r_;
  std::vector<double> d_;
};

// The Gram matrix of n columns (or rows) of a length, and what its core proves: in single precision, where that suits,
// and in double precision where that was not enough (or, without `single_suits`, at once). `gram` forms the core's
// matrix and returns the longest chain of additions; `multiply` as above. The report says what was found, and how.
template <class T>
Status factorise_gram(Core& core,
                      int64_t n,
                      int64_t length,
                      double rcond,
                      const std::function<int64_t(bool single)>& gram,
                      const Core::Multiply& multiply,
                      bool single_suits,
                      Report& report);

// n Gaussian numbers from a fixed stream: the same on every call and every platform.
void gaussian(int64_t n, double* out);

// |mean of the sums of squares| of Gaussian probes bounds the largest eigenvalue from above after multiplication with
// this: with 8 probes the chance of a bound that is too low is P(chi^2_8 < 8 / 100) < 2e-7.
inline constexpr double probe_safety = 100;
inline constexpr int64_t probes = 8;

}  // namespace lstsq::kernels
