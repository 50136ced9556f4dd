// Problem blockIdx.x of a batch: a (m x n), b (m x k) in rows, m >= n. Writes x (n x k), the sums of squares of the
// residuals (k), and the rank if it is proven. If not, it is revealed with `height` rows at a time; or, where that is
// 0, it is unknown and counted in *failures. Shared memory: see `_fused.py`.
KERNEL(256)
solve_batch(const Real* a_in,
            const Real* b_in,
            Real* x_out,
            Real* squares_out,
            int* rank,
            int* failures,
            int m,
            int n,
            int k,
            double rcond,
            int a_is_shared,
            int height) {
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
  bool exact = true;              // Whether the residuals are known after the last step.
  auto find_residuals = [&]() {
    for (int e = me; e < m * k; e += all) {
      int row = e / k, column = e % k;
      double left = b[e];
      for (int j = 0; j < n; ++j) left -= double(a[row * stride + j]) * x[j * k + column];
      r[e] = left;
    }
    __syncthreads();
  };
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
    if (!single || taken == 0) find_residuals();
    if (taken == 0) continue;
    // In single precision the step proves x before its residual is known, which a small step does not change.
    double norms[4] = {0}, &of_step = norms[0], &of_x = norms[1], &of_r = norms[2], &size_b = norms[3],
           &change = norms[3];
    if (mine < k) {
      for (int j = part; j < n; j += parts) {
        double over_d = 1 / d[j], y = step[j * k + mine] * over_d, z = x[j * k + mine] * over_d;
        of_step += y * y;
        of_x += z * z;
        if (single) change += step[j * k + mine] * c[j * k + mine];
      }
      for (int row = part; row < m; row += parts) {
        of_r += r[row * k + mine] * r[row * k + mine];
        if (!single) size_b = largest(size_b, fabs(double(b[row * k + mine])));
      }
    }
    put_together(norms, single ? 4 : 3, scratch, lanes);
    if (me < k) {
      of_step = sqrt(of_step);
      bool yes = solved(bounds, of_step, sqrt(of_x), sqrt(of_r), size_b, m, n), small = change <= 1e-6 * of_r;
      scratch[me] = yes                                     ? (single && !small ? is_inexact : is_done)
                    : taken > 1 && !(of_step <= before / 2) ? is_stuck
                                                            : 0;
      before = of_step;
      square = single ? of_r - change : of_r;
    }
    __syncthreads();
    done = true;
    again = taken < max_steps;
    for (int column = 0; column < k; ++column) {
      done = done && (scratch[column] == is_done || scratch[column] == is_inexact);
      again = again && scratch[column] != is_stuck;
      exact = exact && scratch[column] != is_inexact;
    }
    again = again && !done;
    if (again) exact = true;
    if (single && (again || (done && !exact))) find_residuals();
  }
  if (done && !exact) {
    double squares[1] = {0};
    if (mine < k)
      for (int row = part; row < m; row += parts) squares[0] += r[row * k + mine] * r[row * k + mine];
    put_together(squares, 1, scratch, lanes);
    square = squares[0];
  }
  if (!done && height > 0) {
    __syncthreads();
    Reduced reduced(shared, n, k, height);
    reduced.clear();
    reduced.absorb(a_in + problem * m * n, b, n, k, m);
    conclude_reduced(reduced, x_out + problem * n * k, squares_out + problem * k, rank + problem, rcond);
    return;
  }
  for (int e = me; e < n * k; e += all) x_out[problem * n * k + e] = Real(x[e]);
  if (me < k) squares_out[problem * k + me] = Real(square);
  if (me == 0) {
    rank[problem] = done ? n : unknown;
    if (!done) atomicAdd(failures, 1);
  }
}
