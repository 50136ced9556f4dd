#include "sylvester.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <stdexcept>

#include "arrays.h"
#include "lapack/blas.h"
#include "lapack/thin_svd.h"
#include "mlx/ops.h"
#include "on_cpu.h"
#include "product.h"
#include "shapes.h"

namespace lstsq_mlx {

mx::array sylvester(const mx::array& a, const mx::array& x, const mx::array& y, const mx::array& rank, mx::Stream s) {
  const auto primitive = std::make_shared<Sylvester>(s);
  const std::vector<mx::array> inputs{a, x, y, rank};
  return mx::array(primitive->output_shapes(inputs)[0], mx::float64, primitive, inputs);
}

std::vector<mx::Shape> Sylvester::output_shapes(const std::vector<mx::array>& inputs) {
  auto shape = inputs[0].shape();
  const auto rows = shape.end() - 2;
  if (*rows < shape.back()) {
    throw std::invalid_argument(
        "[lstsq] a derivative that was compiled without shapes for a tall matrix was called with a wide one, or the "
        "other way round; expected the same. Compile it with shapeless=False.");
  }
  *rows = shape.back();
  return {shape};
}

namespace {

// In the basis V of right singular vectors: Z_ji = C_ji / (σi² − σj²) for i among the k kept and j among the others.
void solve(
    const MatrixView<double>& a, const MatrixView<double>& x, const MatrixView<double>& y, std::int64_t k, double* z) {
  const std::int64_t n = a.cols;
  if (k <= 0 || k >= n) {
    std::fill_n(z, n * n, 0.0);
    return;
  }
  RightSingular basis(a.rows, n);
  if (!basis.compute(a)) {
    std::fill_n(z, n * n, std::numeric_limits<double>::quiet_NaN());
    return;
  }
  const auto& sigma = basis.sigma;
  const auto vt = column_major(basis.vt.data(), n, n, n);
  const auto kept = vt.rows_from(0, k), dropped = vt.rows_from(k, n - k);

  Buffer<double> dropped_x((n - k) * x.cols), kept_y(k * y.cols), core((n - k) * k), half((n - k) * n);
  multiply(dropped, x, dropped_x.data());
  multiply(kept, y, kept_y.data());
  multiply(row_major(dropped_x.data(), n - k, x.cols), transposed(row_major(kept_y.data(), k, y.cols)), core.data());
  for (std::int64_t j = 0; j < n - k; ++j) {
    for (std::int64_t i = 0; i < k; ++i) {
      core[j * k + i] /= sigma[i] - sigma[k + j];
      core[j * k + i] /= sigma[i] + sigma[k + j];
    }
  }
  multiply(row_major(core.data(), n - k, k), kept, half.data());
  multiply(transposed(dropped), row_major(half.data(), n - k, n), z);
}

}  // namespace

void Sylvester::eval_cpu(const std::vector<mx::array>& inputs, mx::array& out) {
  run_on_cpu(stream(), inputs, {out}, [](const std::vector<mx::array>& in, std::vector<mx::array>& outputs) {
    const Batch<double> as = batch<double>(in[0]), xs = batch<double>(in[1]), ys = batch<double>(in[2]);
    const Batch<std::int32_t> ranks = batch<std::int32_t>(in[3]);
    mx::array& z = outputs[0];
    const Int size = Int{z.shape(-1)} * z.shape(-1);
    for (Int i = 0; i < as.count(); ++i) solve(as[i], xs[i], ys[i], ranks[i](0, 0), z.data<double>() + i * size);
  });
}

// The derivative of Z = S(A; C), C = X Yᵀ. It holds throughout that Q = Q² = Qᵀ commutes with M, and that
//
//     dQ = L + Lᵀ,    L = S(A; dM),    dM = dAᵀA + AᵀdA                                                     (1)
//
// (the first-order perturbation of a spectral projector: Kato 1966, II §2; Stewart and Sun 1990, V.2). Differentiate
// Z = (I − Q) Z Q: the parts of dZ outside (I − Q) · Q are −dQ Z and Z dQ. Differentiate Z M − M Z = (I − Q) C Q and
// keep the part inside (I − Q) · Q: with W = (I − Q) dZ Q,
//
//     W M − M W = (I − Q) (dC − dQ C + C dQ + dM Z − Z dM) Q.
//
// Together
//
//     dZ = −dQ Z + Z dQ + S(A; dC − dQ C + C dQ + dM Z − Z dM),                                             (2)
//
// and the argument of S is again a product of factors:
//
//     [dX − dQ X,  X,          dAᵀ,     Aᵀ,        −Z dAᵀ,  −Z Aᵀ]
//     [Y,          dY + dQ Y,  (A Z)ᵀ,  (dA Z)ᵀ,   Aᵀ,      dAᵀ  ]ᵀ                                         (3)
std::vector<mx::array> Sylvester::jvp(const std::vector<mx::array>& primals,
                                      const std::vector<mx::array>& tangents,
                                      const std::vector<int>& argnums) {
  const auto s = stream();
  const auto &a = primals[0], &x = primals[1], &y = primals[2], &rank = primals[3];
  auto transposed = [&](const mx::array& m) { return mx::swapaxes(m, -1, -2, s); };
  auto times = [&](const mx::array& l, const mx::array& r) { return product(l, r, s); };
  auto columns = [&](std::vector<mx::array> blocks) { return mx::concatenate(std::move(blocks), -1, s); };

  std::optional<mx::array> da, dx, dy;
  for (size_t i = 0; i < argnums.size(); ++i) {
    if (argnums[i] < 3) {
      std::array{&da, &dx, &dy}[argnums[i]]->emplace(tangents[i]);
    }
  }

  // dC alone: S is linear in it.
  if (!da) {
    if (!dx && !dy) {
      return {mx::zeros_like(sylvester(a, x, y, rank, s), s)};
    }
    if (dx && dy) {
      return {sylvester(a, columns({*dx, x}), columns({y, *dy}), rank, s)};
    }
    return {dx ? sylvester(a, *dx, y, rank, s) : sylvester(a, x, *dy, rank, s)};
  }

  const auto z = sylvester(a, x, y, rank, s);
  const auto at = transposed(a);
  const auto dat = transposed(*da);
  const auto l = sylvester(a, columns({dat, at}), columns({at, dat}), rank, s);
  const auto dq = mx::add(l, transposed(l), s);

  auto left = mx::negative(times(dq, x), s);
  auto right = times(dq, y);
  left = dx ? mx::add(*dx, left, s) : left;
  right = dy ? mx::add(*dy, right, s) : right;
  const auto inside =
      sylvester(a,
                columns({left, x, dat, at, mx::negative(times(z, dat), s), mx::negative(times(z, at), s)}),
                columns({y, right, transposed(times(a, z)), transposed(times(*da, z)), at, dat}),
                rank,
                s);
  return {mx::add(mx::subtract(times(z, dq), times(dq, z), s), inside, s)};
}

// The adjoint of (2). S is self-adjoint: ⟨Z̄, S(A; C')⟩ = ⟨C̄, C'⟩ with C̄ = S(A; Z̄), so
//
//     X̄ = C̄ Y,    Ȳ = C̄ᵀ X,
//     Q̄ = Zᵀ Z̄ − Z̄ Zᵀ + Cᵀ C̄ − C̄ Cᵀ        from −dQ Z + Z dQ against Z̄ and −dQ C + C dQ against C̄,
//     M̄ = S(A; Q̄ + Q̄ᵀ) + C̄ Zᵀ − Zᵀ C̄       from (1), and from dM Z − Z dM against C̄,
//     Ā = A (M̄ + M̄ᵀ)                        from dM = dAᵀA + AᵀdA.
//
// With Cᵀ C̄ = Y Ȳᵀ and C̄ Cᵀ = X̄ Xᵀ, the argument Q̄ + Q̄ᵀ of S is the product
//
//     [Zᵀ,   −Z̄,  Z̄ᵀ,  −Z,  Y,  −X̄,  Ȳ,  −X]
//     [Z̄ᵀ,  Z,   Zᵀ,  Z̄,   Ȳ,  X,   Y,  X̄ ]ᵀ
std::vector<mx::array> Sylvester::vjp(const std::vector<mx::array>& primals,
                                      const std::vector<mx::array>& cotangents,
                                      const std::vector<int>& argnums,
                                      const std::vector<mx::array>& outputs) {
  const auto s = stream();
  const auto &a = primals[0], &x = primals[1], &y = primals[2], &rank = primals[3];
  const auto &z = outputs[0], &z_bar = cotangents[0];
  auto transposed = [&](const mx::array& m) { return mx::swapaxes(m, -1, -2, s); };
  auto times = [&](const mx::array& l, const mx::array& r) { return product(l, r, s); };
  auto columns = [&](std::vector<mx::array> blocks) { return mx::concatenate(std::move(blocks), -1, s); };
  auto minus = [&](const mx::array& m) { return mx::negative(m, s); };

  const auto c_bar = sylvester(a, z_bar, identity_like(z, s), rank, s);
  const auto x_bar = times(c_bar, y);
  const auto y_bar = times(transposed(c_bar), x);

  auto a_bar = [&] {
    const auto zt = transposed(z);
    const auto z_bar_t = transposed(z_bar);
    const auto from_q = sylvester(a,
                                  columns({zt, minus(z_bar), z_bar_t, minus(z), y, minus(x_bar), y_bar, minus(x)}),
                                  columns({z_bar_t, z, zt, z_bar, y_bar, x, y, x_bar}),
                                  rank,
                                  s);
    const auto m_bar = mx::add(from_q, mx::subtract(times(c_bar, zt), times(zt, c_bar), s), s);
    return times(a, mx::add(m_bar, transposed(m_bar), s));
  };

  std::vector<mx::array> vjps;
  for (int arg : argnums) {
    switch (arg) {
      case 0:
        vjps.push_back(a_bar());
        break;
      case 1:
        vjps.push_back(x_bar);
        break;
      case 2:
        vjps.push_back(y_bar);
        break;
      default:
        vjps.push_back(mx::zeros_like(rank, s));
    }
  }
  return vjps;
}

std::pair<std::vector<mx::array>, std::vector<int>> Sylvester::vmap(const std::vector<mx::array>& inputs,
                                                                    const std::vector<int>& axes) {
  const auto mapped = all_mapped(inputs, axes, stream());
  return {{sylvester(mapped[0], mapped[1], mapped[2], mapped[3], stream())}, {0}};
}

}  // namespace lstsq_mlx
