// Notation. A = U S Vᴴ; the kept singular values are those above the cutoff, K their indices and D all others:
// truncated ones, exact zeros and the null space. P = A_K⁺ = V_K S_K⁻¹ U_Kᴴ, x = P b, r = b − A x, Q = P A = V_K V_Kᴴ,
// G = P Pᴴ = (AᴴA)_K⁺, M = AᴴA. Everything is for a constant number of kept values; where it changes, x jumps.
//
// Let S(A; C) be the solution Z of
//
//     Z = (I − Q) Z Q,    Z M − M Z = (I − Q) C Q,
//
// in the basis V: Z_ji = C_ji / (σi² − σj²) for i in K and j in D. For the real inner product ⟨X, Y⟩ = Re tr(Xᴴ Y) it
// is self-adjoint in C. First-order perturbation of the spectral projector Q (Kato 1966, II §2; Stewart and Sun 1990,
// V.2):
//
//     dQ = Z + Zᴴ,    Z = S(A; dAᴴ A + Aᴴ dA).                                                              (1)
//
// Tall or square. A Q = Q_L A is A with the values in D set to zero, P its pseudoinverse, and x = G Aᴴ b with
// G = (Q M Q)⁺ and Q G = G. From d(Q M Q) and (1), since Q M = M Q,
//
//     dG = −G (dAᴴ A + Aᴴ dA) G + Z G + G Zᴴ.
//
// So dx = dG Aᴴ b + G dAᴴ b + G Aᴴ db. With G Aᴴ = P, G Aᴴ b = x and b = r + A x,
//
//     dx = −G dAᴴ A x − P dA x + Z x + G Zᴴ Aᴴ b + G dAᴴ (r + A x) + P db
//        = P (db − dA x) + G (dAᴴ r + Zᴴ (Aᴴ r)) + Z x,                                                      (2)
//
// where Zᴴ Aᴴ b = Zᴴ Aᴴ r because Zᴴ = Zᴴ (I − Q) and (I − Q) Aᴴ A x = 0. If D holds zeros only, then Aᴴ r = 0 and (2)
// is the rule of Golub and Pereyra (1973, section 4); if D is empty, Z = 0.
//
// Wide: the mirror image, with the small matrices on the left. x = Aᴴ G_L b, G_L = Pᴴ P = (A Aᴴ)_K⁺, Q_L = A P,
// u = G_L b = Pᴴ x and Z_L = S(Aᴴ; dA Aᴴ + A dAᴴ). In the same way
//
//     dG_L b = −G_L (dA Aᴴ + A dAᴴ) u + Z_L u + G_L Z_Lᴴ b,
//     dx = Aᴴ dG_L b + dAᴴ u + P db
//        = P (db − dA x + Z_Lᴴ r) + (I − P A) dAᴴ u + Aᴴ Z_L u,                                             (3)
//
// where Aᴴ u = x, Aᴴ G_L = P, and Z_Lᴴ b = Z_Lᴴ r because Z_Lᴴ Q_L = 0.
//
// Residuals ρ = ‖r‖² of each right-hand side. dr = db − dA x − A dx, and only what dx has in D meets Aᴴ r (Danskin's
// theorem, where D holds zeros only):
//
//     dρ = 2 Re rᴴ (db − dA x) − 2 Re (Aᴴ r)ᴴ d_D x,                                                        (4)
//     d_D x = (I − Q) dx = Z x if tall, (I − Q) dAᴴ u + Aᴴ Z_L u if wide.
//
// Leaving (I − Q) out changes nothing in (4) and everything in rounding errors: A dx itself would bring back,
// multiplied by dx, the small part of Aᴴ r in K that is rounding.
//
// P and Pᴴ are the operation itself, applied to A and Aᴴ: the kept values are the same. S is an operation whose
// derivative is made of S (sylvester.cpp). So every rule can be differentiated again, without end.
//
// All of it is done in real double precision. A complex problem is solved as the real one that it is isomorphic to,
//
//     [Re A, −Im A]   [Re x]     [Re b]
//     [Im A,  Re A] · [Im x]  ≈  [Im b],
//
// since MLX has no complex128: twice the arithmetic, and gradients of complex64 that are as good as those of float32.
// MLX's cotangents belong to the real inner product ⟨X, Y⟩, ∂/∂Re + i ∂/∂Im, which is that of the real problem.
//
// The rules are applied to A / c, whose solution is c x. c is a power of two, which rounds nothing, one for each
// matrix: that just below its largest number. Of A as it is, M has the size of its square, and S that of one over it:
// they leave the range of numbers long before the derivatives do. So the tangent of A and the cotangent of x are
// divided by c before, and the tangent of x and the cotangent of A after. b and the residuals stay.
//
// References
// Golub, G. H., and Pereyra, V. (1973). The differentiation of pseudo-inverses and nonlinear least squares problems
//     whose variables separate. SIAM Journal on Numerical Analysis, 10(2), 413-432.
// Kato, T. (1966). Perturbation Theory for Linear Operators. Springer.
// Stewart, G. W., and Sun, J.-g. (1990). Matrix Perturbation Theory. Academic Press.

#include <algorithm>
#include <functional>
#include <optional>
#include <utility>

#include "halves.h"
#include "lstsq.h"
#include "mlx/ops.h"
#include "product.h"
#include "residual_sums.h"
#include "singular_values.h"
#include "svd_factors.h"
#include "sylvester.h"

namespace lstsq_mlx {

namespace {

/// The operation itself, with the cutoff and the driver of the one that is differentiated: x, in double precision, and
/// the rank as a matrix of one element. Where there is a derivative, the rank is constant.
using Solve = std::function<std::pair<mx::array, mx::array>(const mx::array&, const mx::array&)>;

Solve solve_with(const Cutoff& cutoff, Driver driver, mx::Stream stream) {
  return [=](const mx::array& a, const mx::array& b) {
    auto solved = lstsq_node(a, b, cutoff, driver, stream);
    return std::pair{solved[Lstsq::x],
                     mx::expand_dims(mx::stop_gradient(solved[Lstsq::rank], stream), {-2, -1}, stream)};
  };
}

/// The operations of the rules, all on one CPU stream.
struct Algebra {
  mx::Stream s;

  mx::array transposed(const mx::array& a) const { return mx::swapaxes(a, -1, -2, s); }
  mx::array times(const mx::array& a, const mx::array& b) const { return product(a, b, s); }
  mx::array plus(const mx::array& a, const mx::array& b) const { return mx::add(a, b, s); }
  mx::array minus(const mx::array& a, const mx::array& b) const { return mx::subtract(a, b, s); }
  mx::array plus_transpose(const mx::array& a) const { return plus(a, transposed(a)); }
  mx::array columns(const mx::array& left, const mx::array& right) const { return joined(left, right, -1, s); }
  mx::array rows(const mx::array& above, const mx::array& below) const { return joined(above, below, -2, s); }
  /// 2 Re xᴴ y, column by column.
  mx::array twice_dot(const mx::array& x, const mx::array& y) const {
    return mx::multiply(mx::array(2.0, mx::float64), mx::sum(mx::multiply(x, y, s), -2, false, s), s);
  }
};

/// The isomorphism between the caller's dtype and real double precision; its adjoint takes cotangents back.
struct Precision : Algebra {
  mx::Dtype dtype;

  bool is_complex() const { return dtype == mx::complex64; }
  mx::Dtype real_dtype() const { return is_complex() ? mx::float32 : dtype; }
  Cutoff of_real_problem(const Cutoff& cutoff) const { return is_complex() ? cutoff.of_real_problem() : cutoff; }

  mx::array widened(const mx::array& a) const { return mx::astype(a, mx::float64, s); }
  mx::array narrowed(const mx::array& a) const { return mx::astype(a, real_dtype(), s); }

  mx::array real_matrix(const mx::array& a) const {
    if (!is_complex()) return widened(a);
    const auto re = widened(mx::real(a, s)), im = widened(mx::imag(a, s));
    return rows(columns(re, mx::negative(im, s)), columns(im, re));
  }
  mx::array real_columns(const mx::array& b) const {
    return is_complex() ? rows(widened(mx::real(b, s)), widened(mx::imag(b, s))) : widened(b);
  }

  /// 1 / c for each matrix, as matrices of one element; 1 for zeros, and where it could be infinite. None of what was
  /// given in single precision, for which the range of double is wide enough. The results do not depend on it, and so
  /// no derivative goes through it.
  std::optional<mx::array> one_over_c(const mx::array& a) const {
    if (dtype != mx::float64) return std::nullopt;
    auto number = [](double value) { return mx::array(value, mx::float64); };
    const auto largest = mx::max(mx::abs(mx::stop_gradient(a, s), s), {-2, -1}, /*keepdims=*/true, s);
    const auto size = mx::where(mx::greater(largest, number(0x1p-1022), s), largest, number(1), s);
    return mx::power(number(0.5), mx::floor(mx::log2(size, s), s), s);
  }
  mx::array scaled(const mx::array& a, const std::optional<mx::array>& factor) const {
    return factor ? mx::multiply(a, *factor, s) : a;
  }

  /// The adjoint of real_matrix.
  mx::array from_real_matrix(const mx::array& a) const {
    if (!is_complex()) return narrowed(a);
    const auto [above, below] = halves(a, -2, s);
    const auto [re, minus_im] = halves(above, -1, s);
    const auto [im, same_re] = halves(below, -1, s);
    return complex(plus(re, same_re), minus(im, minus_im));
  }
  /// The inverse of real_columns, which is its adjoint.
  mx::array from_real_columns(const mx::array& x) const {
    if (!is_complex()) return narrowed(x);
    const auto [re, im] = halves(x, -2, s);
    return complex(re, im);
  }

 private:
  mx::array complex(const mx::array& re, const mx::array& im) const {
    const auto i = mx::array(mx::complex64_t{0, 1});
    return plus(mx::astype(narrowed(re), dtype, s), mx::multiply(mx::astype(narrowed(im), dtype, s), i, s));
  }
};

bool is_tall(const mx::array& a) {
  return a.shape(-2) >= a.shape(-1);
}

/// How x (..., N, K) and the residuals (..., K) change.
struct Tangents {
  mx::array x, residuals;
};

/// (2), (3) and (4). A missing tangent is zero.
Tangents real_jvp(const Solve& solve,
                  const mx::array& a,
                  const mx::array& b,
                  const std::optional<mx::array>& da,
                  const std::optional<mx::array>& db,
                  const Algebra& o) {
  if (!da) {
    // P (b, db) at the price of one solve.
    const auto [x, dx] = halves(solve(a, o.columns(b, *db)).first, -1, o.s);
    return {dx, o.twice_dot(o.minus(b, o.times(a, x)), *db)};
  }
  const auto at = o.transposed(a), dat = o.transposed(*da);
  const auto [x, rank] = solve(a, b);
  const auto r = o.minus(b, o.times(a, x));
  const auto atr = o.times(at, r);
  const auto minus_da_x = mx::negative(o.times(*da, x), o.s);
  const auto change = db ? o.plus(*db, minus_da_x) : minus_da_x;  // db − dA x

  auto inside = change;  // what P is applied to
  auto outside = x;      // d_D x
  if (is_tall(a)) {
    const auto z = sylvester(a, o.columns(dat, at), o.columns(at, dat), rank, o.s);
    const auto v = o.plus(o.times(dat, r), o.times(o.transposed(z), atr));
    inside = o.plus(change, solve(at, v).first);  // G v = P (Pᴴ v)
    outside = o.times(z, x);
  } else {
    const auto u = solve(at, x).first;
    const auto z = sylvester(at, o.columns(*da, a), o.columns(a, *da), rank, o.s);
    const auto dat_u = o.times(dat, u);
    inside = o.minus(o.plus(change, o.times(o.transposed(z), r)), o.times(a, dat_u));
    outside = o.plus(dat_u, o.times(at, o.times(z, u)));
  }
  return {o.plus(solve(a, inside).first, outside), o.minus(o.twice_dot(r, change), o.twice_dot(atr, outside))};
}

/// What cotangents of x (if there is one) and the residuals give for a and b; that of a only if it is wanted, being the
/// dearer.
struct Cotangents {
  std::optional<mx::array> a;
  mx::array b;
};

/// b, but zero for the columns that are not finite and that nothing depends on: those whose cotangents are zero. All
/// terms of such a column are a cotangent times something, and 0 times NaN would spoil what the columns share.
mx::array without_spoiled(const mx::array& b,
                          const std::optional<mx::array>& x_bar,
                          const mx::array& residuals_bar,
                          mx::Stream s) {
  const auto zero = mx::array(0.0, mx::float64);
  auto used = mx::not_equal(mx::expand_dims(residuals_bar, -2, s), zero, s);
  if (x_bar) used = mx::logical_or(used, mx::any(mx::not_equal(*x_bar, zero, s), -2, /*keepdims=*/true, s), s);
  const auto finite = mx::all(mx::isfinite(b, s), -2, /*keepdims=*/true, s);
  return mx::where(mx::stop_gradient(mx::logical_or(used, finite, s), s), b, zero, s);
}

/// The adjoint of (2), (3) and (4). With r̄ = 2 r ρ̄ and y = Pᴴ x̄, in both shapes b̄ = y + r̄ and Ā begins with −b̄ xᴴ.
/// Through (4), d_D x has the further cotangent −Aᴴ r̄: let d = x̄ − Aᴴ r̄. It lies in D, so Pᴴ need not see it.
///
/// Tall, with w = P y = G x̄:
///     P (db − dA x):          −y xᴴ
///     G dAᴴ r:                r wᴴ
///     G Zᴴ Aᴴ r and Z x:      Z̄ = (Aᴴ r) wᴴ + d xᴴ
///     Ā = −(y + r̄) xᴴ + r wᴴ + A (C̄ + C̄ᴴ),    C̄ = S(A; Z̄)
///
/// Wide, with u = Pᴴ x and (I − P A) d = d − Aᴴ y:
///     P (db − dA x):          −y xᴴ
///     (I − P A) dAᴴ u:        u (d − Aᴴ y)ᴴ
///     P Z_Lᴴ r and Aᴴ Z_L u:  Z̄ = r yᴴ + (A d) uᴴ
///     Ā = −(y + r̄) xᴴ + u (d − Aᴴ y)ᴴ + (C̄ + C̄ᴴ) A,    C̄ = S(Aᴴ; Z̄)
Cotangents real_vjp(const Solve& solve,
                    const mx::array& a,
                    const mx::array& given_b,
                    const std::optional<mx::array>& x_bar,
                    const mx::array& residuals_bar,
                    bool want_a,
                    const Algebra& o) {
  const auto at = o.transposed(a);
  const auto b = without_spoiled(given_b, x_bar, residuals_bar, o.s);
  const auto weight = mx::multiply(mx::array(2.0, mx::float64), mx::expand_dims(residuals_bar, -2, o.s), o.s);
  auto residual_of = [&](const mx::array& x) { return o.minus(b, o.times(a, x)); };
  auto outer = [&](const mx::array& left, const mx::array& right) { return o.times(left, o.transposed(right)); };

  if (is_tall(a)) {
    const auto y = x_bar ? solve(at, *x_bar).first : mx::zeros_like(b, o.s);
    const auto [solutions, rank] = solve(a, o.columns(b, y));  // one factorisation for both
    const auto [x, w] = halves(solutions, -1, o.s);
    const auto r = residual_of(x);
    const auto r_bar = mx::multiply(r, weight, o.s);
    const auto b_bar = o.plus(y, r_bar);
    if (!want_a) return {std::nullopt, b_bar};
    const auto pulled = o.times(at, r_bar);
    const auto d = x_bar ? o.minus(*x_bar, pulled) : mx::negative(pulled, o.s);
    const auto c_bar = sylvester(a, o.columns(o.times(at, r), d), o.columns(w, x), rank, o.s);
    const auto plain = o.minus(outer(r, w), outer(b_bar, x));
    return {o.plus(plain, o.times(a, o.plus_transpose(c_bar))), b_bar};
  }
  const auto [x, rank] = solve(a, b);
  const auto cotangent = x_bar ? *x_bar : mx::zeros_like(x, o.s);
  const auto [y, u] = halves(solve(at, o.columns(cotangent, x)).first, -1, o.s);
  const auto r = residual_of(x);
  const auto r_bar = mx::multiply(r, weight, o.s);
  const auto b_bar = o.plus(y, r_bar);
  if (!want_a) return {std::nullopt, b_bar};
  const auto d = o.minus(cotangent, o.times(at, r_bar));
  const auto c_bar = sylvester(at, o.columns(r, o.times(a, d)), o.columns(y, u), rank, o.s);
  const auto plain = o.minus(outer(u, o.minus(d, o.times(at, y))), outer(b_bar, x));
  return {o.plus(plain, o.times(o.plus_transpose(c_bar), a)), b_bar};
}

}  // namespace

std::vector<mx::array> Lstsq::jvp(const std::vector<mx::array>& primals,
                                  const std::vector<mx::array>& tangents,
                                  const std::vector<int>& argnums) {
  if (primals[1].ndim() == 1) {
    std::vector<mx::array> columns = tangents;
    for (std::size_t i = 0; i < argnums.size(); ++i) {
      if (argnums[i] == 1) columns[i] = mx::expand_dims(tangents[i], -1, stream());
    }
    auto jvps = jvp({primals[0], mx::expand_dims(primals[1], -1, stream())}, columns, argnums);
    jvps[0] = mx::squeeze(jvps[0], -1, stream());
    return jvps;
  }
  const Precision p{{stream()}, primals[0].dtype()};
  const auto a = p.real_matrix(primals[0]);
  const auto factor = p.one_over_c(a);
  std::optional<mx::array> da, db;
  for (std::size_t i = 0; i < argnums.size(); ++i) {
    if (argnums[i] == 0) {
      da = p.scaled(p.real_matrix(tangents[i]), factor);
    } else {
      db = p.real_columns(tangents[i]);
    }
  }
  const Solve solve = solve_with(p.of_real_problem(cutoff_), driver_, stream());
  const auto change = real_jvp(solve, p.scaled(a, factor), p.real_columns(primals[1]), da, db, p);
  std::vector<mx::array> jvps{p.from_real_columns(p.scaled(change.x, factor)), p.narrowed(change.residuals)};
  // The other outputs: the rank, which is constant, and what `SingularValues` reads, which differentiates by a itself.
  const auto shapes = output_shapes(primals);
  jvps.resize(spectrum,
              mx::zeros_like(mx::any(primals[0], {-2, -1}, /*keepdims=*/false, stream()), mx::int32, stream()));
  for (std::size_t i = spectrum; i < shapes.size(); ++i) jvps.push_back(mx::zeros(shapes[i], mx::float64, stream()));
  return jvps;
}

namespace {

/// The rule in the caller's dtype.
std::vector<mx::array> pull_back(const Cutoff& cutoff,
                                 Driver driver,
                                 const mx::array& given_a,
                                 const mx::array& b,
                                 const std::optional<mx::array>& x_bar,
                                 const mx::array& residuals_bar,
                                 const std::vector<int>& argnums,
                                 mx::Stream stream) {
  const Precision p{{stream}, given_a.dtype()};
  const auto a = p.real_matrix(given_a);
  const auto factor = p.one_over_c(a);
  const bool want_a = std::find(argnums.begin(), argnums.end(), 0) != argnums.end();
  const auto bar = real_vjp(solve_with(p.of_real_problem(cutoff), driver, stream),
                            p.scaled(a, factor),
                            p.real_columns(b),
                            x_bar ? std::optional(p.scaled(p.real_columns(*x_bar), factor)) : std::nullopt,
                            p.widened(residuals_bar),
                            want_a,
                            p);
  std::vector<mx::array> vjps;
  for (int argument : argnums) {
    vjps.push_back(argument == 0 ? p.from_real_matrix(p.scaled(*bar.a, factor)) : p.from_real_columns(bar.b));
  }
  return vjps;
}

}  // namespace

std::vector<mx::array> Lstsq::vjp(const std::vector<mx::array>& primals,
                                  const std::vector<mx::array>& cotangents,
                                  const std::vector<int>& argnums,
                                  const std::vector<mx::array>&) {
  const auto &a = primals[0], &b = primals[1], &x_bar = cotangents[0], &residuals_bar = cotangents[1];
  if (b.ndim() > 1) return pull_back(cutoff_, driver_, a, b, x_bar, residuals_bar, argnums, stream());
  const auto as_columns = [s = stream()](const mx::array& v) { return mx::expand_dims(v, -1, s); };
  auto vjps = pull_back(cutoff_, driver_, a, as_columns(b), as_columns(x_bar), residuals_bar, argnums, stream());
  for (std::size_t i = 0; i < argnums.size(); ++i) {
    if (argnums[i] == 1) vjps[i] = mx::squeeze(vjps[i], -1, stream());
  }
  return vjps;
}

// The residuals as a node of their own: the same rules, of a and b alone.

std::vector<mx::array> ResidualSums::jvp(const std::vector<mx::array>& primals,
                                         const std::vector<mx::array>& tangents,
                                         const std::vector<int>& argnums) {
  return {Lstsq(stream(), cutoff_, driver_).jvp({primals[0], primals[1]}, tangents, argnums)[1]};
}

std::vector<mx::array> ResidualSums::vjp(const std::vector<mx::array>& primals,
                                         const std::vector<mx::array>& cotangents,
                                         const std::vector<int>& argnums,
                                         const std::vector<mx::array>&) {
  return pull_back(cutoff_, driver_, primals[0], primals[1], std::nullopt, cotangents[0], argnums, stream());
}

// ds_i = Re(u_iᴴ dA v_i), and so Ā = U diag(s̄) Vᴴ. Among equal singular values u_i and v_i are whichever the SVD found:
// single ones have no derivative there; what sees equal values equally, their sum say, has this one.

namespace {

/// U and Vᴴ of the thin SVD: of real matrices in double precision, of complex ones as precise as MLX has them.
struct Factors : Precision {
  mx::array u, vh;

  Factors(const mx::array& a, mx::Stream stream) : Precision{{stream}, a.dtype()}, u(a), vh(a) {
    const auto factors = svd_factors(working(a), s);
    u = factors[0];
    vh = factors[2];
  }
  mx::array working(const mx::array& a) const { return mx::astype(a, is_complex() ? dtype : mx::float64, s); }
  mx::array times_any(const mx::array& a, const mx::array& b) const {
    return is_complex() ? mx::matmul(a, b, s) : times(a, b);
  }
  mx::array conjugated(const mx::array& a) const { return is_complex() ? mx::conjugate(a, s) : a; }
};

}  // namespace

std::vector<mx::array> SingularValues::jvp(const std::vector<mx::array>& primals,
                                           const std::vector<mx::array>& tangents,
                                           const std::vector<int>&) {
  const auto s = stream();
  const Factors f(primals[0], s);
  const auto da_v = f.times_any(f.working(tangents[0]), f.conjugated(f.transposed(f.vh)));
  const auto ds = mx::sum(mx::multiply(f.conjugated(f.u), da_v, s), -2, false, s);
  return {f.is_complex() ? mx::real(ds, s) : f.narrowed(ds)};
}

std::vector<mx::array> SingularValues::vjp(const std::vector<mx::array>& primals,
                                           const std::vector<mx::array>& cotangents,
                                           const std::vector<int>&,
                                           const std::vector<mx::array>&) {
  const auto s = stream();
  const Factors f(primals[0], s);
  const auto weights = f.working(mx::expand_dims(cotangents[0], -2, s));
  const auto a_bar = f.times_any(mx::multiply(f.u, weights, s), f.vh);
  return {mx::astype(a_bar, primals[0].dtype(), s)};
}

}  // namespace lstsq_mlx
