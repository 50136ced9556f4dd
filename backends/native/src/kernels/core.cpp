#include "core.h"

#include <algorithm>
#include <cmath>

#include "factors.h"
#include "isa.h"
#include "passes.h"

namespace lstsq::kernels {

// Of what refinement can start from: six steps of it then reach 2^-20 of the first, and in practice far less.
constexpr double largest_contraction = 0.1;

Core::Core(int64_t n, double* g) : n_(n), ld_(padded(n)), r_(g), d_(static_cast<size_t>(n)) {}

Status Core::factorise(int64_t chain, double unit, double limit, double rcond, const Multiply& multiply) {
  double squares = 0;
  for (int64_t j = 0; j < n_; ++j) {
    const double diagonal = r_[j * ld_ + j];
    if (!std::isfinite(diagonal)) return Status::out_of_range;
    if (diagonal == 0) return Status::ill_conditioned;
    if (!(diagonal >= 1 / limit && diagonal <= limit)) return Status::out_of_range;
    squares += diagonal;
    d_[static_cast<size_t>(j)] = std::ldexp(1.0, -((std::ilogb(diagonal) - (std::ilogb(diagonal) & 1)) / 2));
  }
  frobenius = std::sqrt(squares);
  const int64_t cuts = pieces(n_, static_cast<double>(n_), gram_piece, 4);
  parallel(cuts, [&](int64_t cut) {
    for (int64_t i = n_ * cut / cuts; i < n_ * (cut + 1) / cuts; ++i)
      for (int64_t j = i; j < n_; ++j) r_[i * ld_ + j] *= scale(i) * scale(j);
  });
  double scaled = 0;
  for (int64_t i = 0; i < n_; ++i) scaled += r_[i * ld_ + i];
  if (!cholesky(n_, r_, ld_)) return Status::ill_conditioned;

  // Errors of G and of its factorisation, as multiples of |R^-1|^2. Small cores: proven bounds. Large ones: estimates
  // of the norms, and rounding errors that add up as independent ones do (Higham and Mary 2019), with a factor of 8.
  const bool small = n_ <= proved_order;
  const Inverse inverse = small ? inverse_bounds() : inverse_estimates();
  const auto n = static_cast<double>(n_), length = static_cast<double>(chain);
  const double gram_error = small ? unit * (length + 2) * scaled : 8 * unit * std::sqrt(n * length);
  const double factor_error = small ? 0x1p-53 * (n + 2) * scaled : 8 * 0x1p-53 * n;
  const double error = gram_error + factor_error;
  contraction = error * inverse.scaled;
  backward = error * std::sqrt(inverse.scaled);
  // |sigma_i^2 - s_i^2| <= |D^-1|^2 error for all of them, and some column's norm is at least |D^-1|.
  loss = error * std::sqrt(inverse.unscaled) / *std::min_element(d_.begin(), d_.end());
  condition = std::sqrt(scaled * inverse.scaled);
  // sigma_min > rcond * sigma_max for sure, with a factor of 2 for the rounding errors of both sides.
  if (!certainly_above(rcond, frobenius * std::sqrt(inverse.unscaled), 2)) return Status::ill_conditioned;
  if (!certainly_above(0, condition, 1)) return Status::ill_conditioned;
  // The bounds may be too large by a factor of several thousand, hardly by more.
  if (contraction >= largest_contraction && contraction < 1e4 && multiply) contraction = measured_contraction(multiply);
  return contraction < largest_contraction ? Status::certified : Status::ill_conditioned;
}

// I - (R'R)^-1 D A'A D, of Gaussian probes.
double Core::measured_contraction(const Multiply& multiply) const {
  std::vector<double> z(static_cast<size_t>(n_ * probes)), v(z.size());
  gaussian(n_ * probes, z.data());
  for (int64_t i = 0; i < n_ * probes; ++i) v[static_cast<size_t>(i)] = scale(i / probes) * z[static_cast<size_t>(i)];
  multiply(v.data());
  solve(v.data(), probes);
  double sum = 0;
  for (int64_t i = 0; i < n_ * probes; ++i) {
    const double e = z[static_cast<size_t>(i)] - v[static_cast<size_t>(i)] / scale(i / probes);
    sum += e * e;
  }
  return std::max(std::sqrt(probe_safety / static_cast<double>(probes) * sum), 0x1p-53);  // the products' own rounding
}

// |R^-1|_F from the explicit inverse, row by row from the last.
Core::Inverse Core::inverse_bounds() const {
  std::vector<double> v(static_cast<size_t>(n_ * n_), 0.0);
  Inverse total{0, 0};
  for (int64_t i = n_ - 1; i >= 0; --i) {
    double* row = v.data() + i * n_;
    for (int64_t p = i + 1; p < n_; ++p) {
      const double s = r_[i * ld_ + p];
      const double* other = v.data() + p * n_;
      for (int64_t j = p; j < n_; ++j) row[j] -= s * other[j];
    }
    const double inverse = 1 / r_[i * ld_ + i];
    row[i] = 1;
    double sum = 0;
    for (int64_t j = i; j < n_; ++j) {
      row[j] *= inverse;
      sum += row[j] * row[j];
    }
    total.scaled += sum;
    total.unscaled += sum * scale(i) * scale(i);
  }
  return total;
}

// Gaussian probes z: the mean of |B^2 z|^2, B = (R'R)^-1, is about trace(B^4) >= |B|_2^4.
Core::Inverse Core::inverse_estimates() const {
  std::vector<double> start(static_cast<size_t>(n_ * probes));
  gaussian(n_ * probes, start.data());
  const auto [low, high] = std::minmax_element(d_.begin(), d_.end());
  const bool same_scale = *low == *high;
  // With the scaling undone, in units of the smallest column: B is then at least of size 1 / 4, so that what underflows
  // in its powers is too small to matter.
  const double unit = *high;
  double estimates[2];
  parallel(same_scale ? 1 : 2, [&](int64_t unscale) {
    std::vector<double> w = start;
    auto rescale = [&] {
      for (int64_t i = 0; unscale && i < n_ * probes; ++i) w[static_cast<size_t>(i)] *= scale(i / probes) / unit;
    };
    for (int power = 0; power < 2; ++power) {
      rescale();
      isa().solve_rt(n_, r_, ld_, w.data(), probes, probes);
      isa().solve_r(n_, r_, ld_, w.data(), probes, probes);
      rescale();
    }
    double sum = 0;
    for (const double e : w) sum += e * e;
    estimates[unscale] = std::pow(probe_safety / static_cast<double>(probes) * sum, 0.25);
  });
  return {estimates[0], (same_scale ? estimates[0] : estimates[1]) * unit * unit};
}

void Core::solve(double* w, int64_t k, double* norms) const {
  // Groups of columns, over the threads.
  const int64_t vectors = (k + 7) / 8,
                groups = std::min(vectors, (k + group_columns - 1) / group_columns + thread_count() - 1);
  const int64_t widest = (vectors + groups - 1) / groups * 8;
  std::vector<double> own(static_cast<size_t>(groups * n_ * (k == 1 ? 1 : widest)));
  parallel(groups, [&](int64_t group) {
    double* v = own.data() + group * n_ * widest;
    const int64_t from = vectors * group / groups * 8, to = vectors * (group + 1) / groups * 8;
    const int64_t live = std::min(to, k) - from, ldw = k == 1 ? 1 : to - from;
    for (int64_t i = 0; i < n_; ++i)
      for (int64_t c = 0; c < live; ++c) v[i * ldw + c] = w[i * k + from + c] * scale(i);
    if (k == 1)
      isa().solve_rt_one(n_, r_, ld_, v);
    else
      isa().solve_rt(n_, r_, ld_, v, ldw, ldw);
    for (int64_t c = 0; norms && c < live; ++c) {
      double sum = 0;
      for (int64_t i = 0; i < n_; ++i) sum += v[i * ldw + c] * v[i * ldw + c];
      norms[from + c] = std::sqrt(sum);
    }
    if (k == 1)
      isa().solve_r_one(n_, r_, ld_, v);
    else
      isa().solve_r(n_, r_, ld_, v, ldw, ldw);
    for (int64_t i = 0; i < n_; ++i)
      for (int64_t c = 0; c < live; ++c) w[i * k + from + c] = v[i * ldw + c] * scale(i);
  });
}

template <class T>
Status factorise_gram(Core& core,
                      int64_t n,
                      int64_t length,
                      double rcond,
                      const std::function<int64_t(bool single)>& gram,
                      const Core::Multiply& multiply,
                      bool single_suits,
                      Report& report) {
  // A Gram matrix in single precision takes half the time, which matters where the products dominate, and is good
  // enough to refine with if A is well conditioned. Nearly square matrices hardly ever are.
  Status status = Status::ill_conditioned;
  if (single_suits && sizeof(T) == 4 && n >= single_gram_order && 4 * length >= 5 * n) {
    // The blocks are short, and their sums are added in double precision. Outside of the limits, squares that matter
    // may have over- or underflowed.
    gram(true);
    status = core.factorise(longest_gram_block, 0x1p-24, 0x1p80, rcond);
    report.tier = Tier::single_gram;
  }
  if (status != Status::certified) {
    status = core.factorise(gram(false), 0x1p-53, largest_norm * largest_norm, rcond, multiply);
    report.tier = Tier::double_gram;
  }
  report.condition = core.condition;
  report.contraction = core.contraction;
  return status;
}

template Status factorise_gram<float>(
    Core&, int64_t, int64_t, double, const std::function<int64_t(bool)>&, const Core::Multiply&, bool, Report&);
template Status factorise_gram<double>(
    Core&, int64_t, int64_t, double, const std::function<int64_t(bool)>&, const Core::Multiply&, bool, Report&);

void gaussian(int64_t n, double* out) {
  uint64_t state = 0x9e3779b97f4a7c15;  // splitmix64 (Steele, Lea and Flood 2014), then Box and Muller
  auto uniform = [&] {
    uint64_t z = state += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return (static_cast<double>((z ^ (z >> 31)) >> 11) + 0.5) * 0x1p-53;
  };
  for (int64_t i = 0; i < n; i += 2) {
    const double radius = std::sqrt(-2 * std::log(uniform())), angle = 6.283185307179586 * uniform();
    out[i] = radius * std::cos(angle);
    if (i + 1 < n) out[i + 1] = radius * std::sin(angle);
  }
}

}  // namespace lstsq::kernels
