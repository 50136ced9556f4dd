// Tall problems: the Gram matrix, its Cholesky factor, and iterative refinement with the residual in double precision.
#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "complex.h"
#include "core.h"
#include "refinement.h"
#include "solvers.h"

namespace lstsq::kernels {

namespace {

template <class T>
class Tall {
 public:
  Tall(const Operands<T>& operands, int parts)
      : p_(operands),
        parts_(parts),
        k_(operands.b.cols / parts),
        gram_(std::make_unique_for_overwrite<double[]>(
            static_cast<size_t>(padded(operands.a.cols) * padded(operands.a.cols)))),
        cross_(static_cast<size_t>(operands.b.cols * padded(operands.a.cols))),
        core(operands.a.cols, gram_.get()) {}

  // `given`: room for the Gram matrix in double precision, which is then formed, or null.
  Status factorise(double rcond, double* given, Report& report) {
    const auto form = [&](bool single) {
      const int64_t chain = gram(p_, false, single, gram_.get(), cross_.data());
      if (parts_ == 2) fold_gram(p_.a.cols / 2, gram_.get());
      if (given && parts_ == 1 && !single) {
        copy_gram(given);
        report.has_gram = true;
      }
      return chain;
    };
    return factorise_gram<T>(core, p_.a.cols, p_.a.rows, rcond, form, multiply(), given == nullptr, report);
  }

  // w (n rows of k) = A'b, or A'(b - A x), from the products of the last pass.
  void take_cross(double* w) const {
    if (parts_ == 2) return fold_cross(p_.a.cols / 2, k_, cross_.data(), w);
    const int64_t ld = padded(p_.a.cols);
    for (int64_t j = 0; j < p_.a.cols; ++j)
      for (int64_t c = 0; c < k_; ++c) w[j * k_ + c] = cross_[static_cast<size_t>(c * ld + j)];
  }

  // sums (k): |b - A x|^2 by columns; with gradient, A'(b - A x) is left for take_cross.
  void residual(const double* x, double* sums, bool gradient) {
    double* g = gradient ? cross_.data() : nullptr;
    if (parts_ == 1) return residual_pass(p_, x, sums, g, nullptr);
    const std::vector<double> spread = spread_unknowns(p_.a.cols / 2, k_, x);
    std::vector<double> both(static_cast<size_t>(p_.b.cols));
    residual_pass(p_, spread.data(), both.data(), g, nullptr);
    for (int64_t c = 0; c < k_; ++c) sums[c] = both[static_cast<size_t>(2 * c)] + both[static_cast<size_t>(2 * c + 1)];
  }

  // Whether a right-hand side is zero in every row.
  bool no_right_side(int64_t c) const {
    for (int64_t i = 0; i < p_.a.rows; ++i)
      for (int64_t part = 0; part < parts_; ++part)
        if (p_.b(i, c * parts_ + part) != 0) return false;
    return true;
  }

  // |D^-1 column c of w|.
  double scaled_norm(const double* w, int64_t c) const {
    double sum = 0;
    for (int64_t j = 0; j < p_.a.cols; ++j) {
      const double e = w[j * k_ + c] / core.scale(j);
      sum += e * e;
    }
    return std::sqrt(sum);
  }

 private:
  // Its upper triangle, rows without gaps.
  void copy_gram(double* to) const {
    const int64_t n = p_.a.cols, ld = padded(n);
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = i; j < n; ++j) to[i * n + j] = gram_[static_cast<size_t>(i * ld + j)];
  }

  // Of real matrices alone.
  Core::Multiply multiply() const {
    if (parts_ == 2) return nullptr;
    return [this](double* v) {
      const std::vector<T> zeros(static_cast<size_t>(probes), T(0));
      const Operands<T> product{p_.a, {zeros.data(), p_.a.rows, probes, 0, 1}};
      const int64_t ld = padded(p_.a.cols);
      std::vector<double> gradient(static_cast<size_t>(probes * ld)), unused(static_cast<size_t>(probes));
      residual_pass(product, v, unused.data(), gradient.data(), nullptr);  // A'(0 - A v)
      for (int64_t j = 0; j < p_.a.cols; ++j)
        for (int64_t c = 0; c < probes; ++c) v[j * probes + c] = -gradient[static_cast<size_t>(c * ld + j)];
    };
  }

  const Operands<T>& p_;
  const int parts_;
  const int64_t k_;
  std::unique_ptr<double[]> gram_;
  std::vector<double> cross_;

 public:
  Core core;
};

}  // namespace

template <class T>
Status solve_tall(
    const Operands<T>& p, int parts, double rcond, double* x, double* sums, double* given, Report& report) {
  const int64_t n = p.a.cols, k = p.b.cols / parts;
  Tall<T> problem(p, parts);
  if (const Status status = problem.factorise(rcond, given, report); status != Status::certified) return status;

  problem.take_cross(x);
  for (int64_t i = 0; i < n * k; ++i)
    if (!std::isfinite(x[i])) return Status::out_of_range;  // infinity or NaN in b
  problem.core.solve(x, k);

  const double contraction = problem.core.contraction;
  const double tolerance = negligible<T> + problem.core.condition * rounding_floor(n);
  if (sizeof(T) == 4 && report.tier == Tier::double_gram && contraction < negligible<T>) {
    if (sums) problem.residual(x, sums, false);
    return Status::certified;
  }
  std::vector<double> step(static_cast<size_t>(n * k)), squares(static_cast<size_t>(k)), decrease(squares.size());
  Refinement refinement(report.steps);
  for (auto next = Refinement::Next::step; next != Refinement::Next::done;) {
    problem.residual(x, squares.data(), true);
    problem.take_cross(step.data());
    problem.core.solve(step.data(), k, decrease.data());
    for (int64_t i = 0; i < n * k; ++i) x[i] += step[static_cast<size_t>(i)];
    double largest = 0;
    for (int64_t c = 0; c < k; ++c) {
      const double size = problem.scaled_norm(x, c) + std::sqrt(squares[static_cast<size_t>(c)]);
      const double moved = problem.scaled_norm(step.data(), c);
      // x and the residual are both small only where b is: then products with A may have vanished.
      const bool in_range = sizeof(T) == 4 || ordinary(size) || (size == 0 && problem.no_right_side(c));
      if (!in_range || !std::isfinite(moved)) return Status::out_of_range;
      if (moved > 0) largest = std::max(largest, moved / size);
    }
    next = refinement.after(largest, contraction * largest <= tolerance);
    if (next == Refinement::Next::give_up) return Status::ill_conditioned;
  }
  if (sums) {
    std::copy_n(squares.data(), k, sums);
    if (!lower_by_step(decrease.data(), sums, k)) problem.residual(x, sums, false);
  }
  return Status::certified;
}

template Status solve_tall(const Operands<float>&, int, double, double*, double*, double*, Report&);
template Status solve_tall(const Operands<double>&, int, double, double*, double*, double*, Report&);

}  // namespace lstsq::kernels
