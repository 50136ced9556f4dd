#include "singular_values.h"

#include <algorithm>
#include <type_traits>
#include <unordered_map>
#include <vector>

#include "reduction.h"
#include "row_major.h"
#include "shares.h"
#include "svd_workspace.h"

namespace lstsq::drivers {

namespace {

/// The singular values of square matrices, one after the other.
template <class W>
class Values {
 public:
  explicit Values(Int n) : n_(n), a_(n * n), svd_(n, n, Vectors::none) {}

  /// False if LAPACK did not converge.
  [[nodiscard]] bool find(const W* triangle, double* s) {
    if (diagonal(triangle, s)) return true;
    W unused{};
    return svd_.decompose([&](W* to) { std::copy_n(triangle, n_ * n_, to); }, a_.data(), s, &unused, &unused);
  }

 private:
  /// A diagonal triangle holds the singular values: the solve has found them.
  bool diagonal(const W* triangle, double* s) const {
    for (Int j = 0; j < n_; ++j) {
      for (Int i = 0; i < n_; ++i) {
        if (i != j && triangle[i + j * n_] != W(0)) return false;
      }
      s[j] = std::abs(triangle[j + j * n_]);
    }
    std::sort(s, s + n_, std::greater<>());
    return true;
  }

  Int n_;
  Buffer<W> a_;
  SvdWorkspace<W> svd_;
};

/// Finds the singular values of one spectrum or matrix after the other, in the scale of the operand.
template <class T>
class Finder {
  using W = WorkOf<T>;

 public:
  Finder(const Problem& problem) : p_(problem), s_(p_.smallest()) {}

  /// Those of a triangle times 2^exponent.
  void of_triangle(const W* triangle, int exponent, RealOf<T>* to) {
    if (!values_) values_ = std::make_unique<Values<W>>(p_.smallest());
    if (!values_->find(triangle, s_.data())) s_.assign(s_.size(), not_a_number<double>());
    write(s_.data(), exponent, to);
  }

  /// Those of a matrix that is finite. By orthogonal reduction, so that all digits are right, unless the Gram matrix in
  /// double precision has all of those that a longer matrix in single precision is worth.
  void of_matrix(Matrix<T> a, RealOf<T>* to) {
    if constexpr (std::is_same_v<T, float>) {
      if (std::max(p_.m, p_.n) >= 2 * p_.smallest()) {
        const RowMajor<T> rows(a);
        double* triangle = triangle_.reserve(p_.smallest() * p_.smallest());
        if (kernels::gram_triangle(rows.data, p_.m, p_.n, rows.ld, triangle)) return of_triangle(triangle, 0, to);
      }
    }
    const Problem without_columns{p_.m, p_.n, 0};
    if (!reduced_)
      reduced_ = std::make_unique<Reduced<T>>(without_columns, std::numeric_limits<double>::infinity(), nullptr);
    a.exponent = scan(a).exponent;
    W* triangle = triangle_.reserve(p_.smallest() * p_.smallest());
    reduced_->reduce(a, Matrix<T>{a.data, p_.m, 0, 0, 0}, triangle);
    of_triangle(triangle, a.exponent, to);
  }

  /// Those that were found, times 2^exponent.
  void write(const double* s, int exponent, RealOf<T>* to) const {
    for (Int j = 0; j < p_.smallest(); ++j) to[j] = static_cast<RealOf<T>>(std::ldexp(s[j], exponent));
  }

 private:
  Problem p_;
  std::unique_ptr<Values<W>> values_;
  std::unique_ptr<Reduced<T>> reduced_;
  Buffer<W> triangle_;
  std::vector<double> s_;
};

}  // namespace

template <class T>
void find_singular_values(
    Driver driver, const Problem& problem, const Batch<T>& as, const Spectra& spectra, RealOf<T>* s) {
  const Int n = problem.smallest(), count = spectra.places.count();
  const auto spectrum_of = [&](Int i) { return spectra.data + spectra.places[i]; };
  const auto exponent_of = [&](Int i) { return spectra.exponents[spectra.exponent_places[i]]; };
  const auto state_of = [&](Int i) { return spectra.states[spectra.state_places[i]]; };
  const auto s_of = [&](Int i) { return s + i * n; };

  // Elements that lie at one place, a spectrum or a matrix, have the s of the first of them.
  std::unordered_map<const void*, Int> firsts;
  std::vector<Int> first(count), own;
  for (Int i = 0; i < count; ++i) {
    const bool found = state_of(i) == State::complete;
    const void* const place = found ? static_cast<const void*>(spectrum_of(i)) : as[i].data;
    first[i] = is_answered(state_of(i)) ? firsts.try_emplace(place, i).first->second : i;
    if (first[i] == i) own.push_back(i);
  }
  in_shares(own.size(), [&](Int from, Int to) {
    Finder<T> finder(problem);
    for (Int at = from; at < to; ++at) {
      const Int i = own[at];
      if (!is_answered(state_of(i))) {
        std::fill_n(s_of(i), n, not_a_number<RealOf<T>>());
      } else if (state_of(i) != State::complete) {
        finder.of_matrix(as[i], s_of(i));
      } else if (leaves_triangle(driver)) {
        finder.of_triangle(reinterpret_cast<const WorkOf<T>*>(spectrum_of(i)), exponent_of(i), s_of(i));
      } else {
        finder.write(spectrum_of(i), exponent_of(i), s_of(i));
      }
    }
  });
  for (Int i = 0; i < count; ++i) {
    if (first[i] != i) std::copy_n(s_of(first[i]), n, s_of(i));
  }
}

template void find_singular_values(Driver, const Problem&, const Batch<float>&, const Spectra&, RealOf<float>*);
template void find_singular_values(Driver, const Problem&, const Batch<double>&, const Spectra&, RealOf<double>*);
template void find_singular_values(
    Driver, const Problem&, const Batch<std::complex<float>>&, const Spectra&, RealOf<std::complex<float>>*);
template void find_singular_values(
    Driver, const Problem&, const Batch<std::complex<double>>&, const Spectra&, RealOf<std::complex<double>>*);

}  // namespace lstsq::drivers
