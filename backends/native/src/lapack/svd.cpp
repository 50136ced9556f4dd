// Driver svd: the thin singular value decomposition. x = V diag(1/s) U^H b over the singular values above the cutoff.

#include "drivers.h"
#include "residuals.h"
#include "svd_workspace.h"

namespace lstsq::drivers {

namespace {

template <class T>
class Svd final : public Solver<T> {
  using W = WorkOf<T>;

 public:
  explicit Svd(const Problem& problem)
      : p_(problem), tall_(p_.m >= p_.n), narrow_(p_.smallest()), svd_(p_.m, p_.n, Vectors::in_place) {
    a_.reserve(p_.m * p_.n);
    other_.reserve(narrow_ * narrow_);
    b_.reserve(p_.m * p_.k);
    t_.reserve(narrow_ * p_.k);
    x_.reserve(p_.n * p_.k);
  }

  bool solve(const MatrixView<T>& a, const MatrixView<T>& b, Answer<W>& answer) override {
    // U (m x n) over A and V^H beside it if it is tall, else V^H (m x n) over A and U beside it. Nothing is longer than
    // a side of A.
    W* const u = tall_ ? a_.data() : other_.data();
    W* const vt = tall_ ? other_.data() : a_.data();
    if (!svd_.decompose([&](W* to) { load(a, to, p_.m); }, a_.data(), answer.s, u, vt)) return false;
    load(b, b_.data(), p_.m);
    answer.has_s = true;
    answer.rank = count_above(answer.s, narrow_, answer.rcond);

    // t = diag(1/s) U^H b and x = V t, for the singular values that count.
    const Int rank = answer.rank;
    answer.x = x_.data();
    answer.ldx = p_.n;
    if (rank == 0) {
      std::fill_n(x_.data(), p_.n * p_.k, W(0));
      residuals_.compute_at_zero(b, answer.residuals);
      return true;
    }
    lapack::gemm(/*transa=*/'C',
                 /*transb=*/'N',
                 /*m=*/rank,
                 /*n=*/p_.k,
                 /*k=*/p_.m,
                 /*alpha=*/W(1),
                 /*a=*/u,
                 /*lda=*/p_.m,
                 /*b=*/b_.data(),
                 /*ldb=*/p_.m,
                 /*beta=*/W(0),
                 /*c=*/t_.data(),
                 /*ldc=*/rank);
    for (Int j = 0; j < p_.k; ++j) {
      for (Int i = 0; i < rank; ++i) t_[i + j * rank] /= answer.s[i];
    }
    lapack::gemm(/*transa=*/'C',
                 /*transb=*/'N',
                 /*m=*/p_.n,
                 /*n=*/p_.k,
                 /*k=*/rank,
                 /*alpha=*/W(1),
                 /*a=*/vt,
                 /*lda=*/narrow_,
                 /*b=*/t_.data(),
                 /*ldb=*/rank,
                 /*beta=*/W(0),
                 /*c=*/x_.data(),
                 /*ldc=*/p_.n);
    if (rank == p_.m) {
      std::fill_n(answer.residuals, p_.k, 0.0);
    } else {
      residuals_.compute(a, b, answer.x, answer.ldx, answer.residuals);
    }
    return true;
  }

 private:
  Problem p_;
  bool tall_;
  Int narrow_;
  SvdWorkspace<W> svd_;
  Buffer<W> a_, other_, b_, t_, x_;
  Residuals<T> residuals_;
};

}  // namespace

template <class T>
SolverPtr<T> make_svd(const Problem& problem) {
  return std::make_unique<Svd<T>>(problem);
}

template SolverPtr<float> make_svd(const Problem&);
template SolverPtr<double> make_svd(const Problem&);
template SolverPtr<std::complex<float>> make_svd(const Problem&);
template SolverPtr<std::complex<double>> make_svd(const Problem&);

}  // namespace lstsq::drivers
