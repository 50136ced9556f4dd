// Square problems: LU factors in the precision of A, refinement with the residual in double precision. The factors
// are trusted only as far as random probes show: of I - M^-1 A, M = LU, and of M^-1.
#include <cmath>

#include "core.h"
#include "solvers.h"

namespace lstsq::kernels {

namespace {

template <class T>
void lu_solve(int64_t n, const T* lu, const int32_t* pivots, bool transposed, double* w, int64_t k) {
  if constexpr (sizeof(T) == 4)
    isa().lu_solve_f(n, lu, pivots, transposed, w, k);
  else
    isa().lu_solve_d(n, lu, pivots, transposed, w, k);
}

// w (n rows of k), for any k: columns in groups, over the threads.
template <class T>
void lu_solve_all(int64_t n, const T* lu, const int32_t* pivots, bool transposed, double* w, int64_t k) {
  if (k == 1 && !transposed) return lu_solve(n, lu, pivots, transposed, w, 1);
  const int64_t width = k <= 4 * thread_count() ? 4 : 8, groups = (k + width - 1) / width;
  std::vector<double> group(static_cast<size_t>(groups * n * width));
  parallel(groups, [&](int64_t task) {
    double* own = group.data() + task * n * width;
    const int64_t from = task * width, live = std::min(width, k - from);
    for (int64_t i = 0; i < n; ++i)
      for (int64_t c = 0; c < live; ++c) own[i * width + c] = w[i * k + from + c];
    lu_solve(n, lu, pivots, transposed, own, width);
    for (int64_t i = 0; i < n; ++i)
      for (int64_t c = 0; c < live; ++c) w[i * k + from + c] = own[i * width + c];
  });
}

double mean_square(const std::vector<double>& w, int64_t probes_used) {
  double sum = 0;
  for (const double e : w) sum += e * e;
  return sum / static_cast<double>(probes_used);
}

// An upper estimate of a matrix's 2-norm that gets closer at each call: with w = B^j z, the mean of |w|^2 is about
// trace(B^2j) >= |B|_2^2j, where B is A'A or its inverse; an odd half step (A alone) counts as half a power.
struct NormEstimate {
  std::vector<double> w;  // what the powers were applied to so far
  double halves = 0;      // how many factors A, or A^-1

  double value() const { return std::pow(probe_safety * mean_square(w, probes), 1 / (2 * halves)); }
};

// Four more factors, A and its transpose in turn.
template <class T>
void multiply(const Rows<T>& product, NormEstimate& estimate) {
  std::vector<double> v(estimate.w.size()), sums(static_cast<size_t>(probes));
  // b = 0, so the residual is -A w.
  auto times = [&] { residual_pass(product, estimate.w.data(), sums.data(), nullptr, v.data()); };
  auto transposed_times = [&] { transpose_pass(product, v.data(), estimate.w.data()); };
  times();
  transposed_times();
  times();
  transposed_times();
  estimate.halves += 4;
}

}  // namespace

template <class T>
Status solve_square(const Rows<T>& p, double rcond, const Lapack& lapack, double* x, double* sums, Report& report) {
  const int64_t n = p.n, k = p.k;
  report.tier = 3;
  std::vector<T> lu(static_cast<size_t>(n * n));
  std::vector<int32_t> pivots(static_cast<size_t>(n));
  double frobenius = 0;
  for (int64_t i = 0; i < n; ++i) {
    double row = 0;
    for (int64_t j = 0; j < n; ++j) {
      const T e = lu[static_cast<size_t>(i * n + j)] = p.a[i * p.lda + j];
      row += static_cast<double>(e) * static_cast<double>(e);
    }
    frobenius += row;
  }
  const double limit = sizeof(T) == 4 ? 0x1p100 : 0x1p900;
  if (!(frobenius < limit && frobenius > 1 / limit)) return Status::out_of_range;
  int64_t info;
  if constexpr (sizeof(T) == 4)
    info = lapack.sgetrf(n, lu.data(), n, pivots.data());
  else
    info = lapack.dgetrf(n, lu.data(), n, pivots.data());
  if (info != 0) return Status::ill_conditioned;

  // |I - M^-1 A|: z - M^-1 A z for Gaussian z.
  std::vector<double> z(static_cast<size_t>(n * probes)), w(z.size()), unused(static_cast<size_t>(probes));
  gaussian(n * probes, z.data());
  const std::vector<T> zeros(static_cast<size_t>(probes), T(0));
  const Rows<T> product{p.a, n, n, p.lda, zeros.data(), probes, 0};
  residual_pass(product, z.data(), unused.data(), nullptr, w.data());  // -A z
  lu_solve_all(n, lu.data(), pivots.data(), false, w.data(), probes);
  for (size_t i = 0; i < z.size(); ++i) w[i] += z[i];
  report.contraction = std::sqrt(probe_safety * mean_square(w, probes));
  if (!(report.contraction < 0.5)) return Status::ill_conditioned;

  // |A^-1| <= |M^-1| / (1 - contraction). The bounds start cheap and get closer while they leave the rank in doubt; the
  // margin is for the rounding errors of the estimates, whose safety is their own.
  NormEstimate inverse{z}, norm{z};
  double inverse_bound = HUGE_VAL, norm_bound = std::sqrt(frobenius);
  auto certain = [&] { return 1.1 * rcond * norm_bound * inverse_bound < 1; };
  for (int round = 0; round < 3 && !certain(); ++round) {
    if (round > 0) {
      multiply(product, norm);
      norm_bound = std::min(norm_bound, norm.value());
      if (certain()) break;
    }
    lu_solve_all(n, lu.data(), pivots.data(), false, inverse.w.data(), probes);
    lu_solve_all(n, lu.data(), pivots.data(), true, inverse.w.data(), probes);
    inverse.halves += 2;
    inverse_bound = std::min(inverse_bound, inverse.value() / (1 - report.contraction));
  }
  report.condition = norm_bound * inverse_bound;
  if (!certain()) return Status::ill_conditioned;

  for (int64_t i = 0; i < n; ++i)
    for (int64_t c = 0; c < k; ++c) x[i * k + c] = static_cast<double>(p.b[i * p.ldb + c]);
  for (int64_t i = 0; i < n * k; ++i)
    if (!std::isfinite(x[i])) return Status::out_of_range;
  lu_solve_all(n, lu.data(), pivots.data(), false, x, k);

  std::vector<double> step(static_cast<size_t>(n * k)), squares(static_cast<size_t>(k));
  const double tolerance = negligible<T> + 0x1p-56 * report.condition / std::sqrt(static_cast<double>(n));
  double last = 1;
  for (bool done = false; !done;) {
    ++report.steps;
    residual_pass(p, x, squares.data(), nullptr, step.data());
    lu_solve_all(n, lu.data(), pivots.data(), false, step.data(), k);
    double largest = 0;
    for (int64_t c = 0; c < k; ++c) {
      double moved = 0, size = 0;
      for (int64_t i = 0; i < n; ++i) {
        const double dx = step[static_cast<size_t>(i * k + c)], e = x[i * k + c] += dx;
        moved += dx * dx;
        size += e * e;
      }
      if (!(moved <= 0x1p1000)) return Status::out_of_range;
      if (moved > 0) largest = std::max(largest, std::sqrt(moved / size));
    }
    done = report.contraction * largest <= tolerance;
    if (!done && (report.steps == most_steps || largest > last / 2)) return Status::ill_conditioned;
    last = largest;
  }
  if (sums) residual_pass(p, x, sums, nullptr, nullptr);
  return Status::certified;
}

template Status solve_square(const Rows<float>&, double, const Lapack&, double*, double*, Report&);
template Status solve_square(const Rows<double>&, double, const Lapack&, double*, double*, Report&);

}  // namespace lstsq::kernels
