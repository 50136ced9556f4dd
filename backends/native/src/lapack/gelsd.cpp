// Driver gelsd: LAPACK's least squares by the divide and conquer SVD. U and V are never formed.

#include "drivers.h"
#include "residuals.h"

namespace lstsq::drivers {

namespace {

template <class T>
class Gelsd final : public Solver<T> {
  using W = WorkOf<T>;

 public:
  explicit Gelsd(const Problem& problem) : p_(problem), ldb_(std::max(p_.m, p_.n)) {
    W work_size{};
    double rwork_size = 0;
    Int iwork_size = 0, rank = 0;
    double s = 0;
    W unused{};
    lapack::gelsd(/*m=*/p_.m,
                  /*n=*/p_.n,
                  /*nrhs=*/p_.k,
                  /*a=*/&unused,
                  /*lda=*/p_.m,
                  /*b=*/&unused,
                  /*ldb=*/ldb_,
                  /*s=*/&s,
                  /*rcond=*/1,
                  /*rank=*/&rank,
                  /*work=*/&work_size,
                  /*lwork=*/-1,
                  /*rwork=*/&rwork_size,
                  /*iwork=*/&iwork_size);
    lwork_ = lapack::queried(work_size);
    a_.reserve(p_.m * p_.n);
    b_.reserve(ldb_ * p_.k);
    work_.reserve(lwork_);
    rwork_.reserve(lapack::queried(rwork_size));
    iwork_.reserve(std::max(1, lapack::value(iwork_size)));
  }

  bool solve(const MatrixView<T>& a, const MatrixView<T>& b, Answer<W>& answer) override {
    // LAPACK takes rcond <= 0 and rcond >= 1 for eps. Zero is the smallest number instead; from 1 on every singular
    // value is zero, and s alone is wanted.
    const double rcond = answer.rcond >= 1 ? 0 : answer.rcond;
    if (!call(a, b, std::max(rcond, std::numeric_limits<double>::min()), answer)) return false;

    // LAPACK compares before it scales the singular values back. Where rounding makes its test and ours differ, a
    // cutoff between the two values in question brings it to our side.
    const int wanted = count_above(answer.s, p_.smallest(), answer.rcond);
    if (wanted != answer.rank && wanted > 0) {
      if (!call(a, b, cutoff_between(answer.s, p_.smallest(), wanted), answer)) return false;
    }
    if (answer.rcond >= 1) {
      answer.rank = 0;
      for (Int j = 0; j < p_.k; ++j) std::fill_n(b_.data() + j * ldb_, p_.n, W(0));
    }
    if (needs_care(answer)) return false;
    answer.x = b_.data();
    answer.ldx = ldb_;
    answer.has_s = true;
    find_residuals(a, b, answer);
    return true;
  }

 private:
  /// Whether more accurate singular values and vectors than gelsd's are wanted: where one lies so close to the cutoff
  /// that its errors decide the rank, or where the last that counts and the first that does not are so close to each
  /// other that x hangs on telling their vectors apart. Beyond 25 columns gelsd divides, and its dlasd2 takes singular
  /// values for equal that differ by 8 units roundoff of the largest. Measured on orders of 26 to 60: s off by up to 16
  /// eps, x by up to 100 eps over the relative distance of the two, where those of gesdd are off by 1 eps or less.
  bool needs_care(const Answer<W>& answer) const {
    constexpr Int undivided = 25;
    constexpr double eps = std::numeric_limits<double>::epsilon(), doubtful = 32 * eps, close = 0x1p-26;
    const Int count = p_.smallest(), rank = answer.rank;
    const double* const s = answer.s;
    if (count <= undivided) return false;
    const double cutoff = answer.rcond * s[0];
    if (std::any_of(s, s + count, [&](double value) { return std::abs(value - cutoff) <= doubtful * s[0]; }))
      return true;
    return rank > 0 && rank < count && s[rank - 1] - s[rank] <= close * s[0];
  }

  /// One call, on operands loaded afresh: LAPACK destroys them, and reads nothing else that it has written before.
  bool call(const MatrixView<T>& a, const MatrixView<T>& b, double rcond, Answer<W>& answer) {
    load(a, a_.data(), p_.m);
    load(b, b_.data(), ldb_);
    Int rank = 0;
    const int info = lapack::gelsd(
        /*m=*/p_.m,
        /*n=*/p_.n,
        /*nrhs=*/p_.k,
        /*a=*/a_.data(),
        /*lda=*/p_.m,
        /*b=*/b_.data(),
        /*ldb=*/ldb_,
        /*s=*/answer.s,
        /*rcond=*/rcond,
        /*rank=*/&rank,
        /*work=*/work_.data(),
        /*lwork=*/lwork_,
        /*rwork=*/rwork_.data(),
        /*iwork=*/iwork_.data());
    answer.rank = lapack::value(rank);
    return info == 0;
  }

  void find_residuals(const MatrixView<T>& a, const MatrixView<T>& b, Answer<W>& answer) {
    if (answer.rank == 0) {
      residuals_.compute_at_zero(b, answer.residuals);
    } else if (answer.rank == p_.m) {
      std::fill_n(answer.residuals, p_.k, 0.0);
    } else if (answer.rank == p_.n) {
      // The rows of the rotated b that no x can reach, which gelsd leaves below x.
      std::fill_n(answer.residuals, p_.k, 0.0);
      add_squares(b_.data() + p_.n, p_.m - p_.n, p_.k, ldb_, answer.residuals);
    } else {
      residuals_.compute(a, b, answer.x, answer.ldx, answer.residuals);
    }
  }

  Problem p_;
  Int ldb_, lwork_ = 0;
  Buffer<W> a_, b_, work_;
  Buffer<double> rwork_;
  Buffer<Int> iwork_;
  Residuals<T> residuals_;
};

}  // namespace

template <class T>
SolverPtr<T> make_gelsd(const Problem& problem) {
  return std::make_unique<Gelsd<T>>(problem);
}

template SolverPtr<float> make_gelsd(const Problem&);
template SolverPtr<double> make_gelsd(const Problem&);
template SolverPtr<std::complex<float>> make_gelsd(const Problem&);
template SolverPtr<std::complex<double>> make_gelsd(const Problem&);

}  // namespace lstsq::drivers
