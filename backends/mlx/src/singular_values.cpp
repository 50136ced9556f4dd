#include "singular_values.h"

#include <stdexcept>
#include <unordered_map>

#include "core.h"
#include "lstsq.h"
#include "mlx/allocator.h"
#include "mlx/backend/cpu/encoder.h"
#include "mlx/ops.h"

namespace lstsq_mlx {

mx::array singular_values_node(
    const mx::array& a, const mx::array& core, const mx::array& exponent, Driver driver, mx::Stream stream) {
  const auto primitive = std::make_shared<SingularValues>(stream, driver);
  const std::vector<mx::array> inputs{a, mx::stop_gradient(core, stream), mx::stop_gradient(exponent, stream)};
  return mx::array(primitive->output_shapes(inputs)[0], real_dtype(a.dtype()), primitive, inputs);
}

std::vector<mx::Shape> SingularValues::output_shapes(const std::vector<mx::array>& inputs) {
  const auto& a = inputs[0];
  mx::Shape shape(a.shape().begin(), a.shape().end() - 1);
  shape.back() = std::min(a.shape(-2), a.shape(-1));
  return {shape};
}

bool SingularValues::is_equivalent(const mx::Primitive& other) const {
  return driver_ == static_cast<const SingularValues&>(other).driver_;
}

namespace {

/// The singular values of square matrices, one after the other.
template <class W>
class Values {
 public:
  explicit Values(Int n) : n_(n), a_(n * n), rwork_(7 * n), iwork_(8 * n) {
    double s = 0;
    W size{};
    call(SvdMethod::divide_and_conquer, &s, &size, -1);
    Int lwork = lapack::queried(size);
    call(SvdMethod::qr_iteration, &s, &size, -1);
    lwork_ = std::max(lwork, lapack::queried(size));
    work_.reserve(lwork_);
  }

  /// False if LAPACK did not converge.
  bool find(const W* core, double* s) {
    if (diagonal(core, s)) return true;
    for (const auto method : {SvdMethod::divide_and_conquer, SvdMethod::qr_iteration}) {
      std::copy_n(core, n_ * n_, a_.data());
      if (call(method, s, work_.data(), lwork_) == 0) return true;
    }
    return false;
  }

 private:
  /// A diagonal core holds the singular values: the solve has found them.
  bool diagonal(const W* core, double* s) const {
    for (Int j = 0; j < n_; ++j) {
      for (Int i = 0; i < n_; ++i) {
        if (i != j && core[i + j * n_] != W(0)) return false;
      }
      s[j] = std::abs(core[j + j * n_]);
    }
    std::sort(s, s + n_, std::greater<>());
    return true;
  }

  int call(SvdMethod method, double* s, W* work, Int lwork) {
    W unused{};
    if (method == SvdMethod::divide_and_conquer) {
      return lapack::gesdd(/*jobz=*/'N',
                           /*m=*/n_,
                           /*n=*/n_,
                           /*a=*/a_.data(),
                           /*lda=*/n_,
                           /*s=*/s,
                           /*u=*/&unused,
                           /*ldu=*/n_,
                           /*vt=*/&unused,
                           /*ldvt=*/n_,
                           /*work=*/work,
                           /*lwork=*/lwork,
                           /*rwork=*/rwork_.data(),
                           /*iwork=*/iwork_.data());
    }
    return lapack::gesvd(/*jobu=*/'N',
                         /*jobvt=*/'N',
                         /*m=*/n_,
                         /*n=*/n_,
                         /*a=*/a_.data(),
                         /*lda=*/n_,
                         /*s=*/s,
                         /*u=*/&unused,
                         /*ldu=*/n_,
                         /*vt=*/&unused,
                         /*ldvt=*/n_,
                         /*work=*/work,
                         /*lwork=*/lwork,
                         /*rwork=*/rwork_.data());
  }

  Int n_, lwork_ = 0;
  Buffer<W> a_, work_;
  Buffer<double> rwork_;
  Buffer<Int> iwork_;
};

/// Where each element of a batch lies; elements that a broadcast repeats lie at the same place.
class Places {
 public:
  Places(const mx::array& a, int trailing) : count_(1) {
    for (int axis = 0; axis < static_cast<int>(a.ndim()) - trailing; ++axis) {
      shape_.push_back(a.shape(axis));
      strides_.push_back(a.strides(axis));
      count_ *= a.shape(axis);
    }
  }

  Int count() const { return count_; }
  Int operator[](Int element) const {
    Int offset = 0;
    for (auto axis = shape_.size(); axis-- > 0;) {
      offset += element % shape_[axis] * strides_[axis];
      element /= shape_[axis];
    }
    return offset;
  }

 private:
  std::vector<Int> shape_, strides_;
  Int count_;
};

/// W is the field of the triangle, Real the dtype of s.
template <class W, class Real>
void run(Driver driver, const mx::array& core, const mx::array& exponent, mx::array& out) {
  const Int n = out.shape(-1);
  const Places cores(core, finds_values(driver) ? 1 : 2), exponents(exponent, 0);
  std::unique_ptr<Values<W>> values;
  std::unordered_map<Int, Int> found;  // the place of a triangle, and the element whose s was computed from it
  std::vector<double> s(n);

  for (Int i = 0; i < cores.count(); ++i) {
    Real* to = out.data<Real>() + i * n;
    const double e = exponent.data<double>()[exponents[i]];
    if (std::isnan(e)) {
      std::fill_n(to, n, not_a_number<Real>());
      continue;
    }
    const double* from = core.data<double>() + cores[i];
    if (!finds_values(driver)) {
      const auto [at, is_new] = found.try_emplace(cores[i], i);
      if (!is_new) {
        std::copy_n(out.data<Real>() + at->second * n, n, to);
        continue;
      }
      if (!values) values = std::make_unique<Values<W>>(n);
      if (!values->find(reinterpret_cast<const W*>(from), s.data())) s.assign(n, not_a_number<double>());
      from = s.data();
    }
    for (Int j = 0; j < n; ++j) to[j] = static_cast<Real>(std::ldexp(from[j], static_cast<int>(e)));
  }
}

}  // namespace

void SingularValues::eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) {
  auto& out = outputs[0];
  out.set_data(mx::allocator::malloc(out.nbytes()));
  auto& encoder = mx::cpu::get_command_encoder(stream());
  encoder.set_input_array(inputs[1]);
  encoder.set_input_array(inputs[2]);
  encoder.set_output_array(out);
  encoder.dispatch([driver = driver_,
                    dtype = inputs[0].dtype(),
                    core = mx::array::unsafe_weak_copy(inputs[1]),
                    exponent = mx::array::unsafe_weak_copy(inputs[2]),
                    out = mx::array::unsafe_weak_copy(out)]() mutable {
    switch (dtype) {
      case mx::float32:
        return run<double, float>(driver, core, exponent, out);
      case mx::float64:
        return run<double, double>(driver, core, exponent, out);
      default:
        return run<std::complex<double>, float>(driver, core, exponent, out);
    }
  });
}

void SingularValues::eval_gpu(const std::vector<mx::array>&, std::vector<mx::array>&) {
  throw std::runtime_error("[lstsq] LAPACK runs on the CPU; this node was moved to a stream of the GPU.");
}

std::pair<std::vector<mx::array>, std::vector<int>> SingularValues::vmap(const std::vector<mx::array>& inputs,
                                                                         const std::vector<int>& axes) {
  const mx::Stream s = stream();
  int count = 0;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (axes[i] >= 0) count = inputs[i].shape(axes[i]);
  }
  // An input that is not mapped is repeated without a copy, and what lies at one place is computed once.
  std::vector<mx::array> mapped;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    mapped.push_back(axes[i] >= 0 ? at_front(inputs[i], axes[i], s) : repeated(inputs[i], count, s));
  }
  return {{singular_values_node(mapped[0], mapped[1], mapped[2], driver_, s)}, {0}};
}

}  // namespace lstsq_mlx
