// The loop over a batch that every driver of LAPACK shares. It scans each element, hands the finite ones to the driver
// in their scale, and rounds the answer.

#pragma once

#include "certified_solver.h"
#include "drivers.h"
#include "places.h"
#include "right_sides.h"
#include "shares.h"
#include "spectrum.h"

namespace lstsq::drivers {

/// A batch of matrices in an array, whatever its strides.
template <class T>
class Batch {
 public:
  /// `first` is the element at offset 0.
  Batch(const MatrixView<T>& first, Places places) : places_(std::move(places)), first_(first) {}

  Int count() const { return places_.count(); }
  const Places& places() const { return places_; }
  MatrixView<T> operator[](Int element) const {
    MatrixView<T> found = first_;
    found.data += places_[element];
    return found;
  }

 private:
  Places places_;
  MatrixView<T> first_;
};

/// Where the answers go: contiguous, one element after the other. What state, exponent and spectrum are, spectrum.h
/// says; the spectrum is written where the state is `complete`.
template <class T>
struct Outputs {
  T* x;
  RealOf<T>* residuals;
  std::int32_t* rank;
  State* state;
  std::int32_t* exponent;
  double* spectrum;           ///< or null: nobody will want the singular values
  double* precise = nullptr;  ///< x before it was rounded, where that is wanted
  bool at_once = false;       ///< whether to find, with x, whatever else costs little then

  /// Those of one element.
  Outputs at(Int element, const Problem& p, Int spectrum_size) const {
    const Int size = p.n * p.k;
    Outputs found = *this;
    found.x += element * size;
    found.residuals += element * p.k;
    found.rank += element;
    found.state += element;
    found.exponent += element;
    if (spectrum != nullptr) found.spectrum += element * spectrum_size;
    if (precise != nullptr) found.precise += element * size * (Field<T>::is_complex ? 2 : 1);
    return found;
  }
};

/// The answer of an element that has none.
template <class T>
void no_answer(State why, const Problem& p, const Outputs<T>& out) {
  std::fill_n(out.x, p.n * p.k, not_a_number<T>());
  std::fill_n(out.residuals, p.k, not_a_number<RealOf<T>>());
  *out.rank = 0;
  *out.state = why;
  *out.exponent = 0;
  if (out.precise != nullptr) {
    std::fill_n(out.precise, p.n * p.k * (Field<T>::is_complex ? 2 : 1), not_a_number<double>());
  }
}

/// Solves one element after the other by a driver's solver, in the scale of the element and of each right-hand side. A
/// right-hand side that is not finite has no answer; the others, the rank and the spectrum are what they are without
/// it.
template <class T>
class ElementSolver {
  using W = WorkOf<T>;

 public:
  ElementSolver(Driver driver, double rcond, const Problem& problem)
      : driver_(driver), rcond_(rcond), p_(problem), residuals_(p_.k), s_(p_.smallest()) {}

  void solve(MatrixView<T> a, const MatrixView<T>& b, const Outputs<T>& out) {
    const Scan found = scan(a);
    if (!found.finite) return no_answer(State::not_finite, p_, out);
    a.exponent = found.exponent;
    const MatrixView<T> right = right_sides_.take(b);
    if (certifies(driver_)) {
      // The kernels have declined the operands as they were given.
      const bool changed = a.exponent != 0 || right_sides_.changed();
      if (changed && certified_.solve(a, right, rcond_)) {
        put(MatrixView<W>{certified_.x(), p_.n, p_.k, p_.k, 1}, certified_.residuals(), a.exponent, out);
        *out.rank = static_cast<std::int32_t>(p_.smallest());
        *out.state = State::without_s;
        *out.exponent = 0;
        return;
      }
      if (driver_ == Driver::cholesky) return no_answer(State::unsolved, p_, out);
    }
    if (!solver_) solver_ = make_solver<T>(certifies(driver_) ? Driver::qr : driver_, rcond_, p_);
    W* const triangle = leaves_triangle(driver_) ? reinterpret_cast<W*>(out.spectrum) : nullptr;
    Answer<W> answer{rcond_, residuals_.data(), s_.data(), triangle};
    if (!solver_->solve(a, right, answer)) return no_answer(State::unsolved, p_, out);

    put(column_major<W>(answer.x, p_.n, p_.k, answer.ldx), residuals_.data(), a.exponent, out);
    *out.rank = answer.rank;
    *out.state = State::complete;
    if (out.spectrum != nullptr) *out.state = finish_spectrum(driver_, p_.smallest(), answer, out.spectrum);
    *out.exponent = a.exponent;
  }

 private:
  /// Scale the answers back, and round them. `exponent` is that of A.
  void put(const MatrixView<W>& x, const double* residuals, int exponent, const Outputs<T>& out) const {
    W* const precise = reinterpret_cast<W*>(out.precise);
    for (Int i = 0; i < p_.n; ++i) {
      for (Int j = 0; j < p_.k; ++j) {
        const int e = right_sides_.exponent(j) - exponent;
        const W z = !right_sides_.finite(j) ? not_a_number<W>() : e == 0 ? x(i, j) : scaled(x(i, j), e);
        out.x[i * p_.k + j] = static_cast<T>(z);
        if (precise != nullptr) precise[i * p_.k + j] = z;
      }
    }
    for (Int j = 0; j < p_.k; ++j) {
      const double sum = std::ldexp(residuals[j], 2 * right_sides_.exponent(j));
      out.residuals[j] = static_cast<RealOf<T>>(right_sides_.finite(j) ? sum : not_a_number<double>());
    }
  }

  Driver driver_;
  double rcond_;
  Problem p_;
  CertifiedSolver<T> certified_;
  SolverPtr<T> solver_;
  RightSides<T> right_sides_;
  std::vector<double> residuals_, s_;
};

template <class T>
void solve_batch(
    Driver driver, double rcond, const Problem& p, const Batch<T>& as, const Batch<T>& bs, const Outputs<T>& out) {
  const Int size = spectrum_size(driver, p.smallest(), Field<T>::is_complex);
  in_shares(as.count(), [&](Int from, Int to) {
    ElementSolver<T> solver(driver, rcond, p);
    for (Int i = from; i < to; ++i) solver.solve(as[i], bs[i], out.at(i, p, size));
  });
}

}  // namespace lstsq::drivers
