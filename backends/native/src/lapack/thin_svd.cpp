#include "thin_svd.h"

#include <algorithm>

#include "lapack.h"
#include "svd_workspace.h"

namespace lstsq::drivers {

template <class T>
bool thin_svd(std::int64_t m, std::int64_t n, const std::function<void(T*)>& fill, T* u, double* s, T* vt) {
  Buffer<T> a(m * n);
  fill(a.data());
  if (!scan(column_major(a.data(), m, n, m)).finite) return false;
  return SvdWorkspace<T>(m, n, Vectors::thin).decompose(fill, a.data(), s, u, vt);
}

template bool thin_svd(std::int64_t, std::int64_t, const std::function<void(double*)>&, double*, double*, double*);
template bool thin_svd(std::int64_t,
                       std::int64_t,
                       const std::function<void(lapack::Complex*)>&,
                       lapack::Complex*,
                       double*,
                       lapack::Complex*);

bool RightSingular::compute(const MatrixView<double>& a) {
  if (!scan(a).finite) return false;
  // A = Q R, and the right singular vectors of R are those of A.
  Buffer<double> qr(m_ * n_), tau(n_), work, unused(n_ * n_);
  load(a, qr.data(), m_);
  double size = 0;
  lapack::geqrf(m_, n_, qr.data(), m_, tau.data(), &size, -1);
  const auto lwork = lapack::queried(size);
  lapack::geqrf(m_, n_, qr.data(), m_, tau.data(), work.reserve(lwork), lwork);

  auto upper = [&](double* r) {
    for (std::int64_t j = 0; j < n_; ++j) {
      std::copy_n(qr.data() + j * m_, j + 1, r + j * n_);
      std::fill_n(r + j * n_ + j + 1, n_ - j - 1, 0.0);
    }
  };
  return thin_svd<double>(n_, n_, upper, unused.data(), sigma.data(), vt.data());
}

}  // namespace lstsq::drivers
