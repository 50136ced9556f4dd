// The singular values of matrix blockIdx.x of a batch, a (m x n) in rows with m >= n, descending: rotations of pairs of
// columns until all are orthogonal (Hestenes 1958; Golub and Van Loan 2013, section 8.6.3). n / 2 pairs are rotated at
// once, by the same number of threads each. NaN where sweeps do not end.
KERNEL(256)
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
