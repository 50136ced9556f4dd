#include "singular_values.h"

#include <algorithm>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#include "in_rows.h"
#include "kernels/kernels.h"
#include "reduction.h"
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
    W unused{};
    return svd_.decompose([&](W* to) { std::copy_n(triangle, n_ * n_, to); }, a_.data(), s, &unused, &unused);
  }

 private:
  Int n_;
  Buffer<W> a_;
  SvdWorkspace<W> svd_;
};

/// Whether a triangle of order n is diagonal; if so, s are its singular values, to the bit. The solve has found them
/// then (spectrum.h), and has counted with them.
template <class W>
bool is_diagonal(Int n, const W* triangle, double* s) {
  for (Int j = 0; j < n; ++j) {
    for (Int i = 0; i < n; ++i) {
      if (i != j && triangle[i + j * n] != W(0)) return false;
    }
    s[j] = std::abs(triangle[j + j * n]);
  }
  std::sort(s, s + n, std::greater<>());
  return true;
}

/// Offsets as those of Places, without its divisions where the elements lie at even distances: of 8x4 matrices, they
/// would take a third of the time.
class Offsets {
 public:
  explicit Offsets(const Places& places) : places_(places), even_(places.evenly_spaced(stride_)) {}
  Int operator[](Int element) const { return even_ ? element * stride_ : places_[element]; }

 private:
  const Places& places_;
  Int stride_ = 0;
  bool even_;
};

/// Up to here the kernel finds the singular values of one small matrix sooner than LAPACK does (single matrices, double
/// precision, AVX2 and AVX-512: 16x16 in 9 to 13 microseconds against 14, 32x32 in 38 to 58 against 47).
constexpr Int small_order = 24;

/// Whether the kernel for batches suits: elements enough to fill its vectors, or one matrix that is small as a whole.
/// (Of four matrices of 64x64, 340 microseconds against LAPACK's 620.)
template <class T>
bool suits_batch(const Problem& p, Int count) {
  if (Field<T>::is_complex || p.smallest() > kernels::max_batch_columns) return false;
  return count >= 4 || (p.smallest() <= small_order && p.m * p.n <= 512);
}

/// The singular values of these elements, by the kernel for batches; `found` becomes 1 where that has them. It is not
/// asked where it does not suit, or where elements repeat: what lies at one place is decomposed once.
template <class T>
void find_many(const Problem& p,
               const Batch<T>& as,
               const std::vector<Int>& elements,
               RealOf<T>* s,
               std::vector<std::uint8_t>& found) {
  if constexpr (!Field<T>::is_complex) {
    const Int count = static_cast<Int>(elements.size());
    Int stride = 0;
    if (count == 0 || !suits_batch<T>(p, count) || !as.places().evenly_spaced(stride)) return;
    if (stride == 0 && as.count() > 1) return;
    kernels::singular_values(kernels::SingularBatch<T>{
        .count = count, .a = as[0], .a_stride = stride, .s = s, .ok = found.data(), .elements = elements.data()});
  }
}

/// Singular values that were found, times 2^exponent.
template <class T>
void write_values(Int n, const double* s, int exponent, RealOf<T>* to) {
  for (Int j = 0; j < n; ++j) to[j] = static_cast<RealOf<T>>(exponent == 0 ? s[j] : std::ldexp(s[j], exponent));
}

/// Finds the singular values of one spectrum or matrix after the other, in the scale of the operand.
template <class T>
class Finder {
  using W = WorkOf<T>;

 public:
  Finder(const Problem& problem) : p_(problem), s_(p_.smallest()) {}

  /// Those of a triangle times 2^exponent.
  void of_triangle(const W* triangle, int exponent, RealOf<T>* to) {
    if (is_diagonal(p_.smallest(), triangle, s_.data())) return write(s_.data(), exponent, to);
    if constexpr (!Field<T>::is_complex) {
      const Int n = p_.smallest();
      std::uint8_t found = 0;
      const kernels::SingularBatch<double> one{
          .count = 1, .a = column_major<double>(triangle, n, n, n), .a_stride = 0, .s = s_.data(), .ok = &found};
      if (n <= small_order && kernels::singular_values(one) && found) return write(s_.data(), exponent, to);
    }
    if (!values_) values_ = std::make_unique<Values<W>>(p_.smallest());
    if (!values_->find(triangle, s_.data())) s_.assign(s_.size(), not_a_number<double>());
    write(s_.data(), exponent, to);
  }

  /// Those of a matrix that is finite. By orthogonal reduction, so that all digits are right, unless the Gram matrix in
  /// double precision has all of those that a longer matrix in single precision is worth.
  void of_matrix(MatrixView<T> a, RealOf<T>* to) {
    if constexpr (std::is_same_v<T, float>) {
      if (std::max(p_.m, p_.n) >= 2 * p_.smallest()) {
        const InRows<T> rows(a);
        double* triangle = triangle_.reserve(p_.smallest() * p_.smallest());
        if (kernels::gram_triangle(rows.first(), triangle)) return of_triangle(triangle, 0, to);
      }
    }
    a.exponent = scan(a).exponent;
    if (!is_long()) return of_whole(a, to);
    const Problem without_columns{p_.m, p_.n, 0};
    if (!reduced_)
      reduced_ = std::make_unique<Reduced<T>>(without_columns, std::numeric_limits<double>::infinity(), nullptr);
    W* triangle = triangle_.reserve(p_.smallest() * p_.smallest());
    reduced_->reduce(a, MatrixView<T>{a.data, p_.m, 0, 0, 0}, triangle);
    of_triangle(triangle, a.exponent, to);
  }

 private:
  /// Whether the reduction to a triangle pays for itself: LAPACK's own measure, of ilaenv.
  bool is_long() const { return static_cast<double>(std::max(p_.m, p_.n)) >= 1.6 * static_cast<double>(p_.smallest()); }

  /// A and its transpose have the same singular values: whichever LAPACK reads as it lies.
  void of_whole(const MatrixView<T>& a, RealOf<T>* to) {
    const MatrixView<T> lies =
        a.col_stride == 1 ? MatrixView<T>{a.data, a.cols, a.rows, 1, a.row_stride, a.exponent} : a;
    if (!whole_ || whole_rows_ != lies.rows) {
      whole_ = std::make_unique<SvdWorkspace<W>>(lies.rows, lies.cols, Vectors::none);
      whole_rows_ = lies.rows;
    }
    W unused{};
    const auto fill = [&](W* copy) { load(lies, copy, lies.rows); };
    if (!whole_->decompose(fill, copy_.reserve(p_.m * p_.n), s_.data(), &unused, &unused)) {
      s_.assign(s_.size(), not_a_number<double>());
    }
    write(s_.data(), a.exponent, to);
  }

  void write(const double* s, int exponent, RealOf<T>* to) const { write_values<T>(p_.smallest(), s, exponent, to); }

  Problem p_;
  std::unique_ptr<Values<W>> values_;
  std::unique_ptr<SvdWorkspace<W>> whole_;
  Int whole_rows_ = 0;
  std::unique_ptr<Reduced<T>> reduced_;
  Buffer<W> triangle_, copy_;
  std::vector<double> s_;
};

}  // namespace

template <class T>
void find_singular_values(
    Driver driver, const Problem& problem, const Batch<T>& as, const Spectra& spectra, RealOf<T>* s) {
  const Int n = problem.smallest(), count = spectra.places.count();
  const Offsets places(spectra.places), exponent_places(spectra.exponent_places), state_places(spectra.state_places);
  const auto spectrum_of = [&](Int i) { return spectra.data + places[i]; };
  const auto exponent_of = [&](Int i) { return spectra.exponents[exponent_places[i]]; };
  const auto state_of = [&](Int i) { return spectra.states[state_places[i]]; };
  const auto s_of = [&](Int i) { return s + i * n; };

  const auto needs_matrix = [&](Int i) { return state_of(i) != State::complete; };
  std::vector<Int> open;
  for (Int i = 0; i < count; ++i) {
    if (is_answered(state_of(i)) && needs_matrix(i)) open.push_back(i);
  }
  std::vector<std::uint8_t> found(static_cast<std::size_t>(count), 0);
  find_many(problem, as, open, s, found);

  // Of the others, elements that lie at one place, a spectrum or a matrix, have the s of the first of them.
  std::unordered_map<const void*, Int> firsts;
  std::vector<Int> own;
  std::vector<std::pair<Int, Int>> copies;
  for (Int i = 0; i < count; ++i) {
    if (!is_answered(state_of(i))) {
      std::fill_n(s_of(i), n, not_a_number<RealOf<T>>());
    } else if (!needs_matrix(i) && !leaves_triangle(driver)) {
      write_values<T>(n, spectrum_of(i), exponent_of(i), s_of(i));
    } else if (!found[i] || !needs_matrix(i)) {
      const auto* const place =
          needs_matrix(i) ? static_cast<const void*>(as[i].data) : static_cast<const void*>(spectrum_of(i));
      const auto [first, is_new] = firsts.try_emplace(place, i);
      if (is_new) {
        own.push_back(i);
      } else {
        copies.emplace_back(first->second, i);
      }
    }
  }
  in_shares(own.size(), [&](Int from, Int to) {
    Finder<T> finder(problem);
    for (Int at = from; at < to; ++at) {
      const Int i = own[at];
      if (needs_matrix(i)) {
        finder.of_matrix(as[i], s_of(i));
      } else {
        finder.of_triangle(reinterpret_cast<const WorkOf<T>*>(spectrum_of(i)), exponent_of(i), s_of(i));
      }
    }
  });
  for (const auto& [from, to] : copies) std::copy_n(s_of(from), n, s_of(to));
}

template void find_singular_values(Driver, const Problem&, const Batch<float>&, const Spectra&, RealOf<float>*);
template void find_singular_values(Driver, const Problem&, const Batch<double>&, const Spectra&, RealOf<double>*);
template void find_singular_values(
    Driver, const Problem&, const Batch<std::complex<float>>&, const Spectra&, RealOf<std::complex<float>>*);
template void find_singular_values(
    Driver, const Problem&, const Batch<std::complex<double>>&, const Spectra&, RealOf<std::complex<double>>*);

}  // namespace lstsq::drivers
