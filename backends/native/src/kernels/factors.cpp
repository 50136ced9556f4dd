#include "factors.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "isa.h"
#include "pool.h"

namespace lstsq::kernels {

namespace {

// Panels of `depth` rows from the top: `panel(at, depth, packed)` factorises one, `update(at, depth, packed, from, to)`
// brings later rows up to date, `group` of them at a time. The next panel is updated and factorised while the rest is
// updated.
template <class T, class Panel, class Update>
bool by_panels(int64_t n, int64_t depth, int64_t group, Panel panel, Update update) {
  std::vector<T> now(static_cast<size_t>(depth * padded(n))), next(now.size());
  bool regular = panel(0, std::min(depth, n), now.data());
  for (int64_t at = 0; regular && at + depth < n; at += depth) {
    const int64_t rest = at + depth, after = std::min(rest + depth, n);
    const auto groups = [&](int64_t from, int64_t to) { return (to - from + group - 1) / group; };
    const auto advance = [&](int64_t from, int64_t to, int64_t which) {
      update(at, depth, now.data(), from + which * group, std::min(from + (which + 1) * group, to));
    };
    parallel(1 + groups(after, n), [&](int64_t task) {
      if (task > 0) return advance(after, n, task - 1);
      for (int64_t which = 0; which < groups(rest, after); ++which) advance(rest, after, which);
      regular = panel(rest, after - rest, next.data());
    });
    std::swap(now, next);
  }
  return regular;
}

template <class T>
const LuIsa<T>& lu_isa() {
  if constexpr (sizeof(T) == 4)
    return isa().lu_f;
  else
    return isa().lu_d;
}

}  // namespace

bool cholesky(int64_t n, double* g, int64_t ldg) {
  if (n <= cholesky_depth) return isa().cholesky(n, g, ldg);
  return by_panels<double>(
      n,
      cholesky_depth,
      2 * cholesky_depth,
      [&](int64_t at, int64_t depth, double* packed) { return isa().cholesky_panel(n, g, ldg, at, depth, packed); },
      [&](int64_t at, int64_t depth, const double* packed, int64_t from, int64_t to) {
        isa().cholesky_update(n, g, ldg, at, depth, packed, from, to);
      });
}

template <class T>
bool lu(int64_t n, T* a, int64_t ld, int32_t* pivots) {
  const bool regular = by_panels<T>(
      n,
      lu_depth,
      lu_rows,
      [&](int64_t at, int64_t depth, T* packed) { return lu_isa<T>().panel(n, a, ld, pivots, at, depth, packed); },
      [&](int64_t at, int64_t depth, const T* packed, int64_t from, int64_t to) {
        lu_isa<T>().update(n, a, ld, pivots, at, depth, packed, from, to);
      });
  if (!regular) return false;
  // Each panel's rows have seen its own exchanges, and those before it.
  parallel((n + lu_rows - 1) / lu_rows, [&](int64_t task) {
    const int64_t from = task * lu_rows, seen = (from / lu_depth + 1) * lu_depth;
    for (int64_t i = from; i < std::min(from + lu_rows, n); ++i)
      for (int64_t c = seen; c < n; ++c) std::swap(a[i * ld + c], a[i * ld + pivots[c] - 1]);
  });
  return true;
}

template bool lu(int64_t, float*, int64_t, int32_t*);
template bool lu(int64_t, double*, int64_t, int32_t*);

}  // namespace lstsq::kernels
