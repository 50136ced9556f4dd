// Wide problems, the mirror image: x = A'y with (AA') y = b is the solution of minimum norm.
#include <cmath>
#include <memory>
#include <vector>

#include "core.h"
#include "refinement.h"
#include "solvers.h"

namespace lstsq::kernels {

template <class T>
Status solve_wide(const Operands<T>& p, double rcond, double* x, double* sums, Report& report) {
  const int64_t m = p.a.rows, n = p.a.cols, k = p.b.cols;
  const auto g = std::make_unique_for_overwrite<double[]>(static_cast<size_t>(padded(m) * padded(m)));
  Core core(m, g.get());
  const auto form = [&](bool single) { return gram(p, true, single, g.get(), nullptr); };
  const auto multiply = [&](double* v) {  // A A'v
    const std::vector<T> zeros(static_cast<size_t>(probes), T(0));
    const Operands<T> product{p.a, {zeros.data(), m, probes, 0, 1}};
    std::vector<double> y(static_cast<size_t>(n * probes)), unused(static_cast<size_t>(probes));
    transpose_pass(p.a, probes, v, y.data());
    residual_pass(product, y.data(), unused.data(), nullptr, v);
    for (int64_t i = 0; i < m * probes; ++i) v[i] = -v[i];
  };
  const Status status = factorise_gram<T>(core, m, n, rcond, form, multiply, /*single_suits=*/true, report);
  if (status != Status::certified) return status;

  std::vector<double> step(static_cast<size_t>(m * k)), squares(static_cast<size_t>(k)), norms(squares.size()),
      moved(squares.size());
  if (!take_right_sides(p, step.data())) return Status::out_of_range;
  core.solve(step.data(), k, norms.data());  // |R^-T D b| is |x|
  transpose_pass(p.a, k, step.data(), x);

  // What A'y loses in rounding is not small next to A x: y may be larger than x by the condition number. So each step
  // is added to x, not to y, and that loss is part of what is left of it. It ends where the error is negligible, or
  // where the residual is, next to |A| |x|: then its rounding errors alone are left of the step.
  const double left_over = core.contraction + 0x1p-50 * core.condition;
  const double floor = negligible<T> + core.condition * rounding_floor(m);
  const bool done = sizeof(T) == 4 && report.tier == Tier::double_gram && left_over < negligible<T>;
  Refinement refinement(report.steps);
  std::vector<double> dx(done ? 0 : static_cast<size_t>(n * k));
  for (auto next = done ? Refinement::Next::done : Refinement::Next::step; next != Refinement::Next::done;) {
    residual_pass(p, x, squares.data(), nullptr, step.data());
    core.solve(step.data(), k, moved.data());
    transpose_pass(p.a, k, step.data(), dx.data());
    for (size_t i = 0; i < dx.size(); ++i) x[i] += dx[i];
    double largest = 0, residual = 0;
    for (size_t c = 0; c < moved.size(); ++c) {
      if (!std::isfinite(moved[c])) return Status::out_of_range;
      if (moved[c] > 0) {
        largest = std::max(largest, moved[c] / norms[c]);
        residual = std::max(residual, std::sqrt(squares[c]) / norms[c]);
      }
    }
    const bool solved = residual <= 0x1p-50 * core.frobenius;
    next = refinement.after(largest, left_over * largest <= (solved ? floor : negligible<T>));
    if (next == Refinement::Next::give_up) return Status::ill_conditioned;
  }
  if (sums) residual_pass(p, x, sums, nullptr, nullptr);
  return Status::certified;
}

template Status solve_wide(const Operands<float>&, double, double*, double*, Report&);
template Status solve_wide(const Operands<double>&, double, double*, double*, Report&);

}  // namespace lstsq::kernels
