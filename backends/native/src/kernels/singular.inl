// Singular values of many small matrices, one matrix per vector lane, so that no operation is horizontal: Householder
// reflections reduce a long matrix to a triangle, and that to a bidiagonal matrix (Golub and Kahan 1965, "Calculating
// the singular values and pseudo-inverse of a matrix"); the differential qd algorithm with shifts finds the singular
// values of that (Fernando and Parlett 1994, "Accurate singular values and differential qd algorithms").

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

// Reduce [R; rows] to [R'; 0], rows being H of the lanes' matrices, the next ones: column after column comes to the
// registers, and leaves when all reflections have been applied. r is n by n, column-major; columns, tops and factors
// are room for the reflections.
template <int W, int H, class T>
static inline void add_rows(int64_t n,
                            const T* const* a,
                            int64_t row,
                            int64_t column,
                            int64_t live,
                            Vec<double, W>* r,
                            Vec<double, W>* columns,
                            Vec<double, W>* tops,
                            Vec<double, W>* factors) {
  using V = Vec<double, W>;
  for (int64_t c = 0; c < n; ++c) {
    V y[H];
#pragma GCC unroll 16
    for (int i = 0; i < H; ++i) {
      y[i] = V{};
      if (i < live)
        for (int l = 0; l < W; ++l) y[i][l] = static_cast<double>(a[l][i * row + c * column]);
    }
    V* above = r + c * n;
    for (int64_t j = 0; j < c; ++j) {
      const V* v = columns + j * H;
      V s = tops[j] * above[j], t = {};
#pragma GCC unroll 16
      for (int i = 0; i < H; i += 2) {
        s += v[i] * y[i];
        t += v[i + 1] * y[i + 1];
      }
      s = (s + t) * factors[j];
      above[j] -= s * tops[j];
#pragma GCC unroll 16
      for (int i = 0; i < H; ++i) y[i] -= s * v[i];
    }
    V s = {}, t = {};
#pragma GCC unroll 16
    for (int i = 0; i < H; i += 2) {
      s += y[i] * y[i];
      t += y[i + 1] * y[i + 1];
    }
    const Reflection<W> made(above[c], s + t);
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
static void bidiagonalise(int64_t m,
                          int64_t n,
                          bool triangular,
                          Vec<double, W>* a,
                          Vec<double, W>* q,
                          Vec<double, W>* e,
                          Vec<double, W>* w) {
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

// The squares of the singular values of bidiagonal matrices, in any order, to `values` (n rows of W). True for the
// lanes that converged. q and e are overwritten; next: room for 2 n.
//
// A sweep replaces B'B by a similar matrix minus a shift; the last entries of q and e then tend to the smallest
// eigenvalue, less all shifts, and to 0. Where e is next to 0, the value is taken, and the lane's other entries move
// to the end of the arrays, so that all lanes end at the same place; what they leave is filled with entries that no
// sweep changes much and no shift depends on.
template <int W>
static Mask<W> qd_values(int64_t n, Vec<double, W>* q, Vec<double, W>* e, Vec<double, W>* next, double* values) {
  using V = Vec<double, W>;
  using M = Mask<W>;
  V size = q[n - 1];
  for (int64_t k = 0; k + 1 < n; ++k) size = q[k] + e[k] > size ? q[k] + e[k] : size;
  const V filling = size * 16.0;  // larger than every eigenvalue, and so than the sum of all shifts
  const V least_e = size * 0x1p-250;  // so that nothing is divided by zero
  const M upside_down = q[0] < q[n - 1];
  for (int64_t k = 0, l = n - 1; k < l; ++k, --l) {
    const V up = q[k], down = q[l];
    q[k] = upside_down ? down : up;
    q[l] = upside_down ? up : down;
  }
  for (int64_t k = 0, l = n - 2; k < l; ++k, --l) {
    const V up = e[k], down = e[l];
    e[k] = upside_down ? down : up;
    e[l] = upside_down ? up : down;
  }
  for (int64_t k = 0; k + 1 < n; ++k) e[k] = e[k] > least_e ? e[k] : least_e;

  V *q_next = next, *e_next = next + n, shift = {}, shifts = {};
  M left = M{} + n;  // entries of each lane
  V failures = {};
  int64_t from = 0;
  for (int64_t sweep = 0; from < n - 2 && sweep < 24 + 12 * n; ++sweep) {
    V d = q[from] - shift, slope = V{} + 1.0, least_d = filling, slope_before = slope, least_before = least_d;
    for (int64_t k = from; k + 1 < n; ++k) {
      least_before = least_d;
      slope_before = slope;
      least_d = d < least_d ? d : least_d;
      const V sum = d + e[k], inverse = 1.0 / sum, ratio = q[k + 1] * inverse, product = e[k] * ratio;
      q_next[k] = sum;
      e_next[k] = magnitudes<W>(product) > least_e ? product : least_e;
      slope = 1.0 + slope * (product * inverse);
      d = d * ratio - shift;
    }
    q_next[n - 1] = d;
    const M failed = ~(least_d >= 0.0);
    V* keep = q;
    q = q_next;
    q_next = keep;
    keep = e;
    e = e_next;
    e_next = keep;
    if (any_lane<W>(failed)) {
      for (int64_t k = from; k < n; ++k) {
        q[k] = failed ? q_next[k] : q[k];
        e[k] = failed ? e_next[k] : e[k];
      }
      failures = failed ? failures + 1.0 : V{};
    } else {
      failures = V{};
    }
    shifts = failed ? shifts : shifts + shift;
    const V value = shifts + q[n - 1], small = 0x1p-108 * size;
    const V beside = magnitudes<W>(e[n - 2]), end = magnitudes<W>(q[n - 1]), enough = small * magnitudes<W>(value);
    const M done = ((beside <= small) | ((beside * beside <= enough) & (beside * end <= enough))) & ~failed & (left > 2);
    V last = d, slope_last = slope, least_last = least_d;
    if (any_lane<W>(done)) {
      int64_t longest = 0;
      for (int l = 0; l < W; ++l) {
        values[(left[l] - 1) * W + l] = value[l];
        left[l] += done[l];
        longest = most(longest, left[l]);
      }
      for (int64_t k = n - 1; k > from; --k) q[k] = done ? q[k - 1] : q[k];
      for (int64_t k = n - 2; k > from; --k) e[k] = done ? e[k - 1] : e[k];
      q[from] = done ? filling : q[from];
      e[from] = done ? least_e : e[from];
      from = n - longest;
      last = q[n - 1];
      slope_last = done ? slope_before : slope;
      least_last = done ? least_before : least_d;
    }
    // The next shift: Newton's step towards the smallest zero of d(shift), where it is well below the other entries.
    const V newton = last / slope_last, lesser = newton < least_last ? newton : least_last;
    V chosen = newton < 0.9 * least_last ? newton : 0.75 * lesser;
    const V below = last * (1 + 0x1p-50);
    chosen = last <= 0.0 ? below : chosen;
    if (any_lane<W>(failed)) {
            const V surely = q[n - 1] < 0.0 ? q[n - 1] * (1 + 0x1p-50) : V{};
      V retry = shift > 0.0 ? 0.25 * shift : 4.0 * shift;
      retry = (failures > 1.0) & (shift > 0.0) ? surely : retry;
      chosen = failed ? retry : chosen;
    }
    shift = left > 2 ? chosen : V{};  // of two entries the values are found at the end
  }
  // Two are left: the eigenvalues of a matrix of order two.
  const V a = q[n - 2], b = q[n - 1], c = e[n - 2], difference = a + c - b;
  const V high = 0.5 * ((a + b + c) + roots<W>(difference * difference + 4.0 * (b * c)));
  store<W>(values + W, shifts + high);
  store<W>(values, shifts + a / high * b);
  return left <= 2;
}

template <int W>
static int64_t singular_room(int64_t m, int64_t n) {
  const bool direct = 2 * m < 3 * n;
  return (direct ? m * n : n * n + 16 * n + 2 * n) + 5 * n + most(m, n) + 16;
}

template <class T, int W>
static void singular_lanes(const SingularTask<T>& t) {
  using V = Vec<double, W>;
  using M = Mask<W>;
  const int64_t m = t.m, n = t.n;
  const bool direct = 2 * m < 3 * n;
  V* at = static_cast<V*>(t.workspace);
  V* q = at;
  V* e = q + n;
  V* next = e + n;
  V* values = next + 2 * n;
  V* w = values + n;
  V* r = w + (direct ? m : n);
  V* columns = r + n * n;
  V* tops = columns + 16 * n;
  V* factors = tops + n;
  for (int64_t element = t.from; element < t.to; element += W) {
    const int64_t live = least(W, t.to - element);
    const T* a[W];
    for (int64_t l = 0; l < W; ++l) a[l] = t.a + (element + least(l, live - 1)) * t.a_stride;
    if (direct) {
      for (int64_t c = 0; c < n; ++c)
        for (int64_t i = 0; i < m; ++i)
          for (int l = 0; l < W; ++l) r[c * m + i][l] = static_cast<double>(a[l][i * t.row + c * t.column]);
      bidiagonalise<W>(m, n, false, r, q, e, w);
    } else {
      for (int64_t i = 0; i < n * n; ++i) r[i] = V{};
      int64_t i = 0;
      for (; i + 8 <= m; i += 8) {
        const T* rows[W];
        for (int l = 0; l < W; ++l) rows[l] = a[l] + i * t.row;
        add_rows<W, 8, T>(n, rows, t.row, t.column, 8, r, columns, tops, factors);
      }
      if (i < m) {
        const T* rows[W];
        for (int l = 0; l < W; ++l) rows[l] = a[l] + i * t.row;
        if (m - i <= 2)
          add_rows<W, 2, T>(n, rows, t.row, t.column, m - i, r, columns, tops, factors);
        else if (m - i <= 4)
          add_rows<W, 4, T>(n, rows, t.row, t.column, m - i, r, columns, tops, factors);
        else
          add_rows<W, 8, T>(n, rows, t.row, t.column, m - i, r, columns, tops, factors);
      }
      bidiagonalise<W>(n, n, true, r, q, e, w);
    }
    V squares = q[n - 1];
    for (int64_t k = 0; k + 1 < n; ++k) squares += q[k] + e[k];
    const M ordinary = (squares >= 1 / (largest_norm * largest_norm)) & (squares <= largest_norm * largest_norm);
    M good = ordinary;
    if (n > 1) {
      for (int64_t k = 0; k < n; ++k) q[k] = ordinary ? q[k] : V{} + 1.0;
      for (int64_t k = 0; k + 1 < n; ++k) e[k] = ordinary ? e[k] : V{};
      good &= qd_values<W>(n, q, e, next, reinterpret_cast<double*>(values));
    } else {
      values[0] = q[0];
    }
    for (int64_t k = 0; k < n; ++k) values[k] = values[k] > 0.0 ? roots<W>(values[k]) : V{};
    for (int64_t k = 1; k < n; ++k)
      for (int64_t p = k; p > 0; --p) {
        const V up = values[p - 1], down = values[p];
        values[p - 1] = up > down ? up : down;
        values[p] = up > down ? down : up;
      }
    for (int64_t l = 0; l < live; ++l) {
      T* s = t.s + (element + l) * n;
      for (int64_t k = 0; k < n; ++k) s[k] = static_cast<T>(values[k][l]);
      t.ok[element + l] = good[l] != 0;
      if (good[l]) continue;
      bool zero = true;
      for (int64_t i = 0; i < m && zero; ++i)
        for (int64_t j = 0; j < n; ++j) zero &= a[l][i * t.row + j * t.column] == 0;
      if (!zero) continue;
      for (int64_t k = 0; k < n; ++k) s[k] = 0;
      t.ok[element + l] = 1;
    }
  }
}

#ifndef SINGULAR_LANES
#define SINGULAR_LANES lanes
#endif
static int64_t singular_workspace(int64_t m, int64_t n) {
  return singular_room<SINGULAR_LANES>(m, n) * SINGULAR_LANES * static_cast<int64_t>(sizeof(double));
}
template <class T>
static void singular(const SingularTask<T>& t) {
  singular_lanes<T, SINGULAR_LANES>(t);
}
