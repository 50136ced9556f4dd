// Driver svd: the thin singular value decomposition. x = V diag(1/s) U^H b over the singular values above the cutoff.

#include "drivers.h"
#include "residuals.h"

namespace lstsq::drivers {

namespace {

template <class T>
class Svd final : public Solver<T> {
  using W = WorkOf<T>;

 public:
  Svd(const Problem& problem, SvdMethod method)
      : p_(problem), method_(method), tall_(p_.m >= p_.n), narrow_(p_.smallest()) {
    a_.reserve(p_.m * p_.n);
    other_.reserve(narrow_ * narrow_);
    b_.reserve(p_.m * p_.k);
    t_.reserve(narrow_ * p_.k);
    x_.reserve(p_.n * p_.k);
    // What LAPACK documents for the complex gesdd, which is more than for gesvd; the real ones take none.
    if (Field<T>::is_complex) rwork_.reserve(narrow_ * (2 * std::max(p_.m, p_.n) + 5 * narrow_ + 7));
    iwork_.reserve(8 * narrow_);
    W size{};
    double s = 0;
    decompose(&s, &size, -1);
    work_.reserve(lwork_ = lapack::queried(size));
  }

  bool solve(const Matrix<T>& a, const Matrix<T>& b, Answer<W>& answer) override {
    load(a, a_.data(), p_.m);
    load(b, b_.data(), p_.m);
    if (decompose(answer.s, work_.data(), lwork_) != 0) return false;
    answer.has_s = true;
    answer.rank = count_above(answer.s, narrow_, answer.rcond);

    // t = diag(1/s) U^H b and x = V t, for the singular values that count.
    const W* u = tall_ ? a_.data() : other_.data();
    const W* vt = tall_ ? other_.data() : a_.data();
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
  /// Decompose a_ in place: U (m x n) over it and V^H into other_ if it is tall, else V^H (m x n) over it and U into
  /// other_. Nothing is longer than a side of A.
  int decompose(double* s, W* work, Int lwork) {
    W* u = tall_ ? a_.data() : other_.data();
    W* vt = tall_ ? other_.data() : a_.data();
    if (method_ == SvdMethod::divide_and_conquer) {
      return lapack::gesdd(/*jobz=*/'O',
                           /*m=*/p_.m,
                           /*n=*/p_.n,
                           /*a=*/a_.data(),
                           /*lda=*/p_.m,
                           /*s=*/s,
                           /*u=*/u,
                           /*ldu=*/p_.m,
                           /*vt=*/vt,
                           /*ldvt=*/narrow_,
                           /*work=*/work,
                           /*lwork=*/lwork,
                           /*rwork=*/rwork_.data(),
                           /*iwork=*/iwork_.data());
    }
    return lapack::gesvd(/*jobu=*/tall_ ? 'O' : 'S',
                         /*jobvt=*/tall_ ? 'S' : 'O',
                         /*m=*/p_.m,
                         /*n=*/p_.n,
                         /*a=*/a_.data(),
                         /*lda=*/p_.m,
                         /*s=*/s,
                         /*u=*/u,
                         /*ldu=*/p_.m,
                         /*vt=*/vt,
                         /*ldvt=*/narrow_,
                         /*work=*/work,
                         /*lwork=*/lwork,
                         /*rwork=*/rwork_.data());
  }

  Problem p_;
  SvdMethod method_;
  bool tall_;
  Int narrow_, lwork_ = 0;
  Buffer<W> a_, other_, b_, t_, x_, work_;
  Buffer<double> rwork_;
  Buffer<Int> iwork_;
  Residuals<T> residuals_;
};

}  // namespace

template <class T>
SolverPtr<T> make_svd(const Problem& problem, SvdMethod method) {
  return std::make_unique<Svd<T>>(problem, method);
}

template SolverPtr<float> make_svd(const Problem&, SvdMethod);
template SolverPtr<double> make_svd(const Problem&, SvdMethod);
template SolverPtr<std::complex<float>> make_svd(const Problem&, SvdMethod);
template SolverPtr<std::complex<double>> make_svd(const Problem&, SvdMethod);

}  // namespace lstsq::drivers
