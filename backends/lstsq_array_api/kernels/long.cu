// The other kernels solve for one long matrix. W = [a b] has w = n + k columns.

// Block blockIdx.x sums W^T W over its share of the rows. A thread has four columns and four more, `across` apart so
// that neighbours read neighbours, for every groups-th row. The piece of a block is w x w, of which the lower triangle
// is written.
KERNEL(256)
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
  for (int e = me; e < height * stride; e += all) tile[e] = 0;
  for (long long top = first; top < last; top += height) {
    int rows = last - top < height ? int(last - top) : height;
    __syncthreads();
    copy_rows(a + top * n, rows, n, tile, stride);
    copy_rows(b + top * k, rows, k, tile + n, stride);
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
  double* piece = pieces + (long long)blockIdx.x * w * w;
  for (int e = me; e < 16 * tiles; e += all) {
    double total = 0;
    for (int other = 0; other < groups; ++other) total += together[other * 16 * tiles + e];
    place(e % tiles, i, j);
    i += e / tiles / 4 * across, j += e / tiles % 4 * across;
    if (i < w && j < w) piece[(i > j ? i : j) * w + (i > j ? j : i)] = total;
  }
}

// The sum of the pieces. A block sums sixteen entries of the lower triangle, with a team of threads that share the
// pieces of each.
KERNEL(256)
add_pieces(double* memory, int count, int n, int k) {
  SHARED(sums);
  Work work(memory, n, k);
  int w = n + k, me = threadIdx.x, team = blockDim.x / 16, part = me / 16, e = blockIdx.x * 16 + me % 16, i, j;
  place(e, i, j);
  double total = 0;
  if (i < w)
    for (int piece = part; piece < count; piece += team) total += work.pieces[((long long)piece * w + i) * w + j];
  sums[me] = total;
  __syncthreads();
  if (part > 0 || i >= w) return;
  for (int other = 1; other < team; ++other) total += sums[16 * other + me];
  work.gram[i * w + j] = work.gram[j * w + i] = total;
}

// One block: what is to be known of the matrix, and the first solution. The status, and then the rank, are for the
// host.
KERNEL(1024)
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
KERNEL(256)
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
  for (int e = me; e < n * k; e += all) x[e] = work.x[e];
  for (int e = me; e < groups * outputs; e += all) sums[e] = 0;
  for (int c = me; c < 2 * k; c += all) squares[c] = 0;
  int team = all / height, part = me % team;
  for (long long top = first; top < last; top += height) {
    int rows = last - top < height ? int(last - top) : height;
    __syncthreads();
    copy_rows(a + top * n, rows, n, tile, stride);
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

// One block, with the pieces of `residual`: if the last step proves x, x is the answer; else one more step, up to
// `most_steps`. In single precision the step itself may prove what it leads to, without another pass over the rows: the
// residual changes by less than its rounding, as the Gram matrix tells.
KERNEL(1024)
refine(
    double* memory, Real* x_out, Real* squares_out, int* status, int count, int m_is_n, int n, int k, int most_steps) {
  SHARED(shared);
  int me = threadIdx.x, all = blockDim.x, w = n + k;
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
  for (int e = me; e < n * k; e += all) {
    int j = e / k, column = e % k;
    double dot = 0;
    for (int i = 0; i < n; ++i) dot += work.p[i * n + j] * c[i * k + column];
    step[e] = dot;
  }
  __syncthreads();
  Bounds bounds = {work.bounds[0], work.bounds[1], work.bounds[2], work.bounds[3], work.bounds[4], work.bounds[5]};
  int taken = int(*work.taken), rows = m_is_n ? n : n + 1;
  bool done = taken > 0, stuck = taken == most_steps, enough = single && !stuck;
  for (int column = 0; column < k; ++column) {
    double numbers[4] = {0}, &of_x = numbers[0], &of_next = numbers[1], &of_step = numbers[2], &change = numbers[3];
    for (int j = me; j < n; j += all) {
      double over_d = 1 / work.d[j], x = work.x[j * k + column] * over_d, y = step[j * k + column] * over_d, dot = 0;
      of_x += x * x, of_next += (x + y) * (x + y), of_step += y * y;
      if (single)
        for (int i = 0; i < n; ++i) dot += work.gram[i * w + j] * step[i * k + column];
      change += step[j * k + column] * (dot - 2 * c[j * k + column]);
    }
    put_together(numbers, 4, scratch);
    of_step = sqrt(of_step);
    double last = work.last[column], square = c[n * k + column], size_b = c[n * k + k + column];
    if (taken > 0 && !solved(bounds, last, sqrt(of_x), sqrt(square), size_b, rows, n)) {
      done = false;
      if (taken > 1 && !(last <= work.before[column] / 2)) stuck = true;
    }
    enough = enough && fabs(change) <= 1e-6 * square &&
             solved(bounds, of_step, sqrt(of_next), sqrt(square), size_b, rows, n);
    __syncthreads();
    if (me == 0) {
      work.before[column] = last, work.last[column] = of_step;
      c[n * k + k + column] = change;
    }
  }
  __syncthreads();
  enough = enough && !done && !stuck;
  if (!done && !stuck) {
    for (int e = me; e < n * k; e += all) work.x[e] += step[e];
    __syncthreads();
  }
  if (done || stuck || enough) {
    for (int e = me; e < n * k; e += all) x_out[e] = Real(work.x[e]);
    for (int column = me; column < k; column += all)
      squares_out[column] = Real(c[n * k + column] + (enough ? c[n * k + k + column] : 0.0));
    if (me == 0) {
      *work.status = status[0] = done || enough ? proven : given_up;
      status[1] = done || enough ? n : unknown;
    }
  }
  if (me == 0) *work.taken = taken + 1;
}
