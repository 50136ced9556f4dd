// The singular value decomposition of one matrix after the other of one shape: by divide and conquer, and by QR
// iteration where that does not converge, as on tightly clustered values (scipy#23220).

#pragma once

#include <algorithm>

#include "lapack.h"
#include "matrix.h"

namespace lstsq::drivers {

using lapack::Int;

enum class Vectors {
  none,      ///< the singular values alone
  thin,      ///< U (m x k) and V^H (k x n), k = min(m, n), each in memory of its own
  in_place,  ///< the longer of the two over the matrix itself
};

template <class W>
class SvdWorkspace {
 public:
  SvdWorkspace(Int m, Int n, Vectors vectors) : m_(m), n_(n), vectors_(vectors) {
    const Int narrow = std::min(m, n), length = std::max(m, n);
    // What LAPACK 3.12 documents for the complex gesdd, which is more than for gesvd; the real ones take none.
    if (lapack::is_complex<W>) {
      rwork_.reserve(narrow * std::max(5 * narrow + 7, 2 * length + 2 * narrow + 1));
    }
    iwork_.reserve(8 * narrow);
  }

  /// Decompose the matrix that `fill(a)` writes, column-major without gaps, once more where a second method is tried. s
  /// is descending; u and vt are what `Vectors` says, and are not touched for `none`; with `in_place` one of them is a
  /// itself. False where neither method converges.
  template <class Fill>
  [[nodiscard]] bool decompose(const Fill& fill, W* a, double* s, W* u, W* vt) {
    W size{};
    if (lwork_ == 0) {
      divide(a, s, u, vt, &size, -1);
      work_.reserve(lwork_ = lapack::queried(size));
    }
    fill(a);
    if (divide(a, s, u, vt, work_.data(), lwork_) == 0) return true;
    iterate(a, s, u, vt, &size, -1);
    const Int lwork = lapack::queried(size);
    work_.reserve(lwork);
    fill(a);
    return iterate(a, s, u, vt, work_.data(), lwork) == 0;
  }

 private:
  int divide(W* a, double* s, W* u, W* vt, W* work, Int lwork) {
    const char job = vectors_ == Vectors::none ? 'N' : vectors_ == Vectors::thin ? 'S' : 'O';
    return lapack::gesdd(/*jobz=*/job,
                         /*m=*/m_,
                         /*n=*/n_,
                         /*a=*/a,
                         /*lda=*/m_,
                         /*s=*/s,
                         /*u=*/u,
                         /*ldu=*/m_,
                         /*vt=*/vt,
                         /*ldvt=*/std::min(m_, n_),
                         /*work=*/work,
                         /*lwork=*/lwork,
                         /*rwork=*/rwork_.data(),
                         /*iwork=*/iwork_.data());
  }

  int iterate(W* a, double* s, W* u, W* vt, W* work, Int lwork) {
    char of_u = 'N', of_vt = 'N';
    if (vectors_ != Vectors::none) of_u = of_vt = 'S';
    if (vectors_ == Vectors::in_place) (m_ >= n_ ? of_u : of_vt) = 'O';
    return lapack::gesvd(/*jobu=*/of_u,
                         /*jobvt=*/of_vt,
                         /*m=*/m_,
                         /*n=*/n_,
                         /*a=*/a,
                         /*lda=*/m_,
                         /*s=*/s,
                         /*u=*/u,
                         /*ldu=*/m_,
                         /*vt=*/vt,
                         /*ldvt=*/std::min(m_, n_),
                         /*work=*/work,
                         /*lwork=*/lwork,
                         /*rwork=*/rwork_.data());
  }

  Int m_, n_, lwork_ = 0;
  Vectors vectors_;
  Buffer<W> work_;
  Buffer<double> rwork_;
  Buffer<Int> iwork_;
};

}  // namespace lstsq::drivers
