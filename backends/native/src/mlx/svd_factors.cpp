#include "svd_factors.h"

#include <algorithm>
#include <complex>
#include <limits>

#include "arrays.h"
#include "lapack/blas.h"
#include "lapack/thin_svd.h"
#include "mlx/ops.h"
#include "on_cpu.h"
#include "product.h"
#include "shapes.h"

namespace lstsq_mlx {

std::vector<mx::array> svd_factors(const mx::array& a, mx::Stream s) {
  auto primitive = std::make_shared<SvdFactors>(s);
  const auto real = a.dtype() == mx::complex64 ? mx::float32 : mx::float64;
  auto shapes = primitive->output_shapes({a});
  return mx::array::make_arrays(std::move(shapes), {a.dtype(), real, a.dtype()}, std::move(primitive), {a});
}

std::vector<mx::Shape> SvdFactors::output_shapes(const std::vector<mx::array>& inputs) {
  auto u = inputs[0].shape(), s = u, vh = u;
  const auto k = std::min(u[u.size() - 2], u[u.size() - 1]);
  u.back() = k;
  s.pop_back();
  s.back() = k;
  vh[vh.size() - 2] = k;
  return {u, s, vh};
}

namespace {

// `Stored` is the type of the arrays and `T` that of the arithmetic.
template <typename Stored, typename StoredReal, typename T>
void factorise(const mx::array& a, mx::array& u, mx::array& s, mx::array& vh) {
  const Int m = a.shape(-2), n = a.shape(-1), k = std::min(m, n);
  Buffer<T> left(n * k), right(k * m);
  Buffer<double> sigma(k);
  const Batch<Stored> matrices = batch<Stored>(a);
  for (Int i = 0; i < matrices.count(); ++i) {
    // Row-major A is column-major Aᵀ = U' S V'ᴴ, so that A = (V'ᴴ)ᵀ S U'ᵀ: the column-major factors of the one are
    // the row-major factors of the other, in reverse order.
    const bool converged = thin_svd<T>(
        n, m, [&](T* at) { load(transposed(matrices[i]), at, n); }, left.data(), sigma.data(), right.data());
    if (!converged) {
      const double nan = std::numeric_limits<double>::quiet_NaN();
      std::fill_n(left.data(), n * k, T(nan));
      std::fill_n(right.data(), k * m, T(nan));
      std::fill_n(sigma.data(), k, nan);
    }
    std::copy_n(right.data(), m * k, u.data<Stored>() + i * m * k);
    std::copy_n(sigma.data(), k, s.data<StoredReal>() + i * k);
    std::copy_n(left.data(), k * n, vh.data<Stored>() + i * k * n);
  }
}

}  // namespace

void SvdFactors::eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) {
  run_on_cpu(stream(), inputs, outputs, [](const std::vector<mx::array>& in, std::vector<mx::array>& out) {
    if (in[0].dtype() == mx::complex64) {
      factorise<std::complex<float>, float, std::complex<double>>(in[0], out[0], out[1], out[2]);
    } else {
      factorise<double, double, double>(in[0], out[0], out[1], out[2]);
    }
  });
}

namespace {

// What the two rules share. Let A = U S Vᴴ and Uᴴ dA V = H + K, H Hermitian and K skew (Townsend 2016, "Differentiating
// the singular value decomposition"; for complex A, Wan and Zhang 2019, arXiv:1909.02659). Then
//
//     ds = Re diag(Uᴴ dA V)
//     dU = U (E ∘ H + F ∘ K) + (I − U Uᴴ) dA V S⁻¹
//     dV = V (E ∘ H − F ∘ K) + (I − V Vᴴ) dAᴴ U S⁻¹
//
// with E_ij = 1 / (sj − si) and F_ij = 1 / (si + sj). The diagonal of F ∘ K shares the phase that each pair (u_i, v_i)
// is free to choose between the two. E is zero between equal singular values, where U and V turn together and have no
// derivative, and F and S⁻¹ at zero ones. So second derivatives of s are right where the values are distinct, and at
// equal ones for what does not see them turn, such as their sum.
struct Rule {
  mx::Stream s;
  mx::array u, v, sigma, e, f, inverse;

  Rule(const std::vector<mx::array>& factors, mx::Stream stream)
      : s(stream), u(factors[0]), v(adjoint(factors[2])), sigma(factors[1]), e(sigma), f(sigma), inverse(sigma) {
    const auto real = sigma.dtype();
    const auto zero = mx::array(0.0, real), one = mx::array(1.0, real);
    // Singular values are known to about eps max(M, N) s_max; closer than that, they are equal.
    const double eps =
        real == mx::float64 ? std::numeric_limits<double>::epsilon() : double{std::numeric_limits<float>::epsilon()};
    const auto largest = mx::max(sigma, -1, true, s);
    const auto length = mx::maximum(length_of(u, -2, real, s), length_of(v, -2, real, s), s);
    const auto resolution = mx::multiply(mx::multiply(largest, length, s), mx::array(8.0 * eps, real), s);

    const auto reciprocal = [&](const mx::array& d, const mx::array& bound) {
      const auto usable = mx::greater(mx::abs(d, s), bound, s);
      return mx::where(usable, mx::divide(one, mx::where(usable, d, one, s), s), zero, s);
    };
    const auto row = mx::expand_dims(sigma, -2, s), column = mx::expand_dims(sigma, -1, s);
    const auto bound = mx::expand_dims(resolution, -1, s);
    e = reciprocal(mx::subtract(row, column, s), bound);
    f = reciprocal(mx::add(row, column, s), bound);
    inverse = reciprocal(sigma, resolution);
  }

  // (a + aᴴ) / 2 and (a − aᴴ) / 2
  mx::array hermitian(const mx::array& a) const { return half(mx::add(a, adjoint(a), s)); }
  mx::array skew(const mx::array& a) const { return half(mx::subtract(a, adjoint(a), s)); }
  mx::array half(const mx::array& a) const { return mx::multiply(a, mx::array(0.5, sigma.dtype()), s); }

  mx::array adjoint(const mx::array& a) const {
    const auto transposed = mx::swapaxes(a, -1, -2, s);
    return a.dtype() == mx::complex64 ? mx::conjugate(transposed, s) : transposed;
  }

  mx::array times(const mx::array& a, const mx::array& b) const {
    return a.dtype() == mx::complex64 ? mx::matmul(a, b, s) : product(a, b, s);
  }

  // a diag(d)
  mx::array scale_columns(const mx::array& a, const mx::array& d) const {
    return mx::multiply(a, mx::expand_dims(d, -2, s), s);
  }

  // (I − B Bᴴ) a
  mx::array outside(const mx::array& b, const mx::array& a) const {
    return mx::subtract(a, times(b, times(adjoint(b), a)), s);
  }

  // diag(aᴴ b)
  mx::array dots(const mx::array& a, const mx::array& b) const {
    const auto left = a.dtype() == mx::complex64 ? mx::conjugate(a, s) : a;
    return mx::sum(mx::multiply(left, b, s), -2, false, s);
  }

  // diag(d), in the shape and type of the matrix.
  mx::array diagonal_matrix(const mx::array& d, const mx::array& like) const {
    return scale_columns(identity_like(like, s), mx::astype(d, like.dtype(), s));
  }
};

}  // namespace

std::vector<mx::array> SvdFactors::jvp(const std::vector<mx::array>& primals,
                                       const std::vector<mx::array>& tangents,
                                       const std::vector<int>&) {
  const auto& da = tangents[0];
  const auto s = stream();
  const Rule rule(svd_factors(primals[0], s), s);
  const auto dav = rule.times(da, rule.v);
  const auto dahu = rule.times(rule.adjoint(da), rule.u);
  const auto dp = rule.times(rule.adjoint(rule.u), dav);
  const auto eh = mx::multiply(rule.e, rule.hermitian(dp), s);
  const auto fk = mx::multiply(rule.f, rule.skew(dp), s);
  const auto in_u = mx::add(eh, fk, s), in_v = mx::subtract(eh, fk, s);
  auto ds = rule.dots(rule.u, dav);
  if (da.dtype() == mx::complex64) ds = mx::real(ds, s);
  const auto du = mx::add(rule.times(rule.u, in_u), rule.scale_columns(rule.outside(rule.u, dav), rule.inverse), s);
  const auto dv = mx::add(rule.times(rule.v, in_v), rule.scale_columns(rule.outside(rule.v, dahu), rule.inverse), s);
  return {du, ds, rule.adjoint(dv)};
}

// The adjoint, for the real inner product ⟨X, Y⟩ = Re tr(Xᴴ Y) that MLX's complex cotangents belong to. With B = Uᴴ Ū
// and C = Vᴴ V̄:
//
//     P̄ = herm(E ∘ (B + C)) + skew(F ∘ (B − C)) + diag(s̄)
//     Ā = U P̄ Vᴴ + (I − U Uᴴ) Ū S⁻¹ Vᴴ + U ((I − V Vᴴ) V̄ S⁻¹)ᴴ
std::vector<mx::array> SvdFactors::vjp(const std::vector<mx::array>&,
                                       const std::vector<mx::array>& cotangents,
                                       const std::vector<int>&,
                                       const std::vector<mx::array>& outputs) {
  const auto s = stream();
  const Rule rule(outputs, s);
  const auto& u_bar = cotangents[0];
  const auto v_bar = rule.adjoint(cotangents[2]);
  const auto b = rule.times(rule.adjoint(rule.u), u_bar), c = rule.times(rule.adjoint(rule.v), v_bar);
  auto p_bar = rule.hermitian(mx::multiply(rule.e, mx::add(b, c, s), s));
  p_bar = mx::add(p_bar, rule.skew(mx::multiply(rule.f, mx::subtract(b, c, s), s)), s);
  p_bar = mx::add(p_bar, rule.diagonal_matrix(cotangents[1], p_bar), s);
  const auto vh = rule.adjoint(rule.v);
  auto left = mx::add(rule.times(rule.u, p_bar), rule.scale_columns(rule.outside(rule.u, u_bar), rule.inverse), s);
  const auto right = rule.adjoint(rule.scale_columns(rule.outside(rule.v, v_bar), rule.inverse));
  return {mx::add(rule.times(left, vh), rule.times(rule.u, right), s)};
}

std::pair<std::vector<mx::array>, std::vector<int>> SvdFactors::vmap(const std::vector<mx::array>& inputs,
                                                                     const std::vector<int>& axes) {
  return {svd_factors(mx::moveaxis(inputs[0], axes[0], 0, stream()), stream()), {0, 0, 0}};
}

}  // namespace lstsq_mlx
