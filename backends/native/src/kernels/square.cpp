// Square problems: LU factors in the precision of A, refinement with the residual in double precision. The factors
// are trusted only as far as random probes show: of I - M^-1 A, M = LU, and of M^-1.
#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>

#include "core.h"
#include "factors.h"
#include "refinement.h"
#include "solvers.h"

namespace lstsq::kernels {

namespace {

template <class T>
struct Factors {
  explicit Factors(int64_t n)
      : n(n),
        ld(padded(n) + pad_to),
        values(std::make_unique_for_overwrite<T[]>(static_cast<size_t>(n * ld))),
        pivots(static_cast<size_t>(n)) {}

  // Copy A, to be factorised here. Returns its sum of squares.
  double take(const MatrixView<T>& matrix) {
    const int64_t cuts = pieces(n, static_cast<double>(n), gram_piece, 4);
    std::vector<double> squares(static_cast<size_t>(cuts));
    parallel(cuts, [&](int64_t cut) {
      double sum = 0;
      in_rows(matrix,
              n * cut / cuts,
              n * (cut + 1) / cuts,
              [&](const T* a, int64_t lda, int64_t from, int64_t to, int64_t first) {
                for (int64_t i = from; i < to; ++i) {
                  T* row = values.get() + (first + i) * ld;
                  double squares_of_row = 0;
                  for (int64_t j = 0; j < n; ++j) {
                    const T e = row[j] = a[i * lda + j];
                    squares_of_row += static_cast<double>(e) * static_cast<double>(e);
                  }
                  std::fill(row + n, row + ld, T(0));
                  sum += squares_of_row;
                }
              });
      squares[static_cast<size_t>(cut)] = sum;
    });
    return std::accumulate(squares.begin(), squares.end(), 0.0);
  }

  // w (n rows of k), for any k: columns in groups, over the threads.
  void solve(bool transposed, double* w, int64_t k) const {
    if (k == 1 && !transposed) return solve_group(false, w, 1);
    const int64_t width = 4, groups = (k + width - 1) / width;
    std::vector<double> group(static_cast<size_t>(groups * n * width));
    parallel(groups, [&](int64_t task) {
      double* own = group.data() + task * n * width;
      const int64_t from = task * width, live = std::min(width, k - from);
      for (int64_t i = 0; i < n; ++i)
        for (int64_t c = 0; c < live; ++c) own[i * width + c] = w[i * k + from + c];
      solve_group(transposed, own, width);
      for (int64_t i = 0; i < n; ++i)
        for (int64_t c = 0; c < live; ++c) w[i * k + from + c] = own[i * width + c];
    });
  }

  const int64_t n, ld;
  std::unique_ptr<T[]> values;
  std::vector<int32_t> pivots;

 private:
  void solve_group(bool transposed, double* w, int64_t k) const {
    if constexpr (sizeof(T) == 4)
      isa().lu_f.solve(n, values.get(), ld, pivots.data(), transposed, w, k);
    else
      isa().lu_d.solve(n, values.get(), ld, pivots.data(), transposed, w, k);
  }
};

double mean_square(const std::vector<double>& w) {
  double sum = 0;
  for (const double e : w) sum += e * e;
  return sum / static_cast<double>(probes);
}

// An upper estimate of a matrix's 2-norm that gets closer at each call: with w = B^j z, the mean of |w|^2 is about
// trace(B^2j) >= |B|_2^2j, where B is A'A or its inverse; an odd half step (A alone) counts as half a power. The powers
// are kept as w 2^exponent with entries of w up to 1, since they themselves would soon over- or underflow.
struct NormEstimate {
  std::vector<double> w;  // what the powers were applied to so far
  double halves = 0;      // how many factors A, or A^-1
  double exponent = 0;

  // To be called after each factor or two. Where an entry is not finite, or none is left, value() is NaN.
  void rescale() {
    double largest = 0;
    for (const double e : w) largest = std::max(largest, std::abs(e));  // NaN is seen by value()
    if (!(largest > 0 && std::isfinite(largest))) {
      exponent = NAN;
      return;
    }
    const int by = std::ilogb(largest) + 1;
    for (double& e : w) e = std::ldexp(e, -by);
    exponent += by;
  }
  double value() const { return std::exp2((std::log2(probe_safety * mean_square(w)) / 2 + exponent) / halves); }
};

// Four more factors, A and its transpose in turn.
template <class T>
void multiply(const Operands<T>& product, NormEstimate& estimate) {
  std::vector<double> v(estimate.w.size()), sums(static_cast<size_t>(probes));
  // b = 0, so the residual is -A w.
  auto times = [&] { residual_pass(product, estimate.w.data(), sums.data(), nullptr, v.data()); };
  auto transposed_times = [&] { transpose_pass(product.a, probes, v.data(), estimate.w.data()); };
  for (int factors = 0; factors < 2; ++factors) {
    times();
    transposed_times();
    estimate.rescale();
  }
  estimate.halves += 4;
}

}  // namespace

template <class T>
Status solve_square(const Operands<T>& p, double rcond, double* x, double* sums, Report& report) {
  const int64_t n = p.a.cols, k = p.b.cols;
  report.tier = Tier::lu;
  Factors<T> factors(n);
  const double frobenius = std::sqrt(factors.take(p.a));
  const double limit = sizeof(T) == 4 ? 0x1p50 : largest_norm;
  if (!(frobenius < limit && frobenius > 1 / limit)) return Status::out_of_range;
  if (!lu(n, factors.values.get(), factors.ld, factors.pivots.data())) return Status::ill_conditioned;

  // E = I - M^-1 A and, where its norm says too little, E^2, of Gaussian z. The worst direction of E, that of the
  // smallest singular value, is nearly orthogonal to what it maps to, so E^2 is much smaller than |E|^2.
  std::vector<double> z(static_cast<size_t>(n * probes)), unused(static_cast<size_t>(probes));
  gaussian(n * probes, z.data());
  const std::vector<T> zeros(static_cast<size_t>(probes), T(0));
  const Operands<T> product{p.a, {zeros.data(), n, probes, 0, 1}};
  auto multiply_by_error = [&](std::vector<double>& v) {
    std::vector<double> w(v.size());
    residual_pass(product, v.data(), unused.data(), nullptr, w.data());  // -A v
    factors.solve(false, w.data(), probes);
    for (size_t i = 0; i < v.size(); ++i) v[i] += w[i];
    return std::max(std::sqrt(probe_safety * mean_square(v)), 0x1p-53);  // the products' own rounding at least
  };
  std::vector<double> v = z;
  const double once = multiply_by_error(v), twice = once < 0.1 ? once * once : multiply_by_error(v);
  report.contraction = std::min(once, std::sqrt(twice));
  if (!(once < 8 && twice < 0.25)) return Status::ill_conditioned;
  // |(I - E)^-1| = |(I + E) (I - E^2)^-1|
  const double amplification = std::min((1 + once) / (1 - twice), once < 1 ? 1 / (1 - once) : HUGE_VAL);

  // |A^-1| <= |(I - E)^-1| |M^-1|. The bounds start cheap and get closer while they leave the rank in doubt; the
  // margin is for the rounding errors of the estimates, whose safety is their own.
  NormEstimate inverse{z}, norm{z};
  double inverse_bound = HUGE_VAL, norm_bound = frobenius;
  auto certain = [&] { return certainly_above(rcond, norm_bound * inverse_bound, 1.1); };
  for (int round = 0; round < 3 && !certain(); ++round) {
    if (round > 0) {
      multiply(product, norm);
      norm_bound = std::min(norm_bound, norm.value());
      if (certain()) break;
    }
    factors.solve(false, inverse.w.data(), probes);
    factors.solve(true, inverse.w.data(), probes);
    inverse.rescale();
    inverse.halves += 2;
    inverse_bound = std::min(inverse_bound, amplification * inverse.value());
  }
  report.condition = norm_bound * inverse_bound;
  if (!certain()) return Status::ill_conditioned;

  if (!take_right_sides(p, x)) return Status::out_of_range;
  factors.solve(false, x, k);

  std::vector<double> step(static_cast<size_t>(n * k)), squares(static_cast<size_t>(k));
  const double tolerance = negligible<T> + report.condition * rounding_floor(n);
  Refinement refinement(report.steps);
  for (auto next = Refinement::Next::step; next != Refinement::Next::done;) {
    residual_pass(p, x, squares.data(), nullptr, step.data());
    factors.solve(false, step.data(), k);
    double largest = 0;
    for (int64_t c = 0; c < k; ++c) {
      double moved = 0, size = 0;
      for (int64_t i = 0; i < n; ++i) {
        const double dx = step[static_cast<size_t>(i * k + c)], e = x[i * k + c] += dx;
        moved += dx * dx;
        size += e * e;
      }
      if (!std::isfinite(moved)) return Status::out_of_range;
      if (moved > 0) largest = std::max(largest, std::sqrt(moved / size));
    }
    // The error e before a step and the step (I - E) e: what is left is E e, or E^2 of the error one step earlier.
    const double left = amplification * std::min(once * largest, twice * refinement.last());
    next = refinement.after(largest, left <= tolerance);
    if (next == Refinement::Next::give_up) return Status::ill_conditioned;
  }
  if (sums) residual_pass(p, x, sums, nullptr, nullptr);
  return Status::certified;
}

template Status solve_square(const Operands<float>&, double, double*, double*, Report&);
template Status solve_square(const Operands<double>&, double, double*, double*, Report&);

}  // namespace lstsq::kernels
