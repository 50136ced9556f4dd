#include "at_once.h"

#include "certified.h"
#include "singular_values.h"

namespace lstsq::drivers {

namespace {

/// Elements that lie one after the other.
Places consecutive(Int count, Int size) {
  Places places;
  places.add_axis(count, size);
  return places;
}

}  // namespace

template <class T>
State solve_at_once(
    Driver driver, double rcond, const Problem& p, const Batch<T>& as, const Batch<T>& bs, const Answers<T>& out) {
  const Int count = as.count(), size = spectrum_size(driver, p.smallest(), Field<T>::is_complex);
  Buffer<State> states(count);
  Buffer<std::int32_t> exponents(count);
  Buffer<double> spectra(out.s == nullptr ? 0 : count * size);
  Outputs<T> solved{out.x, out.residuals, out.rank, states.data(), exponents.data(), spectra.data()};
  solved.at_once = true;
  if (certifies(driver)) {
    solve_certified<T>(driver, rcond, p, as, bs, solved);
  } else {
    solve_batch<T>(driver, rcond, p, as, bs, solved);
  }
  if (out.s != nullptr) {
    const Spectra left{spectra.data(),
                       consecutive(count, size),
                       exponents.data(),
                       consecutive(count, 1),
                       states.data(),
                       consecutive(count, 1)};
    find_singular_values<T>(driver, p, as, left, out.s);
  }
  return std::min(State::complete, *std::min_element(&states[0], &states[0] + count));
}

template State solve_at_once(
    Driver, double, const Problem&, const Batch<float>&, const Batch<float>&, const Answers<float>&);
template State solve_at_once(
    Driver, double, const Problem&, const Batch<double>&, const Batch<double>&, const Answers<double>&);
template State solve_at_once(Driver,
                             double,
                             const Problem&,
                             const Batch<std::complex<float>>&,
                             const Batch<std::complex<float>>&,
                             const Answers<std::complex<float>>&);
template State solve_at_once(Driver,
                             double,
                             const Problem&,
                             const Batch<std::complex<double>>&,
                             const Batch<std::complex<double>>&,
                             const Answers<std::complex<double>>&);

}  // namespace lstsq::drivers
