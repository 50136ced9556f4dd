// The one loop over a batch: what every driver shares. It scans each element, hands the finite ones to the driver in
// their scale, and rounds the answer into MLX's arrays.

#pragma once

#include "core.h"
#include "drivers.h"
#include "mlx/array.h"
#include "mlx/backend/common/utils.h"

namespace lstsq_mlx {

/// A batch of matrices in an MLX array, whatever its strides.
template <class T>
class Batch {
 public:
  explicit Batch(const mlx::core::array& a) : data_(reinterpret_cast<const T*>(a.data<char>())) {
    const auto ndim = a.ndim();
    rows_ = a.shape(-2);
    cols_ = a.shape(-1);
    row_stride_ = a.strides(-2);
    col_stride_ = a.strides(-1);
    shape_.assign(a.shape().begin(), a.shape().begin() + (ndim - 2));
    strides_.assign(a.strides().begin(), a.strides().begin() + (ndim - 2));
    for (auto size : shape_) count_ *= size;
  }

  Int count() const { return count_; }
  Matrix<T> operator[](Int element) const {
    Int offset = 0;
    for (auto axis = shape_.size(); axis-- > 0;) {
      offset += element % shape_[axis] * strides_[axis];
      element /= shape_[axis];
    }
    return {data_ + offset, rows_, cols_, row_stride_, col_stride_};
  }

 private:
  const T* data_;
  Int rows_, cols_, row_stride_, col_stride_, count_ = 1;
  std::vector<Int> shape_, strides_;
};

/// Where the answers go: contiguous, one element after the other. The last two are described in core.h.
template <class T>
struct Outputs {
  T* x;
  RealOf<T>* residuals;
  std::int32_t* rank;
  double* core;
  double* exponent;
};

template <class T>
void solve_batch(
    Driver driver, double rcond, const Problem& p, const Batch<T>& as, const Batch<T>& bs, Outputs<T> out) {
  using W = WorkOf<T>;
  const auto solver = make_solver<T>(driver, p);
  const Int narrow = p.smallest();
  Int core_size = 1;
  for (Int size : core_shape(driver, narrow, Field<T>::is_complex)) core_size *= size;
  std::vector<double> residuals(p.k), s(narrow);

  for (Int i = 0; i < as.count(); ++i) {
    Matrix<T> a = as[i], b = bs[i];
    const Scan scan_a = scan(a), scan_b = scan(b);
    a.exponent = scan_a.exponent;
    b.exponent = scan_b.exponent;
    T* const x = out.x + i * p.n * p.k;
    double* const core = out.core + i * core_size;
    Answer<W> answer{rcond, residuals.data(), s.data(), finds_values(driver) ? nullptr : reinterpret_cast<W*>(core)};

    if (scan_a.finite && scan_b.finite && solver->solve(a, b, answer)) {
      store(answer.x, p.n, p.k, answer.ldx, b.exponent - a.exponent, x);
      store(residuals.data(), 1, p.k, 1, 2 * b.exponent, out.residuals + i * p.k);
      out.rank[i] = answer.rank;
      finish_core(driver, narrow, answer, core);
      out.exponent[i] = a.exponent;
    } else {
      std::fill_n(x, p.n * p.k, not_a_number<T>());
      std::fill_n(out.residuals + i * p.k, p.k, not_a_number<RealOf<T>>());
      out.rank[i] = 0;
      std::fill_n(core, core_size, not_a_number<double>());
      out.exponent[i] = not_a_number<double>();
    }
  }
}

}  // namespace lstsq_mlx
