// Singular values of many small matrices, one matrix per vector lane, so that no operation is horizontal: Householder
// reflections reduce a long matrix to a triangle, and that to a bidiagonal matrix (Golub and Kahan 1965, "Calculating
// the singular values and pseudo-inverse of a matrix"); the differential qd algorithm with shifts finds the singular
// values of that (Fernando and Parlett 1994, "Accurate singular values and differential qd algorithms").
#pragma once

#include "isa.h"
#include "range.h"
#include "simd-inl.h"

namespace lstsq::kernels::LSTSQ_ISA {
namespace {

template <int W>
using Mask = Vec<int64_t, W>;

template <int W>
static inline bool any_lane(Mask<W> m) {
  int64_t bits = 0;
  for (int l = 0; l < W; ++l) bits |= m[l];
  return bits != 0;
}
template <int W>
static inline Vec<double, W> roots(Vec<double, W> v) {
  Vec<double, W> out;
  for (int l = 0; l < W; ++l) out[l] = __builtin_sqrt(v[l]);
  return out;
}
template <int W>
static inline Vec<double, W> magnitudes(Vec<double, W> v) {
  return reinterpret_cast<Vec<double, W>>(reinterpret_cast<Mask<W>>(v) & 0x7fffffffffffffff);
}

// Row l of t becomes column l.
template <int W>
static inline void transpose(Vec<double, W>* t) {
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define LSTSQ_TRANSPOSES
  using V = Vec<double, W>;
  // Exchange the blocks of `size` entries off the diagonal of each block of twice the size.
  const auto exchange = [t](int size, auto shuffle) {
    for (int i = 0; i < W; ++i)
      if ((i & size) == 0) shuffle(t[i], t[i + size]);
  };
  if constexpr (W == 8) {
    exchange(1, [](V& a, V& b) {
      const V low = __builtin_shufflevector(a, b, 0, 8, 2, 10, 4, 12, 6, 14);
      b = __builtin_shufflevector(a, b, 1, 9, 3, 11, 5, 13, 7, 15);
      a = low;
    });
    exchange(2, [](V& a, V& b) {
      const V low = __builtin_shufflevector(a, b, 0, 1, 8, 9, 4, 5, 12, 13);
      b = __builtin_shufflevector(a, b, 2, 3, 10, 11, 6, 7, 14, 15);
      a = low;
    });
    exchange(4, [](V& a, V& b) {
      const V low = __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11);
      b = __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15);
      a = low;
    });
  } else {
    static_assert(W == 4);
    exchange(1, [](V& a, V& b) {
      const V low = __builtin_shufflevector(a, b, 0, 4, 2, 6);
      b = __builtin_shufflevector(a, b, 1, 5, 3, 7);
      a = low;
    });
    exchange(2, [](V& a, V& b) {
      const V low = __builtin_shufflevector(a, b, 0, 1, 4, 5);
      b = __builtin_shufflevector(a, b, 2, 3, 6, 7);
      a = low;
    });
  }
#endif
#endif
}

// Entries `from` to `from + count` of each lane's array, widened, to `to`: `across` of them every `step` vectors, then
// the next ones one vector further.
template <int W, class T>
static inline void take_run(
    const T* const* a, int64_t from, int64_t count, Vec<double, W>* to, int64_t across, int64_t step) {
#ifdef LSTSQ_TRANSPOSES
  if (count >= W) {
    for (int64_t done = 0; done < count; done += W) {
      const int64_t i = least(done, count - W);
      Vec<double, W> t[W];
#pragma GCC unroll 8
      for (int l = 0; l < W; ++l) t[l] = load_as<double, W>(a[l] + from + i);
      transpose<W>(t);
      if (across == count) {
#pragma GCC unroll 8
        for (int l = 0; l < W; ++l) to[(i + l) * step] = t[l];
        continue;
      }
      int64_t c = i % across;
      Vec<double, W>* at = to + c * step + i / across;
#pragma GCC unroll 8
      for (int l = 0; l < W; ++l) {
        *at = t[l];
        at += step;
        if (++c == across) {
          c = 0;
          at += 1 - across * step;
        }
      }
    }
    return;
  }
#endif
  for (int64_t i = 0; i < count; ++i)
    for (int l = 0; l < W; ++l) to[i % across * step + i / across][l] = static_cast<double>(a[l][from + i]);
}

// The lanes' matrices, `rows` rows of n, to `to`, column-major with ld vectors from one column to the next.
template <int W, class T>
static inline void take_rows(const T* const* a,
                             int64_t at,
                             int64_t rows,
                             int64_t n,
                             int64_t row,
                             int64_t column,
                             Vec<double, W>* to,
                             int64_t ld) {
  if (column == 1 && row == n && n < W) {
    take_run<W>(a, at * row, rows * n, to, n, ld);
  } else if (column == 1) {
    for (int64_t i = 0; i < rows; ++i) take_run<W>(a, (at + i) * row, n, to + i, n, ld);
  } else if (row == 1) {
    for (int64_t c = 0; c < n; ++c) take_run<W>(a, at + c * column, rows, to + c * ld, rows, 1);
  } else {
    for (int64_t c = 0; c < n; ++c)
      for (int64_t i = 0; i < rows; ++i)
        for (int l = 0; l < W; ++l) to[c * ld + i][l] = static_cast<double>(a[l][(at + i) * row + c * column]);
  }
}

// The reflection I - factor v v' that maps a column, `first` above entries with this sum of squares, to `image` above
// zeros. v is the column with `top` in the place of its first entry. A column next to nothing is left as it is: its
// squares have lost their digits, and compared with the matrix (range.h) it is zero.
template <int W>
struct Reflection {
  using V = Vec<double, W>;
  V top, factor, image;

  Reflection(V first, V squares) {
    const V all = first * first + squares, length = roots<W>(all);
    const auto nothing = all <= 0x1p-900;
    top = first < 0.0 ? first - length : first + length;
    factor = nothing ? V{} : 1.0 / (nothing ? V{} + 1.0 : length * magnitudes<W>(top));
    image = nothing ? first : first < 0.0 ? length : -length;
  }
};

// The inner product of two columns of H entries, in four sums, so that one addition does not wait for the last.
template <int W, int H>
static inline Vec<double, W> inner(const Vec<double, W>* v, const Vec<double, W>* y) {
  constexpr int sums = H < 4 ? H : 4;
  Vec<double, W> s[sums];
#pragma GCC unroll 4
  for (int i = 0; i < sums; ++i) s[i] = v[i] * y[i];
#pragma GCC unroll 16
  for (int i = sums; i < H; ++i) s[i % sums] += v[i] * y[i];
  if constexpr (sums == 4)
    return (s[0] + s[1]) + (s[2] + s[3]);
  else
    return s[0] + s[1];
}

// Reduce [R; columns] to [R'; 0], columns being n columns of H entries, which become reflectors: column after column
// comes to the registers, and leaves when all reflections have been applied. r is n by n, column-major; tops and
// factors are room for the other parts of the reflections.
template <int W, int H>
static inline void add_rows(
    int64_t n, Vec<double, W>* r, Vec<double, W>* columns, Vec<double, W>* tops, Vec<double, W>* factors) {
  using V = Vec<double, W>;
  for (int64_t c = 0; c < n; ++c) {
    V y[H];
#pragma GCC unroll 16
    for (int i = 0; i < H; ++i) y[i] = columns[c * H + i];
    V* above = r + c * n;
    for (int64_t j = 0; j < c; ++j) {
      const V* v = columns + j * H;
      const V s = factors[j] * (tops[j] * above[j] + inner<W, H>(v, y));
      above[j] -= s * tops[j];
#pragma GCC unroll 16
      for (int i = 0; i < H; ++i) y[i] -= s * v[i];
    }
    const Reflection<W> made(above[c], inner<W, H>(y, y));
    tops[c] = made.top;
    factors[c] = made.factor;
    above[c] = made.image;
#pragma GCC unroll 16
    for (int i = 0; i < H; ++i) columns[c * H + i] = y[i];
  }
}

// The squares of the diagonal, q, and of what is right of it, e, of the bidiagonal matrix to which a (m by n, m >= n,
// column-major, overwritten) is reduced. w: room for m.
template <int W>
static void bidiagonalise(
    int64_t m, int64_t n, bool triangular, Vec<double, W>* a, Vec<double, W>* q, Vec<double, W>* e, Vec<double, W>* w) {
  using V = Vec<double, W>;
  for (int64_t k = 0; k < n; ++k) {
    V* v = a + k * m;
    V first = v[k];
    if (k == 0 && triangular) {
      q[k] = first * first;
    } else {
      V squares = {};
      for (int64_t i = k + 1; i < m; ++i) squares += v[i] * v[i];
      const Reflection<W> left(first, squares);
      q[k] = left.image * left.image;
      v[k] = left.top;
      for (int64_t c = k + 1; c < n; ++c) {
        V* y = a + c * m;
        V s = {}, t = {};
        int64_t i = k;
        for (; i + 2 <= m; i += 2) {
          s += v[i] * y[i];
          t += v[i + 1] * y[i + 1];
        }
        if (i < m) s += v[i] * y[i];
        s = (s + t) * left.factor;
        for (i = k; i < m; ++i) y[i] -= s * v[i];
      }
    }
    if (k + 1 == n) break;
    V* y = a + (k + 1) * m;
    if (k + 2 == n) {
      e[k] = y[k] * y[k];
      continue;
    }
    V squares = {};
    for (int64_t c = k + 2; c < n; ++c) squares += a[c * m + k] * a[c * m + k];
    const Reflection<W> right(y[k], squares);
    e[k] = right.image * right.image;
    y[k] = right.top;
    for (int64_t i = k + 1; i < m; ++i) w[i] = y[k] * y[i];
    for (int64_t c = k + 2; c < n; ++c) {
      const V s = a[c * m + k];
      for (int64_t i = k + 1; i < m; ++i) w[i] += s * a[c * m + i];
    }
    for (int64_t i = k + 1; i < m; ++i) w[i] *= right.factor;
    for (int64_t c = k + 1; c < n; ++c) {
      const V s = a[c * m + k];
      for (int64_t i = k + 1; i < m; ++i) a[c * m + i] -= s * w[i];
    }
  }
}

// The squares of the singular values of bidiagonal matrices, in any order, to `values` (n rows of G W). True for the
// lanes that converged. q and e (n rows of G vectors) are overwritten; next: room for 2 n G. G vectors take turns, so
// that one divides while another waits.
//
// A sweep goes from B to C with C'C = BB' - shift. The last off-diagonal entry of BB' tends to 0; where it is next to
// 0, the last diagonal entry with all shifts is a value. The lane's next sweep then has a shift for what is before that
// entry, and the other entries move to the end, so that all lanes end at the same place; the place that they leave at
// the beginning is filled with an entry that changes nothing.
template <int W, int G>
struct Qd {
  using V = Vec<double, W>;
  using M = Mask<W>;

  int64_t n;
  V *q, *e, *q_next, *e_next;
  V* values;
  static constexpr double most_caution = 0.4;
  int64_t from = 0;  // the first place in use by any lane
  V size[G], filling[G], least_e[G], shift[G], shifts[G], caution[G];
  V pair[G][5];                               // what finish() needs, of the lanes that are done
  M left[G], found[G], done[G], failures[G];  // found: the last entry is to be dropped after the next sweep

  Qd(int64_t n, V* q, V* e, V* next, V* values) : n(n), q(q), e(e), q_next(next), e_next(next + n * G), values(values) {
    for (int g = 0; g < G; ++g) {
      V most = q[(n - 1) * G + g];
      for (int64_t k = g; k < (n - 1) * G; k += G) most = q[k] + e[k] > most ? q[k] + e[k] : most;
      size[g] = most;
      filling[g] = most * 16.0;  // beyond all eigenvalues, and so beyond the sum of all shifts
      for (V& entry : pair[g]) entry = V{} + 1.0;
      least_e[g] = most * 0x1p-250;  // so that nothing is divided by zero
      shift[g] = shifts[g] = V{};
      caution[g] = V{} + most_caution;
      left[g] = M{} + n;
      found[g] = done[g] = failures[g] = M{};
      // Small values are best found at the end.
      const M upside_down = q[g] < q[(n - 1) * G + g];
      reverse(q + g, n, upside_down);
      reverse(e + g, n - 1, upside_down);
      for (int64_t k = g; k < (n - 1) * G; k += G) e[k] += least_e[g];
    }
  }

  static void reverse(V* v, int64_t count, M where) {
    for (int64_t k = 0, l = count - 1; k < l; ++k, --l) {
      const V first = v[k * G], last = v[l * G];
      v[k * G] = where ? last : first;
      v[l * G] = where ? first : last;
    }
  }

  // What a sweep tells of its last entry: d, and -d' as a function of the shift; and the least d before it.
  struct End {
    V d, slope, least;
  };

  void sweep(End* end, End* before) {
    V d[G], slope[G], least[G], d_before[G], slope_before[G], least_before[G];
#pragma GCC unroll 4
    for (int g = 0; g < G; ++g) {
      d[g] = d_before[g] = q[from * G + g] - shift[g];
      slope[g] = slope_before[g] = V{} + 1.0;
      least[g] = least_before[g] = filling[g];
    }
    M after_start[G];  // places after the first of the lane's own
#pragma GCC unroll 4
    for (int g = 0; g < G; ++g) after_start[g] = left[g] - (n - from);
    for (int64_t k = from * G; k < (n - 1) * G; k += G) {
#pragma GCC unroll 4
      for (int g = 0; g < G; ++g) {
        // Exactly, so that what is found does not depend on the neighbours.
        d[g] = after_start[g] == 0 ? q[k + g] - shift[g] : d[g];
        after_start[g] += 1;
        d_before[g] = d[g];
        slope_before[g] = slope[g];
        least_before[g] = least[g];
        least[g] = d[g] < least[g] ? d[g] : least[g];
        const V sum = d[g] + e[k + g], inverse = 1.0 / sum, ratio = q[k + G + g] * inverse, beside = e[k + g] * ratio;
        q_next[k + g] = sum;
        e_next[k + g] = beside + least_e[g];
        slope[g] = 1.0 + slope[g] * (beside * inverse);
        d[g] = d[g] * ratio - shift[g];
      }
    }
    for (int g = 0; g < G; ++g) {
      q_next[(n - 1) * G + g] = d[g];
      end[g] = {d[g], slope[g], least[g]};
      before[g] = {d_before[g], slope_before[g], least_before[g]};
    }
  }

  // True where all lanes have converged.
  void run(int64_t most_sweeps) {
    End end[G], before[G];
    for (int64_t count = 0; count < most_sweeps; ++count) {
      sweep(end, before);
      swap(q, q_next);
      swap(e, e_next);
      M unfinished = {}, longest = {};
      for (int g = 0; g < G; ++g) {
        finish_sweep(g, end[g], before[g]);
        unfinished |= left[g] + found[g] > 2;
        longest |= left[g] >= n - from;
      }
      if (!any_lane<W>(unfinished)) return;
      if (!any_lane<W>(longest)) ++from;
    }
  }

  static void swap(V*& a, V*& b) {
    V* const keep = a;
    a = b;
    b = keep;
  }

  void finish_sweep(int g, End end, End before) {
    V* const q_last = q + (n - 1) * G + g;
    V* const e_last = e + (n - 2) * G + g;
    // An entry below zero before the last: the shift was too large.
    const M failed = ~((found[g] ? before.least : end.least) >= 0.0);
    if (any_lane<W>(failed)) {
      for (int64_t k = from * G + g; k < n * G; k += G) {
        q[k] = failed ? q_next[k] : q[k];
        e[k] = failed ? e_next[k] : e[k];
      }
    }
    const M moves = found[g] & ~failed;
    shifts[g] = failed ? shifts[g] : shifts[g] + shift[g];
    V d = end.d, slope = end.slope, least = end.least;
    if (any_lane<W>(moves)) {
      for (int64_t k = (n - 1) * G + g; k > from * G + g; k -= G) q[k] = moves ? q[k - G] : q[k];
      for (int64_t k = (n - 2) * G + g; k > from * G + g; k -= G) e[k] = moves ? e[k - G] : e[k];
      q[from * G + g] = moves ? filling[g] : q[from * G + g];
      e[from * G + g] = moves ? least_e[g] : e[from * G + g];
      left[g] += moves;
      d = moves ? *q_last : d;
      slope = moves ? before.slope : slope;
      least = moves ? before.least : least;
    }
    const V value = shifts[g] + *q_last;
    const V small = 0x1p-108 * size[g], next_to = small * magnitudes<W>(value);
    const M now = (magnitudes<W>(*e_last * *q_last) <= (next_to > small * small ? next_to : small * small)) & ~failed &
                  (left[g] > 2);
    found[g] = failed ? found[g] : now;
    if (any_lane<W>(now)) {
      const M place = now ? left[g] - 1 : M{} - 1;
      for (int64_t k = 0; k < n - from; ++k) values[k * G + g] = place == k ? value : values[k * G + g];
    }

    // The next shift: Newton's step towards the smallest zero of d as a function of the shift, where it is well below
    // the other entries. Of two entries the values are found at the end.
    const M again = now & ~moves;
    d = now ? q_last[-G] : d;
    slope = again ? before.slope : slope;
    least = again ? before.least : least;
    const V newton = d / (slope > 1.0 ? slope : V{} + 1.0), lesser = newton < least ? newton : least;
    // Elsewhere a part of the bound, a larger one from sweep to sweep: values may lie close together.
    V next = newton < 0.75 * least ? newton : (1.0 - caution[g]) * lesser;
    caution[g] = failed | now ? V{} + most_caution : caution[g] * 0.6;
    next = d <= 0.0 ? d * (1 + 0x1p-50) : next;
    next = now & moves ? V{} : next;
    failures[g] = failed ? failures[g] + 1 : M{};
    if (any_lane<W>(failed)) {
      const V last = found[g] ? q_last[-G] : *q_last;
      const V surely = last < 0.0 ? last * (1 + 0x1p-50) : V{};
      V retry = shift[g] > 0.0 ? 0.25 * shift[g] : 4.0 * shift[g];
      retry = (failures[g] > 1) & (shift[g] > 0.0) ? surely : retry;
      next = failed ? retry : next;
    }
    const M two = left[g] + found[g] <= 2;
    shift[g] = two ? V{} : next;
    if (any_lane<W>(two & ~done[g])) take_pair(g, two & ~done[g]);
  }

  // The last two entries of these lanes, of BB' = [a + c, sqrt(b c); ., b + rest].
  void take_pair(int g, M lanes_of) {
    const int64_t last = (n - 1) * G + g;
    V found_pair[5] = {q[last - G], q[last], e[last - G], V{}, shifts[g]};
    if (n > 2) {
      found_pair[0] = found[g] ? q[last - 2 * G] : found_pair[0];
      found_pair[1] = found[g] ? q[last - G] : found_pair[1];
      found_pair[2] = found[g] ? e[last - 2 * G] : found_pair[2];
      found_pair[3] = found[g] ? e[last - G] : found_pair[3];
    }
    for (int i = 0; i < 5; ++i) pair[g][i] = lanes_of ? found_pair[i] : pair[g][i];
    done[g] |= lanes_of;
  }

  // The last two values of each lane: the eigenvalues of a matrix of order two, whose determinant is a b + (a + c)
  // rest. True for the lanes that converged.
  M finish(int g) {
    if (n == 2) take_pair(g, ~M{});
    const V a = pair[g][0], b = pair[g][1], c = pair[g][2], rest = pair[g][3], shifted = pair[g][4];
    const V difference = a + c - b - rest;
    const V high = 0.5 * ((a + b + c + rest) + roots<W>(difference * difference + 4.0 * (b * c)));
    values[G + g] = shifted + high;
    values[g] = shifted + (a * (b / high) + (a + c) * (rest / high));
    return done[g];
  }
};

// Vectors that take turns, and rows that are reduced at a time.
#ifdef __AVX512F__
constexpr int qd_vectors = 2, reflection_rows = 16;
#else
constexpr int qd_vectors = 2, reflection_rows = 8;
#endif

static bool reduces_first(int64_t m, int64_t n) {
  return 2 * m >= 3 * n;
}

template <int W>
struct SingularRoom {
  using V = Vec<double, W>;
  V *q, *e, *next, *values, *own_q, *own_e, *w, *r, *columns, *tops, *factors, *end;

  SingularRoom(int64_t m, int64_t n, V* at) {
    constexpr int64_t G = qd_vectors;
    const bool reduces = reduces_first(m, n);
    q = at;
    e = q + n * G;
    next = e + n * G;
    values = next + 2 * n * G;
    own_q = values + n * G;
    own_e = own_q + n;
    w = own_e + n;
    r = w + (reduces ? n : m);
    columns = r + n * (reduces ? n : m);
    tops = columns + (reduces ? reflection_rows * n : 0);
    factors = tops + n;
    end = factors + n;
  }
};

template <int W, int H, class T>
static inline void add_some_rows(
    const T* const* a, int64_t at, int64_t rows, int64_t n, int64_t row, int64_t column, const SingularRoom<W>& room) {
  if (rows < H)
    for (int64_t i = 0; i < n * H; ++i) room.columns[i] = Vec<double, W>{};
  take_rows<W>(a, at, rows, n, row, column, room.columns, H);
  add_rows<W, H>(n, room.r, room.columns, room.tops, room.factors);
}

template <int W, class T>
static inline void add_all_rows(
    const T* const* a, int64_t m, int64_t n, int64_t row, int64_t column, const SingularRoom<W>& room) {
  int64_t at = 0;
  if constexpr (reflection_rows > 8)
    for (; m - at > 8; at += reflection_rows)
      add_some_rows<W, reflection_rows>(a, at, least(m - at, reflection_rows), n, row, column, room);
  for (; m - at > 4; at += 8) add_some_rows<W, 8>(a, at, least(m - at, 8), n, row, column, room);
  if (m - at > 2)
    add_some_rows<W, 4>(a, at, m - at, n, row, column, room);
  else if (m - at > 0)
    add_some_rows<W, 2>(a, at, m - at, n, row, column, room);
}

template <class T, int W>
static void singular_lanes(const SingularTask<T>& t) {
  constexpr int G = qd_vectors;
  using V = Vec<double, W>;
  using M = Mask<W>;
  const int64_t m = t.m, n = t.n;
  const SingularRoom<W> room(m, n, static_cast<V*>(t.workspace));
  for (int64_t element = t.from; element < t.to; element += G * W) {
    M good[G];
    const T* a[G * W];
    const int64_t live = least(G * W, t.to - element);
    for (int64_t l = 0; l < G * W; ++l) a[l] = t.a + (element + least(l, live - 1)) * t.a_stride;
    for (int g = 0; g < G; ++g) {
      if (g * W >= live) {
        // Nobody reads these lanes, but they take part: as copies.
        good[g] = good[0];
        for (int64_t k = 0; k < n; ++k) room.q[k * G + g] = room.q[k * G];
        for (int64_t k = 0; k + 1 < n; ++k) room.e[k * G + g] = room.e[k * G];
        continue;
      }
      if (reduces_first(m, n)) {
        for (int64_t i = 0; i < n * n; ++i) room.r[i] = V{};
        add_all_rows<W>(a + g * W, m, n, t.row, t.column, room);
        bidiagonalise<W>(n, n, true, room.r, room.own_q, room.own_e, room.w);
      } else {
        take_rows<W>(a + g * W, 0, m, n, t.row, t.column, room.r, m);
        bidiagonalise<W>(m, n, false, room.r, room.own_q, room.own_e, room.w);
      }
      V squares = room.own_q[n - 1];
      for (int64_t k = 0; k + 1 < n; ++k) squares += room.own_q[k] + room.own_e[k];
      good[g] = (squares >= 1 / (largest_norm * largest_norm)) & (squares <= largest_norm * largest_norm);
      for (int64_t k = 0; k < n; ++k) room.q[k * G + g] = good[g] ? room.own_q[k] : V{} + 1.0;
      for (int64_t k = 0; k + 1 < n; ++k) room.e[k * G + g] = good[g] ? room.own_e[k] : V{};
    }
    if (n > 1) {
      Qd<W, G> qd(n, room.q, room.e, room.next, room.values);
      if (n > 2) qd.run(24 + 12 * n);
      for (int g = 0; g < G; ++g) good[g] &= qd.finish(g);
    } else {
      for (int g = 0; g < G; ++g) room.values[g] = room.q[g];
    }
    for (int64_t k = 0; k < n * G; ++k) room.values[k] = room.values[k] > 0.0 ? roots<W>(room.values[k]) : V{};
    for (int64_t k = G; k < n * G; ++k)
      for (int64_t p = k; p >= G; p -= G) {
        const V up = room.values[p - G], down = room.values[p];
        room.values[p - G] = up > down ? up : down;
        room.values[p] = up > down ? down : up;
      }
    const double* sorted = reinterpret_cast<const double*>(room.values);
    for (int64_t l = 0; l < live; ++l) {
      T* s = t.s + (element + l) * n;
      for (int64_t k = 0; k < n; ++k) s[k] = static_cast<T>(sorted[k * G * W + l]);
      t.ok[element + l] = good[l / W][l % W] != 0;
      if (t.ok[element + l]) continue;
      bool zero = true;
      for (int64_t i = 0; i < m && zero; ++i)
        for (int64_t j = 0; j < n; ++j) zero &= a[l][i * t.row + j * t.column] == 0;
      if (!zero) continue;
      for (int64_t k = 0; k < n; ++k) s[k] = 0;
      t.ok[element + l] = 1;
    }
  }
}

static int64_t singular_workspace(int64_t m, int64_t n) {
  return (SingularRoom<lanes>(m, n, nullptr).end - static_cast<VecD*>(nullptr)) * static_cast<int64_t>(sizeof(VecD));
}
template <class T>
static void singular(const SingularTask<T>& t) {
  singular_lanes<T, lanes>(t);
}

}  // namespace
}  // namespace lstsq::kernels::LSTSQ_ISA
