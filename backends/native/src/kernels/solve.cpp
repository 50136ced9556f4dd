// One problem: choose the reduction by shape, and convert the answer.
#include <cmath>
#include <memory>
#include <vector>

#include "complex.h"
#include "solvers.h"

namespace lstsq::kernels {

namespace {

// A matrix of complex numbers as one of reals, twice as wide.
template <class T>
Rows<typename Real<T>::type> real_view(
    const T* a, int64_t m, int64_t n, int64_t lda, const T* b, int64_t k, int64_t ldb) {
  using R = typename Real<T>::type;
  constexpr int64_t parts = Real<T>::parts;
  return {
      reinterpret_cast<const R*>(a), m, parts * n, parts * lda, reinterpret_cast<const R*>(b), parts * k, parts * ldb};
}

// The real form of a complex matrix, 2 m rows of 2 n: [re -im; im re] in the place of each entry. A copy, four times
// the numbers: for wide and for square complex problems.
template <class R>
std::unique_ptr<R[]> real_form(const R* a, int64_t m, int64_t n, int64_t lda) {
  auto out = std::make_unique_for_overwrite<R[]>(static_cast<size_t>(4 * m * n));
  const int64_t cuts = pieces(m, static_cast<double>(n), copy_piece, 4);
  parallel(cuts, [&](int64_t cut) {
    for (int64_t i = m * cut / cuts; i < m * (cut + 1) / cuts; ++i) {
      R *top = out.get() + 4 * i * n, *bottom = top + 2 * n;
      for (int64_t j = 0; j < 2 * n; j += 2) {
        const R re = a[i * lda + j], im = a[i * lda + j + 1];
        top[j] = re;
        top[j + 1] = -im;
        bottom[j] = im;
        bottom[j + 1] = re;
      }
    }
  });
  return out;
}

// Right-hand sides to it: 2 m rows of k, real and imaginary parts in turn.
template <class R>
std::vector<R> real_parts(const R* b, int64_t m, int64_t k, int64_t ldb) {
  std::vector<R> out(static_cast<size_t>(2 * m * k));
  for (int64_t i = 0; i < m; ++i)
    for (int64_t c = 0; c < k; ++c)
      for (int part = 0; part < 2; ++part) out[static_cast<size_t>((2 * i + part) * k + c)] = b[i * ldb + 2 * c + part];
  return out;
}

}  // namespace

template <class T>
Status solve(const Problem<T>& p, Report* report) {
  using R = typename Real<T>::type;
  constexpr int parts = Real<T>::parts;
  Report unread;
  Report& found = report ? *report : unread;
  found = Report{};
  if (p.m < 1 || p.n < 1 || p.k < 1) return Status::unsupported;
  Rows<R> rows = real_view(p.a, p.m, p.n, p.lda, p.b, p.k, p.ldb);
  if (parts == 1) rows.column = p.column;
  std::vector<double> x(static_cast<size_t>(parts * p.n * p.k)), sums(p.residuals ? static_cast<size_t>(p.k) : 0);
  double* wanted = p.residuals ? sums.data() : nullptr;
  Status status = Status::unsupported;
  const bool square = p.m == p.n && parts * p.n > largest_gram_square;
  if (p.m >= p.n && !square) {
    status = solve_tall(rows, parts, p.rcond, x.data(), wanted, p.gram, found);
  } else {
    std::unique_ptr<R[]> a;
    std::vector<R> b;
    Rows<R> real = rows;
    if (parts == 2) {
      a = real_form(rows.a, p.m, p.n, rows.lda);
      b = real_parts(rows.b, p.m, p.k, rows.ldb);
      real = {a.get(), 2 * p.m, 2 * p.n, 2 * p.n, b.data(), p.k, p.k};
    }
    status = square ? solve_square(real, p.rcond, x.data(), wanted, found)
                    : solve_wide(real, p.rcond, x.data(), wanted, found);
  }
  if (status != Status::certified) return status;

  R* out = reinterpret_cast<R*>(p.x);
  for (int64_t j = 0; j < p.n; ++j)
    for (int64_t c = 0; c < p.k; ++c)
      for (int part = 0; part < parts; ++part)
        out[(j * p.ldx + c) * parts + part] = static_cast<R>(x[static_cast<size_t>((j * parts + part) * p.k + c)]);
  if (p.precise)
    for (int64_t j = 0; j < p.n; ++j)
      for (int64_t c = 0; c < p.k; ++c)
        for (int part = 0; part < parts; ++part)
          p.precise[(j * p.k + c) * parts + part] = x[static_cast<size_t>((j * parts + part) * p.k + c)];
  for (int64_t c = 0; c < p.k; ++c)
    if (wanted) p.residuals[c] = static_cast<R>(sums[static_cast<size_t>(c)]);
  return status;
}

template <class T>
void residuals(const T* a,
               int64_t m,
               int64_t n,
               int64_t lda,
               const T* b,
               int64_t k,
               int64_t ldb,
               const std::conditional_t<Real<T>::parts == 2, std::complex<double>, double>* x,
               double* sums) {
  constexpr int64_t parts = Real<T>::parts;
  const auto rows = real_view(a, m, n, lda, b, k, ldb);
  if constexpr (parts == 1) {
    residual_pass(rows, x, sums, nullptr, nullptr);
  } else {
    std::vector<double> real(static_cast<size_t>(2 * n * k)), both(static_cast<size_t>(2 * k));
    for (int64_t j = 0; j < n; ++j)
      for (int64_t c = 0; c < k; ++c) {
        real[static_cast<size_t>(2 * j * k + c)] = x[j * k + c].real();
        real[static_cast<size_t>((2 * j + 1) * k + c)] = x[j * k + c].imag();
      }
    const std::vector<double> spread = spread_unknowns(n, k, real.data());
    residual_pass(rows, spread.data(), both.data(), nullptr, nullptr);
    for (int64_t c = 0; c < k; ++c) sums[c] = both[static_cast<size_t>(2 * c)] + both[static_cast<size_t>(2 * c + 1)];
  }
}

#define LSTSQ_INSTANTIATE(T, D)                      \
  template Status solve(const Problem<T>&, Report*); \
  template void residuals(const T*, int64_t, int64_t, int64_t, const T*, int64_t, int64_t, const D*, double*);
LSTSQ_INSTANTIATE(float, double)
LSTSQ_INSTANTIATE(double, double)
LSTSQ_INSTANTIATE(std::complex<float>, std::complex<double>)
LSTSQ_INSTANTIATE(std::complex<double>, std::complex<double>)

}  // namespace lstsq::kernels
