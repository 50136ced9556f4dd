namespace {

// The same for a matrix of N columns by one thread, which has all that is N x N to itself: a block would wait for its
// barriers most of the time. The rows are read again in each pass.
template <int N>
__device__ bool solve_alone(
    const Real* a, const Real* b, Real* x_out, Real* squares_out, int* rank, int m, int k, double rcond) {
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
  return all_done;
}

// Each thread solves a problem. What they read is copied to shared memory first, if it fits (`is_shared`), by threads
// that are neighbours and read what is side by side; alone each would read in a place far from the others'. Where a
// rank is not proven all reveal it, as in `solve_batch`.
template <int N>
__device__ void solve_tiny(const Real* a_in,
                           const Real* b_in,
                           Real* x,
                           Real* squares,
                           int* rank,
                           int* failures,
                           int count,
                           int m,
                           int k,
                           double rcond,
                           int is_shared,
                           int height) {
  SHARED(shared);
  int me = threadIdx.x, all = blockDim.x, size_a = m * N, size_b = m * k;
  long long first = (long long)blockIdx.x * all;
  int problems = count - first < all ? int(count - first) : all;
  a_in += first * size_a, b_in += first * size_b;
  const Real *a = a_in, *b = b_in;
  if (is_shared) {
    int stride_a = size_a | 1, stride_b = size_b | 1;  // Odd, so that threads read from different banks.
    Real *copy_a = reinterpret_cast<Real*>(shared), *copy_b = copy_a + problems * stride_a;
    for (int e = me; e < problems * size_a; e += all) copy_a[e / size_a * stride_a + e % size_a] = a[e];
    for (int e = me; e < problems * size_b; e += all) copy_b[e / size_b * stride_b + e % size_b] = b[e];
    __syncthreads();
    a = copy_a, b = copy_b, size_a = stride_a, size_b = stride_b;
  }
  x += first * N * k, squares += first * k, rank += first;
  bool done = true;
  if (me < problems)
    done = solve_alone<N>(a + me * size_a, b + me * size_b, x + me * N * k, squares + me * k, rank + me, m, k, rcond);
  if (height == 0) {
    if (!done) atomicAdd(failures, 1);
    return;
  }
  __syncthreads();
  double* open = shared;
  open[me] = !done;
  __syncthreads();
  for (int other = 0; other < problems; ++other) {
    if (open[other] == 0) continue;
    Reduced reduced(shared + all, N, k, height);
    reduced.clear();
    reduced.absorb(a_in + other * m * N, b_in + other * m * k, N, k, m);
    conclude_reduced(reduced, x + other * N * k, squares + other * k, rank + other, rcond);
  }
}

}  // namespace

#define SOLVE_TINY(n)                                                                       \
  KERNEL(32)                                                                                \
  solve_tiny_##n(const Real* a,                                                             \
                 const Real* b,                                                             \
                 Real* x,                                                                   \
                 Real* squares,                                                             \
                 int* rank,                                                                 \
                 int* failures,                                                             \
                 int count,                                                                 \
                 int m,                                                                     \
                 int k,                                                                     \
                 double rcond,                                                              \
                 int is_shared,                                                             \
                 int height) {                                                              \
    solve_tiny<n>(a, b, x, squares, rank, failures, count, m, k, rcond, is_shared, height); \
  }
#define SOLVE(n) SOLVE_TINY(n)

// For one number of columns if it is said: each takes the compiler a second or two.
#if defined(LSTSQ_COLUMNS)
SOLVE(LSTSQ_COLUMNS)
#else
SOLVE(1)
SOLVE(2)
SOLVE(3)
SOLVE(4)
SOLVE(5)
SOLVE(6)
SOLVE(7)
SOLVE(8)
#endif
