#include "singular_values.h"

#include <algorithm>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#include "kernels/kernels.h"
#include "reduction.h"
#include "row_major.h"
#include "shares.h"

namespace lstsq::drivers {

namespace {

/// The singular values of square matrices, one after the other.
template <class W>
class Values {
 public:
  explicit Values(Int n) : n_(n), a_(n * n), rwork_(7 * n), iwork_(8 * n) {
    double s = 0;
    W size{};
    call(SvdMethod::divide_and_conquer, &s, &size, -1);
    Int lwork = lapack::queried(size);
    call(SvdMethod::qr_iteration, &s, &size, -1);
    lwork_ = std::max(lwork, lapack::queried(size));
    work_.reserve(lwork_);
  }

  /// False if LAPACK did not converge.
  [[nodiscard]] bool find(const W* core, double* s) {
    if (diagonal(core, s)) return true;
    for (const auto method : {SvdMethod::divide_and_conquer, SvdMethod::qr_iteration}) {
      std::copy_n(core, n_ * n_, a_.data());
      if (call(method, s, work_.data(), lwork_) == 0) return true;
    }
    return false;
  }

 private:
  /// A diagonal core holds the singular values: the solve has found them.
  bool diagonal(const W* core, double* s) const {
    for (Int j = 0; j < n_; ++j) {
      for (Int i = 0; i < n_; ++i) {
        if (i != j && core[i + j * n_] != W(0)) return false;
      }
      s[j] = std::abs(core[j + j * n_]);
    }
    std::sort(s, s + n_, std::greater<>());
    return true;
  }

  int call(SvdMethod method, double* s, W* work, Int lwork) {
    W unused{};
    if (method == SvdMethod::divide_and_conquer) {
      return lapack::gesdd(/*jobz=*/'N',
                           /*m=*/n_,
                           /*n=*/n_,
                           /*a=*/a_.data(),
                           /*lda=*/n_,
                           /*s=*/s,
                           /*u=*/&unused,
                           /*ldu=*/n_,
                           /*vt=*/&unused,
                           /*ldvt=*/n_,
                           /*work=*/work,
                           /*lwork=*/lwork,
                           /*rwork=*/rwork_.data(),
                           /*iwork=*/iwork_.data());
    }
    return lapack::gesvd(/*jobu=*/'N',
                         /*jobvt=*/'N',
                         /*m=*/n_,
                         /*n=*/n_,
                         /*a=*/a_.data(),
                         /*lda=*/n_,
                         /*s=*/s,
                         /*u=*/&unused,
                         /*ldu=*/n_,
                         /*vt=*/&unused,
                         /*ldvt=*/n_,
                         /*work=*/work,
                         /*lwork=*/lwork,
                         /*rwork=*/rwork_.data());
  }

  Int n_, lwork_ = 0;
  Buffer<W> a_, work_;
  Buffer<double> rwork_;
  Buffer<Int> iwork_;
};

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

/// The singular values of all elements, by the kernel for batches; `found` says of which. False, and nothing was
/// written, where that does not suit, or where elements repeat: what lies at one place is decomposed once.
template <class T>
bool find_all(const Problem& p, const Batch<T>& as, RealOf<T>* s, std::uint8_t* found) {
  if constexpr (Field<T>::is_complex) {
    return false;
  } else {
    Int stride = 0;
    if (!suits_batch<T>(p, as.count()) || !as.places().evenly_spaced(stride)) return false;
    if (stride == 0 && as.count() > 1) return false;
    const Matrix<T> first = as[0];
    return kernels::singular_values(kernels::SingularBatch<T>{
        as.count(), p.m, p.n, first.data, stride, first.row_stride, first.col_stride, s, found});
  }
}

/// Finds the singular values of one core or matrix after the other, in the scale of the operand.
template <class T>
class Finder {
  using W = WorkOf<T>;

 public:
  Finder(const Problem& problem) : p_(problem), s_(p_.smallest()) {}

  /// Those of a triangle times 2^exponent.
  void of_triangle(const W* triangle, int exponent, RealOf<T>* to) {
    if constexpr (!Field<T>::is_complex) {
      const Int n = p_.smallest();
      std::uint8_t found = 0;
      const kernels::SingularBatch<double> one{1, n, n, triangle, 0, 1, n, s_.data(), &found};
      if (n <= small_order && kernels::singular_values(one) && found) return write(s_.data(), exponent, to);
    }
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
void find_singular_values(Driver driver, const Problem& problem, const Batch<T>& as, const Cores& cores, RealOf<T>* s) {
  const Int n = problem.smallest(), count = cores.places.count();
  const Offsets places(cores.places), exponent_places(cores.exponent_places);
  const auto core_of = [&](Int i) { return cores.data + places[i]; };
  const auto exponent_of = [&](Int i) { return cores.exponents[exponent_places[i]]; };
  const auto s_of = [&](Int i) { return s + i * n; };

  const auto has_answer = [&](Int i) { return !std::isnan(exponent_of(i)); };
  const auto needs_matrix = [&](Int i) { return !leaves_triangle(driver) && is_open(core_of(i)); };
  // All at once, where that leaves few to do again.
  Int open = 0;
  for (Int i = 0; i < count; ++i) open += has_answer(i) && needs_matrix(i);
  std::vector<std::uint8_t> found(count, 0);
  if (2 * open < count || !find_all(problem, as, s, found.data())) std::fill(found.begin(), found.end(), 0);

  // Of the others, elements that lie at one place, a triangle or a matrix, have the s of the first of them.
  std::unordered_map<const void*, Int> firsts;
  std::vector<Int> own;
  std::vector<std::pair<Int, Int>> copies;
  for (Int i = 0; i < count; ++i) {
    if (!has_answer(i)) {
      std::fill_n(s_of(i), n, not_a_number<RealOf<T>>());
    } else if (!found[i] || !needs_matrix(i)) {
      const auto* const place =
          needs_matrix(i) ? static_cast<const void*>(as[i].data) : static_cast<const void*>(core_of(i));
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
      if (leaves_triangle(driver)) {
        finder.of_triangle(reinterpret_cast<const WorkOf<T>*>(core_of(i)), static_cast<int>(exponent_of(i)), s_of(i));
      } else if (needs_matrix(i)) {
        finder.of_matrix(as[i], s_of(i));
      } else {
        finder.write(core_of(i), static_cast<int>(exponent_of(i)), s_of(i));
      }
    }
  });
  for (const auto& [from, to] : copies) std::copy_n(s_of(from), n, s_of(to));
}

template void find_singular_values(Driver, const Problem&, const Batch<float>&, const Cores&, RealOf<float>*);
template void find_singular_values(Driver, const Problem&, const Batch<double>&, const Cores&, RealOf<double>*);
template void find_singular_values(
    Driver, const Problem&, const Batch<std::complex<float>>&, const Cores&, RealOf<std::complex<float>>*);
template void find_singular_values(
    Driver, const Problem&, const Batch<std::complex<double>>&, const Cores&, RealOf<std::complex<double>>*);

}  // namespace lstsq::drivers
