#include "certified.h"

#include <memory>
#include <optional>
#include <vector>

#include "gram_values.h"
#include "in_rows.h"
#include "kernels/kernels.h"
#include "shares.h"

namespace lstsq::drivers {

namespace {

/// Below this many entries of A, one problem is solved as a batch of one: that allocates nothing and wakes no thread.
constexpr Int small = 4096;

/// From so many rows to a column on, the kernel for batches is to try for the singular values in double precision too:
/// below, most random matrices have a condition that does not allow it.
constexpr Int longer_for_gram = 2;

/// Entries of a batch that are copied at a time, where it does not lie as the kernels want it: two megabytes in
/// float32, which stay in the cache.
constexpr Int copied = 1 << 19;

/// Whether the kernel for batches suits: elements enough for all cores, or too small to be worth a core each.
template <class T>
bool suits_batch(const Problem& p, Int count) {
  if (Field<T>::is_complex || p.m < p.n || p.n > kernels::max_batch_columns) return false;
  return p.m * p.n <= small || fill_the_cores(count);
}

/// Whether the kernels are to find the residuals. Rows that are independent leave nothing over, for any right-hand
/// side.
template <class T>
bool found_with_x(const Problem& p, const Outputs<T>& out) {
  return out.at_once && p.m > p.n;
}

/// What the kernels leave open where they certify.
template <class T>
State open_state(const Problem& p, const Outputs<T>& out) {
  return p.m > p.n && !out.at_once ? State::x_alone : State::without_s;
}

/// One problem after the other by the kernels, each with all threads or, within a share of a batch, by one.
template <class T>
class OneByOne {
 public:
  OneByOne(double rcond, const Problem& p, const Outputs<T>& out) : rcond_(rcond), p_(p), out_(out) {
    // Not for small ones: their singular values are found sooner from the matrix, many at a time (singular_values.cpp).
    const bool wanted = out.at_once && out.spectrum != nullptr && p.m >= 2 * p.n && p.m * p.n > small;
    if (!Field<T>::is_complex && wanted) {
      gram_.reserve(p.n * p.n);
      values_ = std::make_unique<GramValues>(p.n);
    }
  }

  /// Whether element i was certified. Its state is written then, and its spectrum if that is known.
  bool solve(Int i, const Batch<T>& as, const Batch<T>& bs) {
    // The kernels copy a real A a part at a time where it does not lie in rows.
    const MatrixView<T> a = as[i];
    const std::optional<InRows<T>> copy = Field<T>::is_complex ? std::optional<InRows<T>>(a) : std::nullopt;
    const InRows<T> b(bs[i]);
    const Outputs<T> answer = out_.at(i, p_, p_.smallest());
    const kernels::Problem<T> problem{.a = copy ? copy->first() : a,
                                      .b = b.first(),
                                      .rcond = rcond_,
                                      .x = answer.x,
                                      .residuals = found_with_x(p_, out_) ? answer.residuals : nullptr,
                                      .precise = answer.precise,
                                      .gram = values_ ? gram_.data() : nullptr};
    kernels::Report report;
    if (kernels::solve(problem, &report) != kernels::Status::certified) return false;
    *answer.state = open_state(p_, out_);
    if (report.has_gram && values_->find(gram_.data(), answer.spectrum)) *answer.state = State::complete;
    return true;
  }

 private:
  double rcond_;
  Problem p_;
  const Outputs<T>& out_;
  Buffer<double> gram_;
  std::unique_ptr<GramValues> values_;
};

/// Solve what can be certified; `certified` says which elements that were.
template <class T>
void certify(double rcond,
             const Problem& p,
             const Batch<T>& as,
             const Batch<T>& bs,
             const Outputs<T>& out,
             std::uint8_t* certified) {
  if constexpr (!Field<T>::is_complex) {
    if (suits_batch<T>(p, as.count())) {
      // What has to be copied is copied a part at a time.
      const bool as_it_lies = InRows<T>::can_view(as) && InRows<T>::can_view(bs);
      const bool with_s = out.at_once && out.spectrum != nullptr && (sizeof(T) == 4 || p.m >= longer_for_gram * p.n);
      const Int at_a_time = as_it_lies ? as.count() : std::max<Int>(16, copied / (p.m * (p.n + p.k)));
      Buffer<std::uint8_t> found(with_s ? as.count() : 0);
      bool taken = true;  // by the shape, which is the same for all
      for (Int from = 0; taken && from < as.count(); from += at_a_time) {
        const Int to = std::min(as.count(), from + at_a_time);
        const InRows<T> a(as, from, to), b(bs, from, to);
        const Outputs<T> answer = out.at(from, p, p.n);
        taken = kernels::solve_batch(kernels::Batch<T>{.count = to - from,
                                                       .a = a.first(),
                                                       .a_stride = a.stride(),
                                                       .b = b.first(),
                                                       .b_stride = b.stride(),
                                                       .rcond = rcond,
                                                       .x = answer.x,
                                                       .residuals = found_with_x(p, out) ? answer.residuals : nullptr,
                                                       .precise = answer.precise,
                                                       .ok = certified + from,
                                                       .values = with_s ? answer.spectrum : nullptr,
                                                       .found = with_s ? found.data() : nullptr});
        std::fill_n(answer.state, to - from, open_state(p, out));
        for (Int i = 0; taken && with_s && i < to - from; ++i) {
          if (certified[from + i] && found[i]) answer.state[i] = State::complete;
        }
      }
      if (taken) return;
    }
  }
  in_shares(as.count(), [&](Int from, Int to) {
    OneByOne<T> one_by_one(rcond, p, out);
    for (Int i = from; i < to; ++i) certified[i] = one_by_one.solve(i, as, bs);
  });
}

}  // namespace

template <class T>
void solve_certified(
    Driver driver, double rcond, const Problem& p, const Batch<T>& as, const Batch<T>& bs, const Outputs<T>& out) {
  const Int narrow = p.smallest();
  std::vector<std::uint8_t> certified(as.count());
  certify(rcond, p, as, bs, out, certified.data());

  std::vector<Int> declined;
  for (Int i = 0; i < as.count(); ++i) {
    const Outputs<T> to = out.at(i, p, narrow);
    if (certified[i]) {
      if (p.m <= p.n) std::fill_n(to.residuals, p.k, RealOf<T>(0));
      *to.rank = static_cast<std::int32_t>(narrow);
      *to.exponent = 0;
    } else {
      declined.push_back(i);
    }
  }
  if (declined.empty()) return;
  in_shares(static_cast<Int>(declined.size()), [&](Int from, Int to) {
    ElementSolver<T> general(driver, rcond, p);
    for (Int at = from; at < to; ++at)
      general.solve(as[declined[at]], bs[declined[at]], out.at(declined[at], p, narrow));
  });
}

template void solve_certified(
    Driver, double, const Problem&, const Batch<float>&, const Batch<float>&, const Outputs<float>&);
template void solve_certified(
    Driver, double, const Problem&, const Batch<double>&, const Batch<double>&, const Outputs<double>&);
template void solve_certified(Driver,
                              double,
                              const Problem&,
                              const Batch<std::complex<float>>&,
                              const Batch<std::complex<float>>&,
                              const Outputs<std::complex<float>>&);
template void solve_certified(Driver,
                              double,
                              const Problem&,
                              const Batch<std::complex<double>>&,
                              const Batch<std::complex<double>>&,
                              const Outputs<std::complex<double>>&);

}  // namespace lstsq::drivers
