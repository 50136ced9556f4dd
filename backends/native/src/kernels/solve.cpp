// One problem: choose the reduction by shape, and convert the answer.
#include <memory>
#include <vector>

#include "complex.h"
#include "solvers.h"

namespace lstsq::kernels {

namespace {

// A matrix of complex numbers as one of reals, twice as wide. (The stride from one column to the next tells nothing
// where there is one column.)
template <class T>
MatrixView<typename Real<T>::type> real_view(const MatrixView<T>& a) {
  using R = typename Real<T>::type;
  constexpr int64_t parts = Real<T>::parts;
  return {
      reinterpret_cast<const R*>(a.data), a.rows, parts * a.cols, parts * a.row_stride, a.cols == 1 ? 1 : a.col_stride};
}

// The real form of a complex matrix, 2 m rows of 2 n: [re -im; im re] in the place of each entry. A copy, four times
// the numbers of its real view: for wide and for square complex problems.
template <class R>
std::unique_ptr<R[]> real_form(const MatrixView<R>& a) {
  const int64_t m = a.rows, n = a.cols / 2;
  auto out = std::make_unique_for_overwrite<R[]>(static_cast<size_t>(4 * m * n));
  const int64_t cuts = pieces(m, static_cast<double>(n), copy_piece, 4);
  parallel(cuts, [&](int64_t cut) {
    for (int64_t i = m * cut / cuts; i < m * (cut + 1) / cuts; ++i) {
      R *top = out.get() + 4 * i * n, *bottom = top + 2 * n;
      for (int64_t j = 0; j < 2 * n; j += 2) {
        const R re = a(i, j), im = a(i, j + 1);
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
std::vector<R> real_parts(const MatrixView<R>& b) {
  const int64_t m = b.rows, k = b.cols / 2;
  std::vector<R> out(static_cast<size_t>(2 * m * k));
  for (int64_t i = 0; i < m; ++i)
    for (int64_t c = 0; c < k; ++c)
      for (int part = 0; part < 2; ++part) out[static_cast<size_t>((2 * i + part) * k + c)] = b(i, 2 * c + part);
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
  const int64_t m = p.a.rows, n = p.a.cols, k = p.b.cols;
  if (m < 1 || n < 1 || k < 1) return Status::unsupported;
  const Operands<R> operands{real_view(p.a), real_view(p.b)};
  std::vector<double> x(static_cast<size_t>(parts * n * k)), sums(p.residuals ? static_cast<size_t>(k) : 0);
  double* wanted = p.residuals ? sums.data() : nullptr;
  Status status = Status::unsupported;
  const bool square = m == n && parts * n > largest_gram_square;
  if (m >= n && !square) {
    status = solve_tall(operands, parts, p.rcond, x.data(), wanted, p.gram, found);
  } else {
    std::unique_ptr<R[]> a;
    std::vector<R> b;
    Operands<R> real = operands;
    if (parts == 2) {
      a = real_form(operands.a);
      b = real_parts(operands.b);
      real = {{a.get(), 2 * m, 2 * n, 2 * n, 1}, {b.data(), 2 * m, k, k, 1}};
    }
    status = square ? solve_square(real, p.rcond, x.data(), wanted, found)
                    : solve_wide(real, p.rcond, x.data(), wanted, found);
  }
  if (status != Status::certified) return status;

  R* out = reinterpret_cast<R*>(p.x);
  for (int64_t j = 0; j < n; ++j)
    for (int64_t c = 0; c < k; ++c)
      for (int part = 0; part < parts; ++part)
        out[(j * k + c) * parts + part] = static_cast<R>(x[static_cast<size_t>((j * parts + part) * k + c)]);
  if (p.precise)
    for (int64_t j = 0; j < n; ++j)
      for (int64_t c = 0; c < k; ++c)
        for (int part = 0; part < parts; ++part)
          p.precise[(j * k + c) * parts + part] = x[static_cast<size_t>((j * parts + part) * k + c)];
  for (int64_t c = 0; c < k; ++c)
    if (wanted) p.residuals[c] = static_cast<R>(sums[static_cast<size_t>(c)]);
  return status;
}

template <class T>
void residuals(const MatrixView<T>& a,
               const MatrixView<T>& b,
               const std::conditional_t<Real<T>::parts == 2, std::complex<double>, double>* x,
               double* sums) {
  constexpr int64_t parts = Real<T>::parts;
  const int64_t n = a.cols, k = b.cols;
  const Operands<typename Real<T>::type> operands{real_view(a), real_view(b)};
  if constexpr (parts == 1) {
    residual_pass(operands, x, sums, nullptr, nullptr);
  } else {
    std::vector<double> real(static_cast<size_t>(2 * n * k)), both(static_cast<size_t>(2 * k));
    for (int64_t j = 0; j < n; ++j)
      for (int64_t c = 0; c < k; ++c) {
        real[static_cast<size_t>(2 * j * k + c)] = x[j * k + c].real();
        real[static_cast<size_t>((2 * j + 1) * k + c)] = x[j * k + c].imag();
      }
    const std::vector<double> spread = spread_unknowns(n, k, real.data());
    residual_pass(operands, spread.data(), both.data(), nullptr, nullptr);
    for (int64_t c = 0; c < k; ++c) sums[c] = both[static_cast<size_t>(2 * c)] + both[static_cast<size_t>(2 * c + 1)];
  }
}

#define LSTSQ_INSTANTIATE(T, D)                      \
  template Status solve(const Problem<T>&, Report*); \
  template void residuals(const MatrixView<T>&, const MatrixView<T>&, const D*, double*);
LSTSQ_INSTANTIATE(float, double)
LSTSQ_INSTANTIATE(double, double)
LSTSQ_INSTANTIATE(std::complex<float>, std::complex<double>)
LSTSQ_INSTANTIATE(std::complex<double>, std::complex<double>)

}  // namespace lstsq::kernels
