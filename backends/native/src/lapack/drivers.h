// The drivers: each in a file of its own, and here how they are chosen and what follows when one does not converge.

#pragma once

#include <string>

#include "solver.h"

namespace lstsq::drivers {

enum class Driver {
  automatic,  ///< the certified kernels, and `qr` for what they do not certify
  cholesky,   ///< the certified kernels or nothing: no answer for what they do not certify
  gelsd,
  svd,
  qr
};

/// The driver of this name, "auto" being the default. Throws std::invalid_argument that lists them.
Driver driver_named(const std::string& name);

/// Whether the driver begins with the certified kernels (certified.h).
inline bool certifies(Driver driver) {
  return driver == Driver::automatic || driver == Driver::cholesky;
}

/// Whether the driver leaves a triangle to find the singular values from.
inline bool leaves_triangle(Driver driver) {
  return driver == Driver::qr;
}

/// Throws std::invalid_argument, before any work, if LAPACK's integers are too small for the problem.
template <class T>
void check_limits(const Problem& problem, double rcond, Driver driver);

/// LAPACK's divide and conquer least squares (gelsd.cpp).
template <class T>
SolverPtr<T> make_gelsd(const Problem& problem);

/// The thin singular value decomposition (svd.cpp).
template <class T>
SolverPtr<T> make_svd(const Problem& problem);

/// For a square triangle: substitution, or the singular values if its full rank is in doubt (qr.cpp).
template <class W>
SolverPtr<W> make_triangular(const Problem& problem);

/// The driver with whatever it needs: the reduction before it, and behind it what is tried if it does not converge.
/// Not for those that certify.
template <class T>
SolverPtr<T> make_solver(Driver driver, double rcond, const Problem& problem);

}  // namespace lstsq::drivers
