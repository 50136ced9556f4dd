#include "drivers.h"

#include <cmath>
#include <sstream>
#include <stdexcept>

#include "reduction.h"

namespace lstsq::drivers {

Driver driver_named(const std::string& name) {
  if (name == "auto") return Driver::automatic;
  if (name == "cholesky") return Driver::cholesky;
  if (name == "gelsd") return Driver::gelsd;
  if (name == "svd") return Driver::svd;
  if (name == "qr") return Driver::qr;
  throw std::invalid_argument("unknown driver '" + name + "'; expected auto, cholesky, gelsd, qr or svd.");
}

// ---------------------------------------------------------------------------------------------------------------------
// Limits
// ---------------------------------------------------------------------------------------------------------------------

namespace {

/// The largest integer that LAPACK computes for this shape: a matrix or a workspace. In floating point, where it cannot
/// overflow. The workspaces are those that LAPACK documents, 64 being more than its block size.
double largest_product(const Problem& p, Driver driver) {
  const double m = static_cast<double>(p.m), n = static_cast<double>(p.n), k = static_cast<double>(p.k);
  const double narrow = std::min(m, n), length = std::max(m, n);
  if (driver == Driver::svd) return std::max({m * n, length * k, 5 * narrow * narrow + 7 * narrow + 64 * length});
  // gelsd. LAPACK's smallest subproblem is of order 25.
  const double order = 25, levels = std::max(0.0, std::floor(std::log2(narrow / (order + 1))) + 1);
  const double workspace =
      narrow * (narrow + 12 + 2 * order + 8 * levels + k) + (order + 1) * (order + 1) + 64 * (length + k);
  return std::max({m * n, length * k, workspace});
}

bool within_limits(const Problem& p, Driver driver) {
  return largest_product(p, driver) <= static_cast<double>(lapack::largest_integer());
}

/// The square problem that a reduction leaves.
Problem core_of(const Problem& p) {
  return {p.smallest(), p.smallest(), p.k};
}

/// Whether the problem is reduced to a core first. Always for qr, which consists of that, and where it can be done in
/// blocks. Else for svd where LAPACK's own drivers do it, and for gelsd there too if the problem is wide, for which
/// LAPACK's own reduction is slow.
template <class T>
bool reduces(Driver driver, double rcond, const Problem& p) {
  if (driver == Driver::qr || in_blocks<T>(p, rcond)) return true;
  if (driver == Driver::gelsd && p.m >= p.n) return false;
  return static_cast<double>(std::max(p.m, p.n)) >= 1.6 * static_cast<double>(p.smallest());
}

}  // namespace

template <class T>
void check_limits(const Problem& p, double rcond, Driver named) {
  // What the kernels decline, qr solves. LAPACK sees their core only, as it would that of qr.
  const Driver driver = certifies(named) ? Driver::qr : named;
  const Driver on_core = driver == Driver::qr ? Driver::gelsd : driver;
  const bool reduced = reduces<T>(driver, rcond, p);
  double needed = largest_product(reduced ? core_of(p) : p, on_core);
  if (reduced && !in_blocks<T>(p, rcond)) {
    needed =
        std::max(needed, static_cast<double>(std::max(p.m, p.n)) * static_cast<double>(std::max({p.smallest(), p.k})));
  }
  if (needed <= static_cast<double>(lapack::largest_integer())) return;
  std::ostringstream message;
  message << "[lstsq] got a of (" << p.m << ", " << p.n << ") with " << p.k
          << " right-hand sides, for which LAPACK counts to " << static_cast<std::int64_t>(needed)
          << "; expected at most " << lapack::largest_integer()
          << ", which the integers of SciPy's LAPACK hold. Solve in parts, or use a SciPy whose LAPACK has 64-bit "
             "integers.";
  throw std::invalid_argument(message.str());
}

template void check_limits<float>(const Problem&, double, Driver);
template void check_limits<double>(const Problem&, double, Driver);
template void check_limits<std::complex<float>>(const Problem&, double, Driver);
template void check_limits<std::complex<double>>(const Problem&, double, Driver);

// ---------------------------------------------------------------------------------------------------------------------
// Composition
// ---------------------------------------------------------------------------------------------------------------------

namespace {

/// gelsd, and the singular value decomposition for what gelsd does not solve. That is made when it is first needed,
/// which is rarely.
template <class T>
class GelsdOrSvd final : public Solver<T> {
 public:
  explicit GelsdOrSvd(const Problem& p) : p_(p), gelsd_(make_gelsd<T>(p)) {}

  bool solve(const MatrixView<T>& a, const MatrixView<T>& b, Answer<WorkOf<T>>& answer) override {
    if (gelsd_->solve(a, b, answer)) return true;
    if (!within_limits(p_, Driver::svd)) return false;
    if (!svd_) svd_ = make_svd<T>(p_);
    return svd_->solve(a, b, answer);
  }

 private:
  Problem p_;
  SolverPtr<T> gelsd_, svd_;
};

template <class T>
SolverPtr<T> make_by_values(Driver driver, const Problem& p) {
  if (driver == Driver::gelsd) return std::make_unique<GelsdOrSvd<T>>(p);
  return make_svd<T>(p);
}

}  // namespace

template <class T>
SolverPtr<T> make_solver(Driver driver, double rcond, const Problem& p) {
  using W = WorkOf<T>;
  if (!reduces<T>(driver, rcond, p)) return make_by_values<T>(driver, p);
  auto core = driver == Driver::qr ? make_triangular<W>(core_of(p)) : make_by_values<W>(driver, core_of(p));
  return std::make_unique<Reduced<T>>(p, rcond, std::move(core));
}

template SolverPtr<float> make_solver(Driver, double, const Problem&);
template SolverPtr<double> make_solver(Driver, double, const Problem&);
template SolverPtr<std::complex<float>> make_solver(Driver, double, const Problem&);
template SolverPtr<std::complex<double>> make_solver(Driver, double, const Problem&);

}  // namespace lstsq::drivers
