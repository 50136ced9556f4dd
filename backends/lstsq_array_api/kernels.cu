// Least squares by Gram matrix, Cholesky and refinement, with the proof of `_certified.py`, in a few launches.
//
// A problem of a batch is solved by one block of threads from beginning to end (solve_batch). A long matrix is read by
// all blocks, each with a share of the rows (gram, residual); between these passes one block does what is N x N (core,
// refine). All sums are in double precision and in a fixed order, so that an answer does not depend on its neighbours.
//
// Numbers are `Real`, which the compiler is told: float or double. Loops are strided by the number of threads, a power
// of two from sixteen on, and threads meet at barriers alone: nothing here needs a warp, so that a CPU can run it for
// the tests.

#if defined(LSTSQ_ON_CPU)
#include LSTSQ_ON_CPU
#else
#define SHARED(name) extern __shared__ double name[]
#endif

typedef LSTSQ_REAL Real;

// What is compiled: the kernel by which a thread solves for so many columns; 0: the kernels of blocks that each have a
// problem; -1: those for one long matrix; without it everything. Each takes the compiler one second or two.
#if defined(LSTSQ_PART)
#define PART(n) (LSTSQ_PART == n)
#else
#define PART(n) 1
#endif

namespace {

// What is proven of a matrix; the words are those of `_certified.Bounds`.
struct Bounds {
  double rho, norm, inverse, condition, shortest, longest;
};

constexpr double unit = 1.1102230246251565e-16;          // 2^-53
constexpr double single_precision = 3.7252902984619e-9;  // 2^-28
constexpr bool single = sizeof(Real) == 4;
constexpr int max_steps = 6;
constexpr int unknown = -1;                  // A rank.
constexpr double is_done = 1, is_stuck = 2;  // Of a right-hand side after a step.

__device__ double largest(double a, double b) {
  return a > b || a != a ? a : b;
}  // NaN stays.

// Numbers that each thread has, put together from all threads whose place modulo `lanes` is the same, for all of them:
// the first `sums` of the numbers by their sum, the others by the largest. Numbers that are put together at once wait
// at the same barriers. `lanes` is a power of two; `scratch` holds `count` numbers for each thread.
template <int count>
__device__ void put_together(double (&mine)[count], int sums, double* scratch, int lanes = 1) {
  int t = threadIdx.x, all = blockDim.x;
  for (int u = 0; u < count; ++u) scratch[u * all + t] = mine[u];
  for (int half = all / 2; half >= lanes; half /= 2) {
    __syncthreads();
    if (t < half)
      for (int u = 0; u < count; ++u) {
        double &to = scratch[u * all + t], other = scratch[u * all + t + half];
        to = u < sums ? to + other : largest(to, other);
      }
  }
  __syncthreads();
  for (int u = 0; u < count; ++u) mine[u] = scratch[u * all + (t & (lanes - 1))];
  __syncthreads();
}

__device__ double sum(double mine, double* scratch) {
  double numbers[1] = {mine};
  put_together(numbers, 1, scratch);
  return numbers[0];
}

__device__ double maximum(double mine, double* scratch) {
  double numbers[1] = {mine};
  put_together(numbers, 0, scratch);
  return numbers[0];
}

// e / n, if both are small enough, as where n^2 and e are at most 2^16: a division of integers takes as long as thirty
// products.
__device__ int quotient(int e, float one_over_n) {
  return int((e + 0.5f) * one_over_n);
}

// The place (i, j), j <= i, of an entry of a lower triangle that is stored row by row.
__device__ void place(int entry, int& i, int& j) {
  i = int((sqrt(8.0f * entry + 1.0f) - 1.0f) / 2.0f);
  while (i * (i + 1) / 2 > entry) --i;
  while ((i + 1) * (i + 2) / 2 <= entry) ++i;
  j = entry - i * (i + 1) / 2;
}

// The bounds, from ||I - P G||^2, trace(P), the bound of ||A^+||^2, ||A^T A||^2, the largest entry of P's diagonal and
// the squares of the norms of columns, for n columns and so many additions behind an entry of the Gram matrix.
__device__ Bounds conclude(int n,
                           double additions,
                           double defect,
                           double trace,
                           double inverse,
                           double frobenius,
                           double most,
                           double shortest,
                           double longest) {
  double rho = sqrt(defect) + trace * (n * (additions + 3.0 * n + 10) * unit);
  return {rho, sqrt(sqrt(frobenius)), sqrt(inverse / (1 - rho)), sqrt(most), sqrt(shortest), sqrt(longest)};
}

// From the Gram matrix g (n x n), which is scaled here: p, about its inverse, and the bounds. `additions` are behind
// each entry of g. l and t are n x n, d is n; p may be l. `scratch` holds four numbers for each thread.
__device__ Bounds
prove(double* g, double* l, double* t, double* p, double* d, double* scratch, int n, double additions) {
  int me = threadIdx.x, all = blockDim.x;
  double of_gram[3] = {0, -1e300, 0}, &frobenius = of_gram[0], &shortest = of_gram[1], &longest = of_gram[2];
  for (int i = me; i < n; i += all) {
    double square = g[i * n + i];
    d[i] = 1 / sqrt(square);
    shortest = largest(shortest, -square);
    longest = largest(longest, square);
  }
  for (int e = me; e < n * n; e += all) frobenius += g[e] * g[e];
  put_together(of_gram, 1, scratch);
  float one_over_n = 1.0f / n;
  for (int e = me; e < n * n; e += all) {
    int i = quotient(e, one_over_n), j = e - i * n;
    l[e] = g[e] = g[e] * d[i] * d[j];
    t[e] = i == j;
  }
  __syncthreads();
  // L D L^T, and the inverse of L with it: column j, and row j of the inverse, are taken out of what is below. D is
  // what is left of the diagonal.
  for (int j = 0; j < n; ++j) {
    double over_pivot = 1 / l[j * n + j];
    for (int e = me; e < (n - j - 1) * n; e += all) {
      int below = quotient(e, one_over_n), i = j + 1 + below, c = e - below * n;
      // All of l is kept up to date, so that a row serves as the column: its numbers are in different banks.
      double factor = l[i * n + j] * over_pivot, above = c <= j ? t[j * n + c] : l[j * n + c];
      (c <= j ? t : l)[i * n + c] -= factor * above;
    }
    __syncthreads();
  }
  for (int e = me; e < n * n; e += all) {
    int i = quotient(e, one_over_n);
    t[e] /= sqrt(l[i * n + i]);
  }
  __syncthreads();
  for (int e = me; e < n * (n + 1) / 2; e += all) {
    int i, j;
    place(e, i, j);
    double dot = 0;
    for (int k = i; k < n; ++k) dot += t[k * n + i] * t[k * n + j];
    p[i * n + j] = p[j * n + i] = dot;
  }
  __syncthreads();
  double of_p[4] = {0}, &defect = of_p[0], &trace = of_p[1], &inverse = of_p[2], &most = of_p[3];
  for (int e = me; e < n * n; e += all) {
    int i = quotient(e, one_over_n), j = e - i * n;
    double left = i == j;
    for (int k = 0; k < n; ++k) left -= p[i * n + k] * g[k * n + j];
    defect += left * left;
  }
  for (int i = me; i < n; i += all) {
    trace += p[i * n + i];
    inverse += p[i * n + i] * d[i] * d[i];
    most = largest(most, p[i * n + i]);
  }
  put_together(of_p, 3, scratch);
  for (int e = me; e < n * n; e += all) {
    int i = quotient(e, one_over_n);
    p[e] *= d[i] * d[e - i * n];
  }
  __syncthreads();
  return conclude(n, additions, defect, trace, inverse, frobenius, most, -shortest, longest);
}

__device__ bool certain(const Bounds& bounds, double rcond) {
  bool yes = bounds.rho < 0.1 && 2 * rcond * bounds.norm * bounds.inverse < 1;
  return yes && (single || (bounds.shortest >= 0x1p-200 && bounds.longest <= 0x1p200));
}

// Whether a right-hand side is solved whose last step had this size.
__device__ bool solved(const Bounds& bounds, double step, double size, double residual, double size_b, int m, int n) {
  if (!single && !(size_b == 0 || (size_b >= 0x1p-150 && size_b <= 0x1p150))) return false;
  double left = bounds.rho * step / (1 - bounds.rho);
  if (single) return left <= single_precision * (m > n ? size + residual : size);
  double root = sqrt(double(n)), own = 8 * unit * root * size;
  if (!(left <= unit * (1 + bounds.condition / (8 * root)) * (m > n ? size + residual : size))) return false;
  // And the residual is right: what the error adds to it is nothing beside it or beside its own rounding errors, or it
  // is no more than these.
  return root * left <= 0x1p-27 * residual || root * left <= own || residual <= own;
}

}  // namespace

#if PART(0)

// Problem blockIdx.x of a batch: a (m x n), b (m x k) in rows, m >= n. Writes x (n x k), the sums of squares of the
// residuals (k), and the rank if it is proven; what is not is counted in *failures. Shared memory: see `_fused.py`.
extern "C" __global__ void __launch_bounds__(256, 1) solve_batch(const Real* a_in,
                                                                 const Real* b_in,
                                                                 Real* x_out,
                                                                 Real* squares_out,
                                                                 int* rank,
                                                                 int* failures,
                                                                 int m,
                                                                 int n,
                                                                 int k,
                                                                 double rcond,
                                                                 int a_is_shared) {
  SHARED(shared);
  int me = threadIdx.x, all = blockDim.x;
  long long problem = blockIdx.x;
  double *g = shared, *l = g + n * n, *t = l + n * n, *d = t + n * n;
  double *x = d + n, *step = x + n * k, *c = step + n * k, *r = c + n * k;
  double* scratch = r + m * k;
  const Real* a = a_in + problem * m * n;
  int stride = n;
  if (a_is_shared) {
    Real* copy = reinterpret_cast<Real*>(scratch + 4 * all);
    int wide = n | 1;  // An odd stride keeps the rows in different banks.
    float one_over_n = 1.0f / n;
    for (int e = me; e < m * n; e += all) {
      int row = quotient(e, one_over_n);
      copy[row * wide + e - row * n] = a[e];
    }
    a = copy;
    stride = wide;
  }
  const Real* b = b_in + problem * m * k;
  for (int e = me; e < m * k; e += all) r[e] = b[e];
  __syncthreads();
  // Four entries at once, from two columns and two: the last of an odd number is its own neighbour.
  int pairs = (n + 1) / 2;
  for (int e = me; e < pairs * (pairs + 1) / 2; e += all) {
    int i, j;
    place(e, i, j);
    int i_0 = 2 * i, j_0 = 2 * j, i_1 = i_0 + 1 < n ? i_0 + 1 : i_0, j_1 = j_0 + 1 < n ? j_0 + 1 : j_0;
    double sum_00 = 0, sum_01 = 0, sum_10 = 0, sum_11 = 0;
    for (int row = 0; row < m; ++row) {
      const Real* of_row = a + row * stride;
      double u_0 = of_row[i_0], u_1 = of_row[i_1], v_0 = of_row[j_0], v_1 = of_row[j_1];
      sum_00 += u_0 * v_0, sum_01 += u_0 * v_1, sum_10 += u_1 * v_0, sum_11 += u_1 * v_1;
    }
    g[i_0 * n + j_0] = g[j_0 * n + i_0] = sum_00;
    g[i_0 * n + j_1] = g[j_1 * n + i_0] = sum_01;
    g[i_1 * n + j_0] = g[j_0 * n + i_1] = sum_10;
    g[i_1 * n + j_1] = g[j_1 * n + i_1] = sum_11;
  }
  for (int e = me; e < n * k; e += all) x[e] = 0;
  __syncthreads();
  Bounds bounds = prove(g, l, t, l, d, scratch, n, m);
  double* p = l;
  bool sure = certain(bounds, rcond), done = false, again = sure;
  // Norms are found for all right-hand sides at once: this one is mine, and these rows of it.
  int lanes = 1;
  while (lanes < k) lanes *= 2;
  int mine = me & (lanes - 1), part = me / lanes, parts = all / lanes;
  double before = 0, square = 0;  // Of my right-hand side: the last step, and the residual.
  // The first step, from x = 0, is the solution by normal equations; the others refine it.
  for (int taken = 0; again; ++taken) {
    for (int e = me; e < n * k; e += all) {
      int j = e / k, column = e % k;
      double dot = 0;
      for (int row = 0; row < m; ++row) dot += double(a[row * stride + j]) * r[row * k + column];
      c[e] = dot;
    }
    __syncthreads();
    for (int e = me; e < n * k; e += all) {
      int j = e / k, column = e % k;
      double dot = 0;
      for (int i = 0; i < n; ++i) dot += p[i * n + j] * c[i * k + column];  // P is symmetric.
      step[e] = dot;
      x[e] += dot;
    }
    __syncthreads();
    for (int e = me; e < m * k; e += all) {
      int row = e / k, column = e % k;
      double left = b[e];
      for (int j = 0; j < n; ++j) left -= double(a[row * stride + j]) * x[j * k + column];
      r[e] = left;
    }
    __syncthreads();
    if (taken == 0) continue;
    double norms[4] = {0}, &of_step = norms[0], &of_x = norms[1], &of_r = norms[2], &size_b = norms[3];
    if (mine < k) {
      for (int j = part; j < n; j += parts) {
        double over_d = 1 / d[j], y = step[j * k + mine] * over_d, z = x[j * k + mine] * over_d;
        of_step += y * y;
        of_x += z * z;
      }
      for (int row = part; row < m; row += parts) {
        of_r += r[row * k + mine] * r[row * k + mine];
        if (!single) size_b = largest(size_b, fabs(double(b[row * k + mine])));
      }
    }
    put_together(norms, 3, scratch, lanes);
    if (me < k) {
      of_step = sqrt(of_step);
      bool yes = solved(bounds, of_step, sqrt(of_x), sqrt(of_r), size_b, m, n);
      scratch[me] = yes ? is_done : taken > 1 && !(of_step <= before / 2) ? is_stuck : 0;
      before = of_step;
      square = of_r;
    }
    __syncthreads();
    done = true;
    again = taken < max_steps;
    for (int column = 0; column < k; ++column) {
      done = done && scratch[column] == is_done;
      again = again && scratch[column] != is_stuck;
    }
    again = again && !done;
  }
  for (int e = me; e < n * k; e += all) x_out[problem * n * k + e] = Real(x[e]);
  if (me < k) squares_out[problem * k + me] = Real(square);
  if (me == 0) {
    rank[problem] = done ? n : unknown;
    if (!done) atomicAdd(failures, 1);
  }
}

#endif  // PART(0)

namespace {

// The same for a matrix of N columns by one thread, which has all that is N x N to itself: a block would wait for its
// barriers most of the time. The rows are read again in each pass.
template <int N>
__device__ void solve_alone(const Real* a,
                            const Real* b,
                            Real* x_out,
                            Real* squares_out,
                            int* rank,
                            int* failures,
                            int m,
                            int k,
                            double rcond) {
  double g[N][N], l[N][N], t[N][N], p[N][N], d[N];
  for (int i = 0; i < N; ++i)
    for (int j = 0; j < N; ++j) g[i][j] = 0;
  for (int row = 0; row < m; ++row) {
    double v[N];
#pragma unroll
    for (int i = 0; i < N; ++i) v[i] = a[row * N + i];
#pragma unroll
    for (int i = 0; i < N; ++i)
#pragma unroll
      for (int j = 0; j <= i; ++j) g[i][j] += v[i] * v[j];
  }
  double shortest = 1e300, longest = 0, frobenius = 0;
#pragma unroll
  for (int i = 0; i < N; ++i) {
    shortest = -largest(-shortest, -g[i][i]);
    longest = largest(longest, g[i][i]);
    d[i] = 1 / sqrt(g[i][i]);
#pragma unroll
    for (int j = 0; j <= i; ++j) {
      frobenius += (i == j ? 1 : 2) * g[i][j] * g[i][j];
      g[i][j] *= d[i] * d[j];
      g[j][i] = g[i][j];
    }
  }
#pragma unroll
  for (int j = 0; j < N; ++j) {
#pragma unroll
    for (int i = j; i < N; ++i) {
      double rest = g[i][j];
#pragma unroll
      for (int c = 0; c < j; ++c) rest -= l[i][c] * l[j][c];
      l[i][j] = i == j ? 1 / sqrt(rest) : rest * l[j][j];  // One over it, on the diagonal.
    }
  }
#pragma unroll
  for (int c = 0; c < N; ++c) {
    t[c][c] = l[c][c];
#pragma unroll
    for (int i = c + 1; i < N; ++i) {
      double dot = 0;
#pragma unroll
      for (int e = c; e < i; ++e) dot += l[i][e] * t[e][c];
      t[i][c] = -dot * l[i][i];
    }
  }
  double defect = 0, trace = 0, inverse = 0, most = 0;
#pragma unroll
  for (int i = 0; i < N; ++i) {
#pragma unroll
    for (int j = 0; j <= i; ++j) {
      double dot = 0;
#pragma unroll
      for (int e = i; e < N; ++e) dot += t[e][i] * t[e][j];
      p[i][j] = dot;
      p[j][i] = dot;
    }
    trace += p[i][i];
    inverse += p[i][i] * d[i] * d[i];
    most = largest(most, p[i][i]);
  }
#pragma unroll
  for (int i = 0; i < N; ++i)
#pragma unroll
    for (int j = 0; j < N; ++j) {
      double left = i == j;
#pragma unroll
      for (int e = 0; e < N; ++e) left -= p[i][e] * g[e][j];
      defect += left * left;
    }
  Bounds bounds = conclude(N, m, defect, trace, inverse, frobenius, most, shortest, longest);
  bool all_done = certain(bounds, rcond);
  for (int column = 0; column < k && all_done; ++column) {
    double x[N], last = 0, before = 0;
#pragma unroll
    for (int i = 0; i < N; ++i) x[i] = 0;
    bool done = false, again = true;
    for (int taken = 0; again; ++taken) {
      double c[N], square = 0, size_b = 0;
#pragma unroll
      for (int i = 0; i < N; ++i) c[i] = 0;
      for (int row = 0; row < m; ++row) {
        double v[N], right = b[row * k + column], r = right;
        if (!single) size_b = largest(size_b, fabs(right));
#pragma unroll
        for (int i = 0; i < N; ++i) v[i] = a[row * N + i];
#pragma unroll
        for (int i = 0; i < N; ++i) r -= v[i] * x[i];
#pragma unroll
        for (int i = 0; i < N; ++i) c[i] += v[i] * r;
        square += r * r;
      }
      if (taken > 1) {
        double of_x = 0;
#pragma unroll
        for (int i = 0; i < N; ++i) of_x += (x[i] / d[i]) * (x[i] / d[i]);
        done = solved(bounds, last, sqrt(of_x), sqrt(square), size_b, m, N);
        again = !done && taken <= max_steps && (taken == 2 || last <= before / 2);
        if (!again) squares_out[column] = Real(square);
      }
      if (again) {
        double of_step = 0;
        // P in the units of the caller; the columns of a, and so c, are not divided by their norms.
        double step[N];
#pragma unroll
        for (int i = 0; i < N; ++i) {
          double y = 0;
#pragma unroll
          for (int e = 0; e < N; ++e) y += p[i][e] * (d[e] * c[e]);
          of_step += y * y;
          step[i] = d[i] * y;
        }
#pragma unroll
        for (int i = 0; i < N; ++i) x[i] += step[i];
        before = last;
        last = sqrt(of_step);
      }
    }
    all_done = done;
#pragma unroll
    for (int i = 0; i < N; ++i) x_out[i * k + column] = Real(x[i]);
  }
  *rank = all_done ? N : unknown;
  if (!all_done) atomicAdd(failures, 1);
}

// Each thread solves a problem. What they read is copied to shared memory first, if it fits (`is_shared`), by threads
// that are neighbours and read what is side by side; alone each would read in a place far from the others'.
template <int N>
__device__ void solve_tiny(const Real* a,
                           const Real* b,
                           Real* x,
                           Real* squares,
                           int* rank,
                           int* failures,
                           int count,
                           int m,
                           int k,
                           double rcond,
                           int is_shared) {
  SHARED(shared);
  int me = threadIdx.x, all = blockDim.x, size_a = m * N, size_b = m * k;
  long long first = (long long)blockIdx.x * all, problem = first + me;
  int problems = count - first < all ? int(count - first) : all;
  a += first * size_a, b += first * size_b;
  if (is_shared) {
    int stride_a = size_a | 1, stride_b = size_b | 1;  // Odd, so that threads read from different banks.
    Real *copy_a = reinterpret_cast<Real*>(shared), *copy_b = copy_a + problems * stride_a;
    for (int e = me; e < problems * size_a; e += all) copy_a[e / size_a * stride_a + e % size_a] = a[e];
    for (int e = me; e < problems * size_b; e += all) copy_b[e / size_b * stride_b + e % size_b] = b[e];
    __syncthreads();
    a = copy_a, b = copy_b, size_a = stride_a, size_b = stride_b;
  }
  if (problem >= count) return;
  x += problem * N * k, squares += problem * k, rank += problem;
  solve_alone<N>(a + me * size_a, b + me * size_b, x, squares, rank, failures, m, k, rcond);
}

}  // namespace

#define SOLVE_TINY(n)                                                               \
  extern "C" __global__ void solve_tiny_##n(const Real* a,                          \
                                            const Real* b,                          \
                                            Real* x,                                \
                                            Real* squares,                          \
                                            int* rank,                              \
                                            int* failures,                          \
                                            int count,                              \
                                            int m,                                  \
                                            int k,                                  \
                                            double rcond,                           \
                                            int is_shared) {                        \
    solve_tiny<n>(a, b, x, squares, rank, failures, count, m, k, rcond, is_shared); \
  }

#if PART(1)
SOLVE_TINY(1)
#endif
#if PART(2)
SOLVE_TINY(2)
#endif
#if PART(3)
SOLVE_TINY(3)
#endif
#if PART(4)
SOLVE_TINY(4)
#endif
#if PART(5)
SOLVE_TINY(5)
#endif
#if PART(6)
SOLVE_TINY(6)
#endif
#if PART(7)
SOLVE_TINY(7)
#endif
#if PART(8)
SOLVE_TINY(8)
#endif

#if PART(0)

// The singular values of matrix blockIdx.x of a batch, a (m x n) in rows with m >= n, descending: rotations of pairs of
// columns until all are orthogonal (Hestenes 1958; Golub and Van Loan 2013, section 8.6.3). n / 2 pairs are rotated at
// once, by the same number of threads each. NaN where sweeps do not end.
extern "C" __global__ void __launch_bounds__(256, 1)
    singular_values_batch(const Real* a_in, Real* s_out, int m, int n) {
  SHARED(shared);
  int me = threadIdx.x, all = blockDim.x;
  long long problem = blockIdx.x;
  int even = n + n % 2, pairs = even / 2, stride = n | 1;
  double *scratch = shared, *s = scratch + 3 * all, *a = s + n;
  float one_over_n = 1.0f / n;
  for (int e = me; e < m * n; e += all) {
    int row = quotient(e, one_over_n);
    a[row * stride + e - row * n] = a_in[problem * m * n + e];
  }
  __syncthreads();
  int team = all / pairs < 1 ? 1 : all / pairs;  // Threads of a pair.
  double small = single ? 1e-9 : 4 * unit;
  bool turned = n > 1;
  int sweep = 0;
  for (; turned && sweep < 40; ++sweep) {
    double most = 0;
    for (int round = 0; round < even - 1; ++round) {
      // With fewer threads than pairs a thread has several pairs, one after the other.
      for (int first = 0; first < pairs; first += all / team) {
        int pair = first + me / team, part = me % team;
        bool works = me / team < all / team && pair < pairs;
        // Each meets each in a tournament: the last stays in its place, the others go round.
        int i = pair == 0 ? even - 1 : (round + pair) % (even - 1), j = (round + even - 1 - pair) % (even - 1);
        works = works && i < n && j < n;
        double ii = 0, jj = 0, ij = 0;
        if (works)
          for (int row = part; row < m; row += team) {
            double x = a[row * stride + i], y = a[row * stride + j];
            ii += x * x;
            jj += y * y;
            ij += x * y;
          }
        scratch[3 * me] = ii, scratch[3 * me + 1] = jj, scratch[3 * me + 2] = ij;
        __syncthreads();
        if (works) {
          ii = jj = ij = 0;
          for (int other = me - part; other < me - part + team; ++other)
            ii += scratch[3 * other], jj += scratch[3 * other + 1], ij += scratch[3 * other + 2];
          double cosine = fabs(ij) / sqrt(ii * jj);
          if (cosine > small) {
            most = largest(most, cosine);
            double zeta = (jj - ii) / (2 * ij);
            double tangent = (zeta >= 0 ? 1.0 : -1.0) / (fabs(zeta) + sqrt(1 + zeta * zeta));
            double co = 1 / sqrt(1 + tangent * tangent), si = co * tangent, tau = si / (1 + co);
            for (int row = part; row < m; row += team) {
              double x = a[row * stride + i], y = a[row * stride + j];
              a[row * stride + i] = x - si * (y + tau * x);
              a[row * stride + j] = y + si * (x - tau * y);
            }
          }
        }
        __syncthreads();
      }
    }
    turned = maximum(most, scratch) > 0;
  }
  for (int j = me; j < n; j += all) {
    double square = 0;
    for (int row = 0; row < m; ++row) square += a[row * stride + j] * a[row * stride + j];
    s[j] = turned && n > 1 ? nan("") : sqrt(square);
  }
  __syncthreads();
  for (int j = me; j < n; j += all) {
    int before = 0;
    for (int i = 0; i < n; ++i) before += s[i] > s[j] || (s[i] == s[j] && i < j);
    s_out[problem * n + before] = Real(s[j]);
  }
}

#endif  // PART(0)

#if PART(-1)

// The other kernels solve for one long matrix. W = [a b] has w = n + k columns.

namespace {

// What the kernels leave for each other, in double precision, and where: the bounds, the status and the steps taken;
// one over the norms of the columns; P; x; the sizes of the last step and of that before it; W^T W; and the pieces of
// sums.
struct Work {
  double *bounds, *status, *taken, *d, *p, *x, *last, *before, *gram, *pieces;
  __device__ Work(double* memory, int n, int k) {
    bounds = memory, status = memory + 6, taken = memory + 7;
    d = memory + 8, p = d + n, x = p + n * n, last = x + n * k, before = last + k;
    gram = before + k, pieces = gram + (n + k) * (n + k);
  }
};

constexpr double unproven = 0, proven = 1, given_up = 2;  // The status.

}  // namespace

// Block blockIdx.x sums W^T W over its share of the rows. A thread has four columns and four more, `across` apart so
// that neighbours read neighbours, for every groups-th row; the pieces are [block][4 x 4][tile], tiles of the lower
// triangle.
extern "C" __global__ void __launch_bounds__(256, 1)
    gram(const Real* a, const Real* b, double* work, int m, int n, int k, int rows_each) {
  SHARED(shared);
  double* pieces = Work(work, n, k).pieces;
  int me = threadIdx.x, all = blockDim.x, w = n + k;
  int across = (w + 3) / 4, stride = 4 * across, tiles = across * (across + 1) / 2, groups = all / tiles;
  constexpr int height = 32;
  double *tile = shared, *together = shared + height * stride;
  long long first = (long long)blockIdx.x * rows_each, last = first + rows_each < m ? first + rows_each : m;
  int mine = me % tiles, group = me / tiles, i, j;
  bool works = group < groups;
  place(mine, i, j);
  double sums[16] = {0};
  float one_over_n = 1.0f / n, one_over_k = 1.0f / k;
  for (int e = me; e < height * stride; e += all) tile[e] = 0;
  for (long long top = first; top < last; top += height) {
    int rows = last - top < height ? int(last - top) : height;
    __syncthreads();
    for (int e = me; e < rows * n; e += all) {
      int row = quotient(e, one_over_n);
      tile[row * stride + e - row * n] = a[top * n + e];
    }
    for (int e = me; e < rows * k; e += all) {
      int row = quotient(e, one_over_k);
      tile[row * stride + n + e - row * k] = b[top * k + e];
    }
    __syncthreads();
    if (works)
      for (int row = group; row < rows; row += groups) {
        double left[4], right[4];
        for (int u = 0; u < 4; ++u) {
          left[u] = tile[row * stride + i + u * across];
          right[u] = tile[row * stride + j + u * across];
        }
        for (int u = 0; u < 4; ++u)
          for (int v = 0; v < 4; ++v) sums[4 * u + v] += left[u] * right[v];
      }
  }
  if (works)
    for (int u = 0; u < 16; ++u) together[(group * 16 + u) * tiles + mine] = sums[u];
  __syncthreads();
  for (int e = me; e < 16 * tiles; e += all) {
    double total = 0;
    for (int other = 0; other < groups; ++other) total += together[other * 16 * tiles + e];
    pieces[(long long)blockIdx.x * 16 * tiles + e] = total;
  }
}

// The sum of the pieces, as a matrix w x w. A block sums sixteen entries, with a team of threads that share the pieces
// of each.
extern "C" __global__ void __launch_bounds__(256, 1) add_pieces(double* memory, int count, int n, int k) {
  SHARED(sums);
  Work work(memory, n, k);
  int w = n + k, across = (w + 3) / 4, tiles = across * (across + 1) / 2;
  int me = threadIdx.x, team = blockDim.x / 16, part = me / 16, e = blockIdx.x * 16 + me % 16;
  double total = 0;
  for (int piece = part; piece < count; piece += team) total += work.pieces[(long long)piece * 16 * tiles + e];
  sums[me] = total;
  __syncthreads();
  if (part > 0) return;
  for (int other = 1; other < team; ++other) total += sums[16 * other + me];
  int i, j, u = e / tiles / 4, v = e / tiles % 4;
  place(e % tiles, i, j);
  i += u * across, j += v * across;
  if (i < w && j < w) work.gram[i * w + j] = work.gram[j * w + i] = total;
}

// One block: what is to be known of the matrix, and the first solution. The status, and then the rank, are for the
// host.
extern "C" __global__ void __launch_bounds__(1024, 1)
    core(double* memory, int* status, int n, int k, double additions, double rcond) {
  SHARED(shared);
  int me = threadIdx.x, all = blockDim.x, w = n + k;
  Work work(memory, n, k);
  const double* gram = work.gram;
  double *g = shared, *l = g + n * n, *t = l + n * n, *d = t + n * n, *scratch = d + n;
  for (int e = me; e < n * n; e += all) g[e] = gram[e / n * w + e % n];
  __syncthreads();
  Bounds bounds = prove(g, l, t, l, d, scratch, n, additions);
  bool sure = certain(bounds, rcond);
  for (int e = me; e < n * n; e += all) work.p[e] = l[e];
  for (int i = me; i < n; i += all) work.d[i] = d[i];
  for (int e = me; e < n * k; e += all) {
    int j = e / k, column = e % k;
    double dot = 0;
    for (int i = 0; i < n; ++i) dot += l[i * n + j] * gram[i * w + n + column];
    work.x[e] = dot;
  }
  for (int c = me; c < k; c += all) work.last[c] = work.before[c] = 0;
  if (me == 0) {
    double* to = work.bounds;
    to[0] = bounds.rho, to[1] = bounds.norm, to[2] = bounds.inverse;
    to[3] = bounds.condition, to[4] = bounds.shortest, to[5] = bounds.longest;
    *work.status = status[0] = sure ? unproven : given_up;
    status[1] = unknown;
    *work.taken = 0;
  }
}

// Block blockIdx.x, for its share of the rows: r = b - a x, then a^T r (n x k), the sums of squares of r (k) and the
// largest number of b (k), in pieces[block].
extern "C" __global__ void __launch_bounds__(256, 1)
    residual(const Real* a, const Real* b, double* memory, int m, int n, int k, int rows_each) {
  SHARED(shared);
  int me = threadIdx.x, all = blockDim.x;
  Work work(memory, n, k);
  if (*work.status != unproven) return;
  int height = all < 64 ? all : 64;
  int stride = n | 1, outputs = n * k, groups = all / outputs < 1 ? 1 : all / outputs;
  double *x = shared, *r = x + n * k, *sums = r + height * k, *scratch = sums + groups * outputs;
  double *squares = scratch + all, *most = squares + k;
  Real* tile = reinterpret_cast<Real*>(most + k);
  long long first = (long long)blockIdx.x * rows_each, last = first + rows_each < m ? first + rows_each : m;
  float one_over_n = 1.0f / n;
  for (int e = me; e < n * k; e += all) x[e] = work.x[e];
  for (int e = me; e < groups * outputs; e += all) sums[e] = 0;
  for (int c = me; c < 2 * k; c += all) squares[c] = 0;
  int team = all / height, part = me % team;
  for (long long top = first; top < last; top += height) {
    int rows = last - top < height ? int(last - top) : height;
    __syncthreads();
    for (int e = me; e < rows * n; e += all) {
      int row = quotient(e, one_over_n);
      tile[row * stride + e - row * n] = a[top * n + e];
    }
    __syncthreads();
    // Each row by a team of threads, for one right-hand side after the other.
    for (int column = 0; column < k; ++column) {
      int row = me / team;
      double dot = 0;
      if (row < rows)
        for (int j = part; j < n; j += team) dot += double(tile[row * stride + j]) * x[j * k + column];
      scratch[me] = dot;
      __syncthreads();
      if (part == 0 && row < rows) {
        for (int other = 1; other < team; ++other) dot += scratch[me + other];
        r[row * k + column] = double(b[(top + row) * k + column]) - dot;
      }
      __syncthreads();
    }
    for (int e = me; e < groups * outputs; e += all) {
      int output = e % outputs, j = output / k, column = output % k;
      double dot = 0;
      for (int row = e / outputs; row < rows; row += groups)
        dot += double(tile[row * stride + j]) * r[row * k + column];
      sums[e] += dot;
    }
    for (int column = me; column < k; column += all) {
      double total = 0, size = most[column];
      for (int row = 0; row < rows; ++row) {
        total += r[row * k + column] * r[row * k + column];
        if (!single) size = largest(size, fabs(double(b[(top + row) * k + column])));
      }
      squares[column] += total;
      most[column] = size;
    }
  }
  __syncthreads();
  double* to = work.pieces + (long long)blockIdx.x * (outputs + 2 * k);
  for (int e = me; e < outputs; e += all) {
    double total = 0;
    for (int group = 0; group < groups; ++group) total += sums[group * outputs + e];
    to[e] = total;
  }
  for (int c = me; c < 2 * k; c += all) to[outputs + c] = squares[c];
}

// One block, with the pieces of `residual`: if the last step proves x, x is the answer; else one more step.
extern "C" __global__ void __launch_bounds__(1024, 1)
    refine(double* memory, Real* x_out, Real* squares_out, int* status, int count, int m_is_n, int n, int k) {
  SHARED(shared);
  int me = threadIdx.x, all = blockDim.x;
  Work work(memory, n, k);
  if (*work.status != unproven) return;
  int entries = n * k + 2 * k, groups = all / entries < 1 ? 1 : all / entries;
  double *sums = shared, *c = sums + groups * entries, *step = c + entries, *scratch = step + n * k;
  for (int e = me; e < groups * entries; e += all) {
    bool is_size = e % entries >= n * k + k;
    double total = 0;
    for (int piece = e / entries; piece < count; piece += groups) {
      double value = work.pieces[(long long)piece * entries + e % entries];
      total = is_size ? largest(total, value) : total + value;
    }
    sums[e] = total;
  }
  __syncthreads();
  for (int e = me; e < entries; e += all) {
    double total = 0;
    for (int group = 0; group < groups; ++group)
      total = e >= n * k + k ? largest(total, sums[group * entries + e]) : total + sums[group * entries + e];
    c[e] = total;
  }
  __syncthreads();
  Bounds bounds = {work.bounds[0], work.bounds[1], work.bounds[2], work.bounds[3], work.bounds[4], work.bounds[5]};
  int taken = int(*work.taken);
  bool done = taken > 0, stuck = taken == max_steps;
  for (int column = 0; column < k && taken > 0; ++column) {
    double of_x = 0;
    for (int j = me; j < n; j += all) {
      double z = work.x[j * k + column] / work.d[j];
      of_x += z * z;
    }
    of_x = sqrt(sum(of_x, scratch));
    double last = work.last[column], left = sqrt(c[n * k + column]), size_b = c[n * k + k + column];
    if (!solved(bounds, last, of_x, left, size_b, m_is_n ? n : n + 1, n)) {
      done = false;
      if (taken > 1 && !(last <= work.before[column] / 2)) stuck = true;
    }
  }
  __syncthreads();
  if (done || stuck) {
    for (int e = me; e < n * k; e += all) x_out[e] = Real(work.x[e]);
    for (int column = me; column < k; column += all) squares_out[column] = Real(c[n * k + column]);
    if (me == 0) {
      *work.status = status[0] = done ? proven : given_up;
      status[1] = done ? n : unknown;
    }
    return;
  }
  for (int e = me; e < n * k; e += all) {
    int j = e / k, column = e % k;
    double dot = 0;
    for (int i = 0; i < n; ++i) dot += work.p[i * n + j] * c[i * k + column];
    step[e] = dot;
  }
  __syncthreads();
  for (int e = me; e < n * k; e += all) work.x[e] += step[e];
  for (int column = 0; column < k; ++column) {
    double of_step = 0;
    for (int j = me; j < n; j += all) {
      double y = step[j * k + column] / work.d[j];
      of_step += y * y;
    }
    of_step = sqrt(sum(of_step, scratch));
    if (me == 0) work.before[column] = work.last[column], work.last[column] = of_step;
  }
  if (me == 0) *work.taken = taken + 1;
}

#endif  // PART(-1)
