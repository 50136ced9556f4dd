// Least squares by Gram matrix, Cholesky and refinement, with the proof of `_certified.py`, in a few launches.
//
// A problem of a batch is solved by one block of threads from beginning to end (solve_batch). A long matrix is read by
// all blocks, each with a share of the rows (gram, residual); between these passes one block does what is N x N (core,
// refine). All sums are in double precision and in a fixed order, so that an answer does not depend on its neighbours.
//
// Numbers are `Real`, which the compiler is told: float or double. Loops are strided by the number of threads, a power
// of two from 32 on. Threads meet at barriers, and those of a warp exchange numbers: a CPU can do both for the tests.

#if defined(LSTSQ_ON_CPU)
#include LSTSQ_ON_CPU
#else
#define SHARED(name) extern __shared__ double name[]
#endif

// How a kernel begins, with the most threads of a block. Who wraps kernels of its own around these says so before.
#if !defined(KERNEL)
#define KERNEL(threads) extern "C" __global__ void __launch_bounds__(threads, 1)
#endif

typedef LSTSQ_REAL Real;

namespace {

// What is proven of a matrix; the words are those of `_certified.Bounds`.
struct Bounds {
  double rho, norm, inverse, condition, shortest, longest;
};

constexpr double unit = 1.1102230246251565e-16;          // 2^-53
constexpr double single_precision = 3.7252902984619e-9;  // 2^-28
constexpr bool single = sizeof(Real) == 4;
constexpr int max_steps = 6;
constexpr int unknown = -1;                                  // A rank.
constexpr double is_done = 1, is_stuck = 2, is_inexact = 3;  // Of a right-hand side after a step.
constexpr double unproven = 0, proven = 1, given_up = 2;     // The status of a long matrix.

__device__ double largest(double a, double b) {
  return a > b || a != a ? a : b;
}  // NaN stays.

// Numbers that each thread has, put together from all threads whose place modulo `lanes` is the same, for all of them:
// the first `sums` of the numbers by their sum, the others by the largest. Numbers that are put together at once wait
// at the same barriers. `lanes` is a power of two up to 16, and the threads fill warps; `scratch` holds `count` numbers
// for each thread.
template <int count>
__device__ void put_together(double (&mine)[count], int sums, double* scratch, int lanes = 1) {
  int t = threadIdx.x, lane = t % 32, warps = blockDim.x / 32;
  auto join = [&](int u, double one, double other) { return u < sums ? one + other : largest(one, other); };
  for (int distance = 16; distance >= lanes; distance /= 2)
    for (int u = 0; u < count; ++u) mine[u] = join(u, mine[u], __shfl_xor_sync(~0u, mine[u], distance));
  if (warps == 1) return __syncthreads();
  if (lane < lanes)
    for (int u = 0; u < count; ++u) scratch[(u * warps + t / 32) * lanes + lane] = mine[u];
  __syncthreads();
  for (int u = 0; u < count; ++u) {
    mine[u] = scratch[u * warps * lanes + (lane & (lanes - 1))];
    for (int warp = 1; warp < warps; ++warp)
      mine[u] = join(u, mine[u], scratch[(u * warps + warp) * lanes + (lane & (lanes - 1))]);
  }
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

// put(e, get(e)) for e from 0 up to `count`, shared among the threads. Several are read before the first is written:
// the compiler does not know that what is written is not what is read next, and would wait for each.
template <class Get, class Put>
__device__ void copy(int count, Get get, Put put) {
  constexpr int at_once = 8;
  int me = threadIdx.x, all = blockDim.x;
  for (int first = me; first < count; first += at_once * all) {
    Real numbers[at_once];
#pragma unroll
    for (int u = 0; u < at_once; ++u) numbers[u] = first + u * all < count ? get(first + u * all) : Real(0);
#pragma unroll
    for (int u = 0; u < at_once; ++u)
      if (first + u * all < count) put(first + u * all, numbers[u]);
  }
}

// e / n, if both are small enough, as where n^2 and e are at most 2^16: a division of integers takes as long as thirty
// products.
__device__ int quotient(int e, float one_over_n) {
  return int((e + 0.5f) * one_over_n);
}

// Rows of n numbers, one after the other, to rows that are `stride` apart. There are at most 2^16 numbers.
template <class To>
__device__ void copy_rows(const Real* from, int rows, int n, To* to, int stride) {
  float one_over_n = 1.0f / n;
  auto put = [&](int e, Real number) {
    int row = quotient(e, one_over_n);
    to[row * stride + e - row * n] = number;
  };
  copy(rows * n, [&](int e) { return from[e]; }, put);
}

// C += A B^T for A and B (8 x 4), by the 32 threads of a warp: of A, and of B, a lane has the entry in row lane / 4 and
// column lane % 4; of C it has two in row lane / 4, from column 2 (lane % 4) on.
__device__ void multiply(double (&c)[2], double a, double b) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0, %1}, {%2}, {%3}, {%0, %1};"
      : "+d"(c[0]), "+d"(c[1])
      : "d"(a), "d"(b));
#else
  int lane = threadIdx.x % 32, row = lane / 4, column = lane % 4 * 2;
  for (int e = 0; e < 4; ++e) {
    double left = __shfl_sync(~0u, a, 4 * row + e);
    c[0] += left * __shfl_sync(~0u, b, 4 * column + e);
    c[1] += left * __shfl_sync(~0u, b, 4 * column + 4 + e);
  }
#endif
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

// A step of L D L^T, and of the inverse of L with it: column j of l (n x n), and row j of the inverse t, are taken out
// of what is below. D is what is left of the diagonal.
__device__ void eliminate(double* l, double* t, int n, int j) {
  double over_pivot = 1 / l[j * n + j];
  float one_over_n = 1.0f / n;
  for (int e = threadIdx.x; e < (n - j - 1) * n; e += blockDim.x) {
    int below = quotient(e, one_over_n), i = j + 1 + below, c = e - below * n;
    // All of l is kept up to date, so that a row serves as the column: its numbers are in different banks.
    double factor = l[i * n + j] * over_pivot, above = c <= j ? t[j * n + c] : l[j * n + c];
    (c <= j ? t : l)[i * n + c] -= factor * above;
  }
  __syncthreads();
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
  for (int j = 0; j < n; ++j) eliminate(l, t, n, j);
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

// Rotate pairs of the n columns of a, which is in rows, until all are orthogonal: the cosine between any two is at most
// `small` (Hestenes 1958; Golub and Van Loan 2013, section 8.6.3). The first m rows are those of the matrix; the others
// up to `rows` are rotated with them. n / 2 pairs are rotated at once, by the same number of threads each. False where
// sweeps do not end. `scratch` holds three numbers for each thread.
__device__ bool orthogonalise(double* a, int m, int rows, int n, int stride, double small, double* scratch) {
  int me = threadIdx.x, all = blockDim.x, even = n + n % 2, pairs = even / 2;
  int team = all / pairs < 1 ? 1 : all / pairs;  // Threads of a pair.
  bool turned = n > 1;
  double nothing = 0;
  for (int j = me; j < n; j += all)
    for (int row = 0; row < m; ++row) nothing += a[row * stride + j] * a[row * stride + j];
  nothing = unit * unit * sum(nothing, scratch);
  for (int sweep = 0; turned && sweep < 40; ++sweep) {
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
          // A column that depends on the others comes to nothing but rounding errors, and from sweep to sweep to those
          // of these: it is zero.
          double cosine = fabs(ij) / sqrt(ii * jj);
          if (cosine > small && ii > nothing && jj > nothing) {
            most = largest(most, cosine);
            double zeta = (jj - ii) / (2 * ij);
            double tangent = (zeta >= 0 ? 1.0 : -1.0) / (fabs(zeta) + sqrt(1 + zeta * zeta));
            double co = 1 / sqrt(1 + tangent * tangent), si = co * tangent, tau = si / (1 + co);
            for (int row = part; row < rows; row += team) {
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
  return !turned;
}

// What the kernels for a long matrix leave for each other, in double precision, and where: the bounds, the status and
// the steps taken; one over the norms of the columns; P; x; the sizes of the last step and of that before it; W^T W;
// and the pieces of sums.
struct Work {
  double *bounds, *status, *taken, *d, *p, *x, *last, *before, *gram, *pieces;
  __device__ Work(double* memory, int n, int k) {
    bounds = memory, status = memory + 6, taken = memory + 7;
    d = memory + 8, p = d + n, x = p + n * n, last = x + n * k, before = last + k;
    gram = before + k, pieces = gram + (n + k) * (n + k);
  }
};

}  // namespace
