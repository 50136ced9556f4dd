// Driver qr: orthogonal factorisation, QR of a tall and LQ of a wide matrix, for matrices of full rank. The rank is
// checked; a matrix whose full rank is in doubt is solved by its singular values, from the triangle that is there.
//
// The factorisation is that of reduction.h; here is what is done with its triangle.

#include "condition.h"
#include "drivers.h"

namespace lstsq::drivers {

namespace {

template <class W>
bool is_upper(const MatrixView<W>& r) {
  for (Int j = 0; j < r.cols; ++j) {
    for (Int i = j + 1; i < r.rows; ++i) {
      if (r(i, j) != W(0)) return false;
    }
  }
  return true;
}

/// Solves with a square triangle, upper or lower, column-major without gaps, zeros in its other half.
template <class W>
class Triangular final : public Solver<W> {
 public:
  explicit Triangular(const Problem& problem) : p_(problem), rank_(p_.n), x_(p_.n * p_.k) {}

  bool solve(const MatrixView<W>& r, const MatrixView<W>& c, Answer<W>& answer) override {
    const char uplo = is_upper(r) ? 'U' : 'L';
    if (!rank_.certainly_full(uplo, r.data, answer.rcond)) {
      if (!by_values_) by_values_ = make_solver<W>(Driver::gelsd, answer.rcond, p_);
      return by_values_->solve(r, c, answer);
    }
    load(c, x_.data(), p_.n);
    lapack::trsm(/*uplo=*/uplo,
                 /*m=*/p_.n,
                 /*n=*/p_.k,
                 /*r=*/r.data,
                 /*ldr=*/p_.n,
                 /*b=*/x_.data(),
                 /*ldb=*/p_.n);
    std::fill_n(answer.residuals, p_.k, 0.0);
    answer.x = x_.data();
    answer.ldx = p_.n;
    answer.rank = static_cast<int>(p_.n);
    answer.has_s = false;
    return true;
  }

 private:
  Problem p_;
  RankCheck<W> rank_;
  Buffer<W> x_;
  SolverPtr<W> by_values_;
};

}  // namespace

template <class W>
SolverPtr<W> make_triangular(const Problem& problem) {
  return std::make_unique<Triangular<W>>(problem);
}

template SolverPtr<double> make_triangular(const Problem&);
template SolverPtr<std::complex<double>> make_triangular(const Problem&);

}  // namespace lstsq::drivers
