// The singular values of matrix blockIdx.x of a batch, a (m x n) in rows with m >= n, descending: the
// norms of its columns after rotations that make them orthogonal. NaN where these do not end, or one is not finite.
KERNEL(256)
singular_values_batch(const Real* a_in, Real* s_out, int m, int n) {
  SHARED(shared);
  int me = threadIdx.x, all = blockDim.x;
  long long problem = blockIdx.x;
  int stride = n | 1;
  double *scratch = shared, *s = scratch + 3 * all, *a = s + n;
  copy_rows(a_in + problem * m * n, m, n, a, stride);
  __syncthreads();
  bool done = orthogonalise(a, m, m, n, stride, single ? 1e-9 : 4 * unit, scratch);
  for (int j = me; j < n; j += all) {
    double square = 0;
    for (int row = 0; row < m; ++row) square += a[row * stride + j] * a[row * stride + j];
    s[j] = done ? sqrt(square) : nan("");
  }
  __syncthreads();
  for (int j = me; j < n; j += all) {
    int before = 0;
    double total = 0;  // NaN if one is, or infinite.
    for (int i = 0; i < n; ++i) total += 0 * s[i], before += s[i] > s[j] || (s[i] == s[j] && i < j);
    s_out[problem * n + (total == total ? before : j)] = Real(total == total ? s[j] : total);
  }
}
