namespace {

// The tile (i, j), 8 x 8, of left^T right over m rows, by a warp: left(row, column) and right(row, column) read an
// entry, put(row, column, value) takes one.
template <class Left, class Right, class Put>
__device__ void multiply_rows(int m, int i, int j, Left left, Right right, Put put) {
  int lane = threadIdx.x % 32;
  double sums[2][2] = {};  // Of two halves of the rows, so that the one need not wait for the other.
  for (int top = 0; top < m; top += 8)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      int row = top + 4 * half + lane % 4;
      double of_left = row < m ? left(row, 8 * i + lane / 4) : 0.0,
             of_right = row < m ? right(row, 8 * j + lane / 4) : 0.0;
      multiply(sums[half], of_left, of_right);
    }
  for (int e = 0; e < 2; ++e) put(8 * i + lane / 4, 8 * j + lane % 4 * 2 + e, sums[0][e] + sums[1][e]);
}

}  // namespace

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
    Real* in_rows = reinterpret_cast<Real*>(scratch + 4 * all);
    int wide = n | 1;  // An odd stride keeps the rows in different banks.
    copy_rows(a, m, n, in_rows, wide);
    a = in_rows;
    stride = wide;
  }
  const Real* b = b_in + problem * m * k;
  copy(m * k, [&](int e) { return b[e]; }, [&](int e, Real number) { r[e] = number; });
  __syncthreads();
  int eights = (n + 7) / 8;
  auto of_a = [&](int row, int column) { return column < n ? double(a[row * stride + column]) : 0.0; };
  auto of_r = [&](int row, int column) { return column < k ? r[row * k + column] : 0.0; };
  auto put_g = [&](int i, int j, double value) {
    if (i < n && j <= i) g[i * n + j] = g[j * n + i] = value;
  };
  auto put_c = [&](int i, int j, double value) {
    if (i < n && j < k) c[i * k + j] = value;
  };
  for (int tile = me / 32; tile < eights * (eights + 1) / 2; tile += all / 32) {
    int i, j;
    place(tile, i, j);
    multiply_rows(m, i, j, of_a, of_a, put_g);
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
    int across = (k + 7) / 8;
    for (int tile = me / 32; tile < eights * across; tile += all / 32)
      multiply_rows(m, tile / across, tile % across, of_a, of_r, put_c);
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
