#include "product.h"

#include <algorithm>
#include <stdexcept>

#include "arrays.h"
#include "lapack/blas.h"
#include "mlx/ops.h"
#include "on_cpu.h"
#include "shapes.h"

namespace lstsq_mlx {

mx::array product(const mx::array& a, const mx::array& b, mx::Stream s) {
  const auto primitive = std::make_shared<Product>(s);
  return mx::array(primitive->output_shapes({a, b})[0], mx::float64, primitive, {a, b});
}

std::vector<mx::Shape> Product::output_shapes(const std::vector<mx::array>& inputs) {
  auto shape = inputs[0].shape();
  const auto& other = inputs[1].shape();
  if (shape.size() != other.size() || shape.back() != other[other.size() - 2] ||
      !std::equal(shape.begin(), shape.end() - 2, other.begin())) {
    throw std::invalid_argument(
        "[lstsq] a derivative that was compiled with shapeless=True was called with shapes that it was not traced for; "
        "expected those of the first call but for the lengths. Compile it with shapeless=False.");
  }
  shape.back() = other.back();
  return {shape};
}

namespace {

bool is_zero(const MatrixView<double>& a) {
  for (std::int64_t i = 0; i < a.rows; ++i) {
    for (std::int64_t j = 0; j < a.cols; ++j) {
      if (a(i, j) != 0) {
        return false;
      }
    }
  }
  return true;
}

}  // namespace

void Product::eval_cpu(const std::vector<mx::array>& inputs, mx::array& out) {
  run_on_cpu(stream(), inputs, {out}, [](const std::vector<mx::array>& in, std::vector<mx::array>& outputs) {
    const Batch<double> as = batch<double>(in[0]), bs = batch<double>(in[1]);
    mx::array& product = outputs[0];
    const Int size = Int{product.shape(-2)} * product.shape(-1);
    double* result = product.data<double>();
    for (Int i = 0; i < as.count(); ++i, result += size) {
      if (is_zero(as[i]) || is_zero(bs[i])) {
        std::fill_n(result, size, 0.0);
      } else {
        multiply(as[i], bs[i], result);
      }
    }
  });
}

// d(A B) = dA B + A dB, and its adjoint.
std::vector<mx::array> Product::jvp(const std::vector<mx::array>& primals,
                                    const std::vector<mx::array>& tangents,
                                    const std::vector<int>& argnums) {
  auto term = [&](size_t i) {
    return argnums[i] == 0 ? product(tangents[i], primals[1], stream()) : product(primals[0], tangents[i], stream());
  };
  return {argnums.size() == 1 ? term(0) : mx::add(term(0), term(1), stream())};
}

std::vector<mx::array> Product::vjp(const std::vector<mx::array>& primals,
                                    const std::vector<mx::array>& cotangents,
                                    const std::vector<int>& argnums,
                                    const std::vector<mx::array>&) {
  std::vector<mx::array> vjps;
  for (int arg : argnums) {
    const auto other = mx::swapaxes(primals[1 - arg], -1, -2, stream());
    vjps.push_back(arg == 0 ? product(cotangents[0], other, stream()) : product(other, cotangents[0], stream()));
  }
  return vjps;
}

std::pair<std::vector<mx::array>, std::vector<int>> Product::vmap(const std::vector<mx::array>& inputs,
                                                                  const std::vector<int>& axes) {
  const auto mapped = all_mapped(inputs, axes, stream());
  return {{product(mapped[0], mapped[1], stream())}, {0}};
}

}  // namespace lstsq_mlx
