// Batches of small problems. `lanes` problems are factorised at a time, one per vector lane, so that no operation of
// the Cholesky factorisation, the certificate or the solution is horizontal. The Gram matrices of up to 8 columns are
// formed that way too; wider ones have rows long enough to fill vectors and are formed one problem after the other.
//
// Names: G = D A'A D with D = diag(2^-e), so that its diagonal lies in [1, 4); R'R = G; V = R^-1.
#pragma once

#include "gram_values-inl.h"
#include "isa.h"
#include "lanes-inl.h"
#include "range.h"
#include "refinement.h"
#include "residual-inl.h"
#include "simd-inl.h"

namespace lstsq::kernels::LSTSQ_ISA {
namespace {

static inline VecD select(MaskD m, VecD yes, VecD no) {
  return reinterpret_cast<VecD>((m & reinterpret_cast<MaskD>(yes)) | (~m & reinterpret_cast<MaskD>(no)));
}

// The lanes' matrices and vectors. [i * n + j] for matrices, [j * k + c] for right-hand sides.
struct Core {
  int64_t m, n, k;
  double rcond;
  VecD* g;       // n * n, the upper triangle: the Gram matrix, then R
  VecD* v;       // n * n, the upper triangle: R^-1
  VecD* c;       // n * k: A'b, then a right-hand side's work space
  VecD* x;       // n * k: the solution
  VecD* d;       // n: the scale of each column, a power of two
  VecD* norms;   // k: what steps are measured against: |D^-1 x| + |r|
  VecD* values;  // room for GramValues
  MaskD ok;
  VecD contraction;  // bound of |I - (R'R)^-1 A'A|, all rounding errors included
  VecD condition;    // |A D|_F |R^-1|_F
};

// Factorise, and find for which lanes that proves enough. Everything that the proof uses is a bound, not an estimate:
// |G_computed - G|_F <= gamma_(m + n + 2) |A D|_F^2, and |R^-1|_F >= 1 / sigma_min(R).
static void factorise(Core& q) {
  const int64_t n = q.n;
  VecD frobenius = {}, scaled = {};
  MaskD ok = ~MaskD{};
  for (int64_t j = 0; j < n; ++j) {
    const VecD diagonal = q.g[j * n + j];
    const MaskD exponent = (reinterpret_cast<MaskD>(diagonal) >> 52) & 0xfff;  // a sign bit makes it large
    // The square of a norm within largest_norm (range.h); zero, infinity and NaN are outside.
    ok &= (exponent > 1023 - 400) & (exponent < 1023 + 400);
    const MaskD half = (exponent - 1023) >> 1;
    const MaskD safe = (1023 - half) & reinterpret_cast<MaskD>(ok);
    q.d[j] = reinterpret_cast<VecD>((safe << 52) | (~ok & reinterpret_cast<MaskD>(splat<double, lanes>(1))));
    frobenius += diagonal;
  }
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = i; j < n; ++j) q.g[i * n + j] *= q.d[i] * q.d[j];
  for (int64_t j = 0; j < n; ++j) scaled += q.g[j * n + j];

  // R, column by column within rows: a dot product down the columns i and j of R, two columns at a time.
  VecD* r = q.g;
  const VecD one = splat<double, lanes>(1);
  for (int64_t i = 0; i < n; ++i) {
    VecD pivot = r[i * n + i];
    for (int64_t p = 0; p < i; ++p) pivot -= r[p * n + i] * r[p * n + i];
    const MaskD positive = pivot > splat<double, lanes>(0x1p-46);
    ok &= positive;
    pivot = select(positive, pivot, one);
    const VecD root = square_root(pivot), inverse = one / root;
    r[i * n + i] = root;
    q.v[i * n + i] = inverse;
    int64_t j = i + 1;
    for (; j + 4 <= n; j += 4) {
      VecD s0 = r[i * n + j], s1 = r[i * n + j + 1], s2 = r[i * n + j + 2], s3 = r[i * n + j + 3];
      for (int64_t p = 0; p < i; ++p) {
        const VecD left = r[p * n + i];
        const VecD* right = r + p * n + j;
        s0 -= left * right[0];
        s1 -= left * right[1];
        s2 -= left * right[2];
        s3 -= left * right[3];
      }
      r[i * n + j] = s0 * inverse;
      r[i * n + j + 1] = s1 * inverse;
      r[i * n + j + 2] = s2 * inverse;
      r[i * n + j + 3] = s3 * inverse;
    }
    for (; j < n; ++j) {
      VecD s = r[i * n + j];
      for (int64_t p = 0; p < i; ++p) s -= r[p * n + i] * r[p * n + j];
      r[i * n + j] = s * inverse;
    }
  }

  // V = R^-1, row by row from the last: V_ij = -V_ii sum over i < p <= j of R_ip V_pj.
  VecD inverse_scaled = {}, inverse_frobenius = {};
  for (int64_t i = n - 1; i >= 0; --i) {
    const VecD* ri = r + i * n;
    const VecD own = q.v[i * n + i];
    VecD row = own * own;
    int64_t j = i + 1;
    for (; j + 4 <= n; j += 4) {
      VecD s0 = {}, s1 = {}, s2 = {}, s3 = {};
      for (int64_t p = i + 1; p <= j; ++p) {
        const VecD* right = q.v + p * n + j;
        s0 += ri[p] * right[0];
        s1 += ri[p] * right[1];
        s2 += ri[p] * right[2];
        s3 += ri[p] * right[3];
      }
      const VecD *v1 = q.v + (j + 1) * n + j, *v2 = v1 + n, *v3 = v2 + n;
      s1 += ri[j + 1] * v1[1];
      s2 += ri[j + 1] * v1[2] + ri[j + 2] * v2[2];
      s3 += ri[j + 1] * v1[3] + ri[j + 2] * v2[3] + ri[j + 3] * v3[3];
      VecD* out = q.v + i * n + j;
      out[0] = s0 *= -own;
      out[1] = s1 *= -own;
      out[2] = s2 *= -own;
      out[3] = s3 *= -own;
      row += (s0 * s0 + s1 * s1) + (s2 * s2 + s3 * s3);
    }
    for (; j < n; ++j) {
      VecD s = {};
      for (int64_t p = i + 1; p <= j; ++p) s += ri[p] * q.v[p * n + j];
      q.v[i * n + j] = s *= -own;
      row += s * s;
    }
    inverse_scaled += row;
    inverse_frobenius += row * (q.d[i] * q.d[i]);
  }

  const VecD condition2 = scaled * inverse_scaled;
  q.condition = square_root(condition2);
  q.contraction = condition2 * (static_cast<double>(q.m + q.n + 2) * 0x1p-53);
  ok &= q.contraction < splat<double, lanes>(0.1);
  // sigma_min >= 1 / |V D|_F and sigma_max <= |A|_F. The factor of 2 pays for the rounding errors of both. A bound
  // below what any matrix has, or infinite, proves nothing.
  const VecD cutoff = splat<double, lanes>(2 * q.rcond), bound = frobenius * inverse_frobenius;
  ok &= (bound >= splat<double, lanes>(0.25)) & (bound <= splat<double, lanes>(0x1p1000));
  ok &= (condition2 >= splat<double, lanes>(0.25)) & ((cutoff * cutoff) * bound < one);
  q.ok = ok;
}

// w (n by k, in c) = D (R'R)^-1 D w.
static void apply_inverse(Core& q) {
  const int64_t n = q.n, k = q.k;
  for (int64_t c = 0; c < k; ++c) {
    VecD* w = q.c + c;
    for (int64_t i = 0; i < n; ++i) {
      VecD s = w[i * k] * q.d[i], t = {};
      int64_t p = 0;
      for (; p + 2 <= i; p += 2) {
        s -= q.g[p * n + i] * w[p * k];
        t -= q.g[(p + 1) * n + i] * w[(p + 1) * k];
      }
      if (p < i) s -= q.g[p * n + i] * w[p * k];
      w[i * k] = (s + t) * q.v[i * n + i];
    }
    for (int64_t i = n - 1; i >= 0; --i) {
      VecD s = w[i * k], t = {};
      int64_t p = i + 1;
      for (; p + 2 <= n; p += 2) {
        s -= q.g[i * n + p] * w[p * k];
        t -= q.g[i * n + p + 1] * w[(p + 1) * k];
      }
      if (p < n) s -= q.g[i * n + p] * w[p * k];
      w[i * k] = (s + t) * q.v[i * n + i];
    }
    for (int64_t i = 0; i < n; ++i) w[i * k] *= q.d[i];
  }
}

// Add the step in c to x. True for the lanes where, after this step, x is as accurate as it will get: what remains is
// at most contraction * |step|. Not ok is a lane with a right-hand side of a size that the certificate is not proved
// for (range.h): x and the residual are both small only where b is. `is_zero(lane, c)` looks at a right-hand side
// itself.
template <class T, class IsZero>
static MaskD add_step(Core& q, const IsZero& is_zero) {
  const VecD tolerance = negligible_in_batch<T> + q.condition * rounding_floor(q.n);
  MaskD done = ~MaskD{};
  for (int64_t c = 0; c < q.k; ++c) {
    VecD step = {}, norm = {};
    for (int64_t i = 0; i < q.n; ++i) {
      const VecD dx = q.c[i * q.k + c], inverse = 1 / q.d[i];
      const VecD x = q.x[i * q.k + c] += dx;
      step += (dx * inverse) * (dx * inverse);
      norm += (x * inverse) * (x * inverse);
    }
    const VecD size = square_root(norm) + q.norms[c];
    done &= q.contraction * square_root(step) <= tolerance * size;
    if (sizeof(T) == 4) continue;
    MaskD fits =
        (size >= splat<double, lanes>(1 / largest_right_side)) & (size <= splat<double, lanes>(largest_right_side));
    for (int64_t l = 0; any(~fits & q.ok) && l < lanes; ++l)
      if (size[l] == 0 && is_zero(l, c)) fits[l] = -1;
    q.ok &= fits;
  }
  return done;
}

// Whether the first solution is accurate enough as it is: only single precision can say so.
template <class T>
static MaskD accurate_at_once(const Core& q) {
  return sizeof(T) == 4 ? MaskD(q.contraction < splat<double, lanes>(negligible<T>)) : MaskD{};
}

template <class T, class Residual>
static void finish(Core& q, const BatchTask<T>& t, int64_t element, int64_t live, const Residual& residual) {
  for (int64_t i = 0; i < q.n * q.k; ++i) q.x[i] = VecD{};
  // Infinity or NaN in b shows in A'b; what b does there must not reach the neighbours' iteration either.
  MaskD finite = ~MaskD{};
  for (int64_t i = 0; i < q.n * q.k; ++i) finite &= (q.c[i] - q.c[i]) == VecD{};
  factorise(q);
  q.ok &= finite;
  for (int64_t l = live; l < lanes; ++l) q.ok[l] = 0;
  apply_inverse(q);
  for (int64_t i = 0; i < q.n * q.k; ++i) q.x[i] = q.c[i];
  const auto is_zero = [&](int64_t l, int64_t c) {
    const T* b = t.b + (element + min(l, live - 1)) * t.b_stride + c;
    for (int64_t i = 0; i < t.m; ++i)
      if (b[i * t.ldb] != 0) return false;
    return true;
  };
  MaskD done = accurate_at_once<T>(q) | ~q.ok;
  for (int step = 0; any(~done) && step < most_steps; ++step) {
    residual(true);  // c = A'(b - A x), norms = |b - A x|
    apply_inverse(q);
    done |= add_step<T>(q, is_zero) | ~q.ok;
  }
  q.ok &= done;
  if (t.residuals) residual(false);
  for (int64_t l = 0; l < live; ++l) {
    T* x = t.x + (element + l) * q.n * q.k;
    for (int64_t i = 0; i < q.n * q.k; ++i) x[i] = static_cast<T>(q.x[i][l]);
    if (t.precise)
      for (int64_t i = 0; i < q.n * q.k; ++i) t.precise[(element + l) * q.n * q.k + i] = q.x[i][l];
    // A solution that overflows T, or a right-hand side whose square overflows, is for the general path.
    bool good = q.ok[l] != 0;
    for (int64_t i = 0; i < q.n * q.k; ++i) good &= (x[i] - x[i]) == 0;
    if (t.residuals)
      for (int64_t c = 0; c < q.k; ++c) {
        const double r = q.norms[c][l];
        t.residuals[(element + l) * q.k + c] = static_cast<T>(r * r);
      }
    t.ok[element + l] = good;
  }
}

// The vectors of Core at the start of the work space; the rest of it is returned.
static VecD* lay_out(Core& q, void* workspace) {
  VecD* at = static_cast<VecD*>(workspace);
  q.g = at;
  at += q.n * q.n;
  q.v = at;
  at += q.n * q.n;
  q.c = at;
  at += q.n * q.k;
  q.x = at;
  at += q.n * q.k;
  q.d = at;
  at += q.n;
  q.norms = at;
  at += q.k;
  q.values = at;
  return at + GramValues<double>::room(q.n);
}

// Up to 8 columns: row i of the lanes' [A b] lies at ab[i * (N + k)].

template <int NB, int NV>
static inline void cross_tile(
    int64_t m, const VecD* left, const VecD* right, int64_t ld, VecD* out, int64_t row_step, int64_t column_step) {
  VecD acc[NB][NV] = {};
  for (int64_t i = 0; i < m; ++i, left += ld, right += ld) {
#pragma GCC unroll 4
    for (int r = 0; r < NB; ++r)
#pragma GCC unroll 4
      for (int c = 0; c < NV; ++c) acc[r][c] += left[r] * right[c];
  }
  for (int r = 0; r < NB; ++r)
    for (int c = 0; c < NV; ++c) out[r * row_step + c * column_step] = acc[r][c];
}

template <int NB>
static inline void cross_tiles(int64_t m,
                               const VecD* left,
                               const VecD* right,
                               int64_t ld,
                               int64_t columns,
                               VecD* out,
                               int64_t row_step,
                               int64_t column_step) {
  int64_t c = 0;
  for (; c + 4 <= columns; c += 4)
    cross_tile<NB, 4>(m, left, right + c, ld, out + c * column_step, row_step, column_step);
  if (c + 2 <= columns) {
    cross_tile<NB, 2>(m, left, right + c, ld, out + c * column_step, row_step, column_step);
    c += 2;
  }
  if (c < columns) cross_tile<NB, 1>(m, left, right + c, ld, out + c * column_step, row_step, column_step);
}

template <class T, int N>
static void batch_narrow(const BatchTask<T>& t) {
  const int64_t k = t.k, m = t.m, ld = N + k;
  Core q;
  q.m = m, q.n = N, q.k = k, q.rcond = t.rcond;
  VecD* ab = lay_out(q, t.workspace);
  GramValues<T> values(t, q.v, q.d, q.values);
  for (int64_t element = t.from; element < t.to; element += lanes) {
    const int64_t live = min(lanes, t.to - element);
    LaneMatrices<T> a{{}, t.lda, 1}, b{{}, t.ldb, 1};
    for (int64_t l = 0; l < lanes; ++l) {
      a.first[l] = t.a + (element + min(l, live - 1)) * t.a_stride;
      b.first[l] = t.b + (element + min(l, live - 1)) * t.b_stride;
    }
    take_matrix(a, m, N, ab, ld);
    take_matrix(b, m, k, ab + N, ld);
    int64_t i = 0;
    for (; i + 2 <= N; i += 2) {
      cross_tiles<2>(m, ab + i, ab + i, ld, N - i, q.g + i * N + i, N, 1);
      cross_tiles<2>(m, ab + i, ab + N, ld, k, q.c + i * k, k, 1);
    }
    if (i < N) {
      cross_tiles<1>(m, ab + i, ab + i, ld, N - i, q.g + i * N + i, N, 1);
      cross_tiles<1>(m, ab + i, ab + N, ld, k, q.c + i * k, k, 1);
    }
    if (t.values) values.take(q.g, element, live);
    finish<T>(q, t, element, live, [&](bool gradient) {
      for (int64_t c = 0; c < k; ++c) {
        VecD x[N], g[N] = {}, total = {};
        for (int j = 0; j < N; ++j) x[j] = q.x[j * k + c];
        for (int64_t row = 0; row < m; ++row) {
          const VecD* at = ab + row * ld;
          VecD r = at[N + c];
#pragma GCC unroll 8
          for (int j = 0; j < N; ++j) r -= at[j] * x[j];
          total += r * r;
          if (gradient) {
#pragma GCC unroll 8
            for (int j = 0; j < N; ++j) g[j] += at[j] * r;
          }
        }
        q.norms[c] = square_root(total);
        if (gradient)
          for (int j = 0; j < N; ++j) q.c[j * k + c] = g[j];
      }
    });
  }
  values.find();
}

// More columns: the rows of each lane's problem in double precision, [A b] with both parts padded to whole vectors.
template <class T>
static void batch_wide(const BatchTask<T>& t) {
  const int64_t n = t.n, k = t.k, m = t.m;
  const int64_t panels = (n + lanes - 1) / lanes, right_panels = (k + lanes - 1) / lanes;
  const int64_t width = panels * lanes, right = right_panels * lanes, ld = width + right;
  Core q;
  q.m = m, q.n = n, q.k = k, q.rcond = t.rcond;
  double* problems = reinterpret_cast<double*>(lay_out(q, t.workspace));
  GramValues<T> values(t, q.v, q.d, q.values);
  double* gram = problems + lanes * m * ld;  // width by width
  double* cross = gram + width * width;      // k by width
  double* x = cross + k * width;             // n by right; for one right-hand side a row of `width`
  double* product = x + n * right + width;   // a block of residuals, `block` by right
  const int64_t block = min(m, max(16, batch_block / ld / 4 * 4));  // rows that stay in the first-level cache
  for (int64_t element = t.from; element < t.to; element += lanes) {
    const int64_t live = min(lanes, t.to - element);
    for (int64_t l = 0; l < lanes; ++l) {
      double* rows = problems + l * m * ld;
      if (l < live) {
        const T* a = t.a + (element + l) * t.a_stride;
        const T* b = t.b + (element + l) * t.b_stride;
        for (int64_t i = 0; i < width * width + k * width; ++i) gram[i] = 0;
        for (int64_t at = 0; at < m; at += block) {
          const int64_t depth = min(block, m - at);
          double* here = rows + at * ld;
          widen(a + at * t.lda, t.lda, depth, n, here, ld);
          for (int64_t i = 0; i < depth; ++i)
            for (int64_t c = 0; c < k; ++c) here[i * ld + width + c] = static_cast<double>(b[(at + i) * t.ldb + c]);
          for (int64_t p = 0; p < panels; ++p)
            micro_block<double>(depth,
                                here + p * lanes,
                                1,
                                ld,
                                lanes,
                                here + p * lanes,
                                lanes,
                                ld,
                                panels - p,
                                gram + p * lanes * width + p * lanes,
                                width);
          micro_block<double>(depth, here + width, 1, ld, k, here, lanes, ld, panels, cross, width);
        }
      }
      for (int64_t i = 0; i < n; ++i)
        for (int64_t j = i; j < n; ++j) q.g[i * n + j][l] = gram[i * width + j];
      for (int64_t c = 0; c < k; ++c)
        for (int64_t j = 0; j < n; ++j) q.c[j * k + c][l] = cross[c * width + j];
    }
    if (t.values) values.take(q.g, element, live);
    finish<T>(q, t, element, live, [&](bool gradient) {
      for (int64_t l = 0; l < live; ++l) {
        const double* rows = problems + l * m * ld;
        if (k == 1)
          for (int64_t j = 0; j < width; ++j) x[j] = j < n ? q.x[j][l] : 0;
        else
          for (int64_t j = 0; j < n; ++j)
            for (int64_t c = 0; c < right; ++c) x[j * right + c] = c < k ? q.x[j * k + c][l] : 0;
        for (int64_t i = 0; i < k * width; ++i) cross[i] = 0;
        for (int64_t c = 0; c < k; ++c) q.norms[c][l] = 0;
        for (int64_t at = 0; at < m; at += block) {
          const int64_t depth = min(block, m - at);
          const double* here = rows + at * ld;
          if (k == 1) {
            for (int64_t i = 0; i < depth; ++i) {
              VecD s = {};
              const double* row = here + i * ld;
              for (int64_t p = 0; p < width; p += lanes) s += load<lanes>(row + p) * load<lanes>(x + p);
              product[i * right] = sum(s);
            }
          } else {
            for (int64_t i = 0; i < depth * right; ++i) product[i] = 0;
            micro_block<double>(n, here, ld, 1, depth, x, lanes, right, right_panels, product, right);
          }
          for (int64_t i = 0; i < depth; ++i)
            for (int64_t c = 0; c < k; ++c) {
              const double r = here[i * ld + width + c] - product[i * right + c];
              product[i * right + c] = r;
              q.norms[c][l] += r * r;
            }
          if (gradient) micro_block<double>(depth, product, 1, right, k, here, lanes, ld, panels, cross, width);
        }
        for (int64_t c = 0; c < k; ++c) q.norms[c][l] = __builtin_sqrt(q.norms[c][l]);
        if (gradient)
          for (int64_t c = 0; c < k; ++c)
            for (int64_t j = 0; j < n; ++j) q.c[j * k + c][l] = cross[c * width + j];
      }
    });
  }
  values.find();
}

static int64_t batch_workspace(int64_t m, int64_t n, int64_t k) {
  const int64_t core = (2 * n * n + 2 * n * k + n + k + GramValues<double>::room(n)) * lanes;
  const int64_t width = (n + lanes - 1) / lanes * lanes, right = (k + lanes - 1) / lanes * lanes;
  const int64_t problems = lanes * m * (width + right);
  const int64_t rest = width * width + (k + 1) * width + n * right + max(16, m) * right;
  return (core + problems + rest) * static_cast<int64_t>(sizeof(double));
}

template <class T>
static void batch(const BatchTask<T>& t) {
  switch (t.n) {
    case 1:
      return batch_narrow<T, 1>(t);
    case 2:
      return batch_narrow<T, 2>(t);
    case 3:
      return batch_narrow<T, 3>(t);
    case 4:
      return batch_narrow<T, 4>(t);
    case 5:
      return batch_narrow<T, 5>(t);
    case 6:
      return batch_narrow<T, 6>(t);
    case 7:
      return batch_narrow<T, 7>(t);
    case 8:
      return batch_narrow<T, 8>(t);
    default:
      return batch_wide<T>(t);
  }
}

}  // namespace
}  // namespace lstsq::kernels::LSTSQ_ISA
