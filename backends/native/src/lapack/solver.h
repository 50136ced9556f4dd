// What a driver is: it solves one least-squares problem after another of one shape, in scratch memory of its own.

#pragma once

#include <memory>

#include "lapack.h"
#include "matrix.h"

namespace lstsq::drivers {

using lapack::Int;

/// The shape of a problem: a (m, n) and b (m, k).
struct Problem {
  Int m, n, k;

  Int smallest() const { return std::min(m, n); }
};

/// The answer to one problem, in double precision and in the scale of the operands.
template <class W>
struct Answer {
  // What the caller gives: the cutoff, and room.
  double rcond;       ///< a singular value is zero iff s <= rcond * s_max; from 0 up
  double* residuals;  ///< k sums of squares of b - a x
  double* s;          ///< min(m, n) singular values, descending
  W* triangle;        ///< min(m, n) squared, column-major: where `qr` leaves R. Null for drivers that find s

  // What the driver sets.
  W* x = nullptr;  ///< n x k, column-major, in the driver's scratch
  Int ldx = 0;
  int rank = 0;
  bool has_s = false;  ///< whether s was found. If not, full rank was certified without
};

template <class T>
class Solver {
 public:
  virtual ~Solver() = default;

  /// Solve for finite operands. False if LAPACK did not converge, or an answer of this method would not be good enough;
  /// the answer is then undefined.
  [[nodiscard]] virtual bool solve(const MatrixView<T>& a, const MatrixView<T>& b, Answer<WorkOf<T>>& answer) = 0;
};

/// How many singular values are above the cutoff.
inline int count_above(const double* s, Int count, double rcond) {
  const double cutoff = rcond * s[0];
  return static_cast<int>(std::count_if(s, s + count, [cutoff](double value) { return value > cutoff; }));
}

/// A cutoff that keeps just the first `rank` of these singular values, and at least one: midway to the next.
inline double cutoff_between(const double* s, Int count, Int rank) {
  const double next = rank < count ? s[rank] : 0;
  return (s[rank - 1] / s[0] + next / s[0]) / 2;
}

template <class T>
using SolverPtr = std::unique_ptr<Solver<T>>;

}  // namespace lstsq::drivers
