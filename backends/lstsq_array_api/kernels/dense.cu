// A matrix of more columns than a block of threads has room for, by products of tiles of 64 x 64 on the tensor cores
// for double precision: the Gram matrix, its Cholesky triangle L by columns of tiles, T = L^-1 by halves (Golub and Van
// Loan 2013, section 4.2; Higham 2002, section 14.2), P = T^T T, the proof, and refinement with the matrix itself. All
// blocks have 128 threads but those that work alone. The matrix is of single precision.

namespace {

// A warp has so many times so many squares of 8 x 8; on a processor, which takes long for each, one.
#if defined(LSTSQ_ON_CPU)
constexpr int wide = 1;
#else
constexpr int wide = 4;
#endif
constexpr int of_warp = 8 * wide, edge = 2 * of_warp, deep = 16, pitch = edge + 4, team = 128;

// Where everything is, in double precision. G is scaled; P comes in the place of L.
struct Dense {
  int n, k;
  double *bounds, *status, *taken, *d, *squares, *x, *step, *c, *last, *before, *of_r;
  double *g, *l, *t, *r, *pieces;

  __device__ Dense(double* memory, int m, int n, int k) : n(n), k(k) {
    long long square = (long long)n * n;
    bounds = memory, status = memory + 6, taken = memory + 7, d = memory + 8;
    squares = d + n, x = squares + n, step = x + n * k, c = step + n * k;
    last = c + n * k, before = last + k, of_r = before + k;
    g = of_r + k, l = g + square, t = l + square, r = t + square, pieces = r + (long long)m * k;
  }
};

// The sums of a warp, which has a quarter of a tile.
struct Sums {
  double of[wide][wide][2] = {};

  // For each entry of the tile that this thread has: row, column, its sum.
  template <class Function>
  __device__ void each(Function function) {
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll
    for (int i = 0; i < wide; ++i)
#pragma unroll
      for (int j = 0; j < wide; ++j)
#pragma unroll
        for (int e = 0; e < 2; ++e)
          function(
              of_warp * (warp / 2) + 8 * i + lane / 4, of_warp * (warp % 2) + 8 * j + lane % 4 * 2 + e, of[i][j][e]);
  }
};

// sums += left^T right over the numbers k from `first` up to `last`. left(k, i) and right(k, j) read an entry;
// neighbours in memory are neighbours in k where it says so, else in i or j. What is next is read while the sums are
// formed: all of it before any of it is written, since the compiler does not know that the one is not the other.
template <bool left_along_k, bool right_along_k, class Left, class Right>
__device__ void multiply_tiles(Sums& sums, Left left, Right right, int first, int last, double* shared) {
  constexpr int each = deep * edge / team;
  int me = threadIdx.x, lane = me % 32, warp = me / 32;
  double *u = shared, *v = shared + deep * pitch;
  decltype(left(0, 0)) of_left[each];
  decltype(right(0, 0)) of_right[each];
  auto k_of = [&](bool along_k, int e) { return along_k ? e % deep : e / edge; };
  auto i_of = [&](bool along_k, int e) { return along_k ? e / deep : e % edge; };
  auto read = [&](int top) {
#pragma unroll
    for (int x = 0; x < each; ++x) {
      int e = me + x * team, k = top + k_of(left_along_k, e);
      of_left[x] = k < last ? left(k, i_of(left_along_k, e)) : 0;
      k = top + k_of(right_along_k, e);
      of_right[x] = k < last ? right(k, i_of(right_along_k, e)) : 0;
    }
  };
  read(first);
  for (int top = first; top < last; top += deep) {
    __syncthreads();
#pragma unroll
    for (int x = 0; x < each; ++x) {
      int e = me + x * team;
      u[k_of(left_along_k, e) * pitch + i_of(left_along_k, e)] = of_left[x];
      v[k_of(right_along_k, e) * pitch + i_of(right_along_k, e)] = of_right[x];
    }
    __syncthreads();
    read(top + deep);
#pragma unroll
    for (int k = 0; k < deep; k += 4) {
      double mine[wide], other[wide];
#pragma unroll
      for (int i = 0; i < wide; ++i) {
        mine[i] = u[(k + lane % 4) * pitch + of_warp * (warp / 2) + 8 * i + lane / 4];
        other[i] = v[(k + lane % 4) * pitch + of_warp * (warp % 2) + 8 * i + lane / 4];
      }
#pragma unroll
      for (int i = 0; i < wide; ++i)
#pragma unroll
        for (int j = 0; j < wide; ++j) multiply(sums.of[i][j], mine[i], other[j]);
    }
  }
}

__device__ int tiles_of(int n) {
  return (n + edge - 1) / edge;
}

__device__ double sum_of_warp(double mine) {
  for (int distance = 16; distance > 0; distance /= 2) mine += __shfl_xor_sync(~0u, mine, distance);
  return mine;
}

}  // namespace

// Tile blockIdx.x % tiles of the lower triangle of A^T A over share blockIdx.x / tiles of the rows, in pieces[block].
KERNEL(128)
dense_gram(const Real* a, double* memory, int m, int n, int k, int rows_each) {
  SHARED(shared);
  Dense dense(memory, m, n, k);
  int tiles = tiles_of(n) * (tiles_of(n) + 1) / 2, share = blockIdx.x / tiles, i, j;
  place(blockIdx.x % tiles, i, j);
  long long first = (long long)share * rows_each;
  int rows = m - first < rows_each ? int(m - first) : rows_each;
  a += first * n;
  Sums sums;
  auto column = [&](int tile) {
    return [=](int row, int e) { return tile * edge + e < n ? a[(long long)row * n + tile * edge + e] : Real(0); };
  };
  multiply_tiles<false, false>(sums, column(i), column(j), 0, rows, shared);
  double* piece = dense.pieces + (long long)blockIdx.x * edge * edge;
  sums.each([&](int row, int column, double sum) { piece[row * edge + column] = sum; });
}

// G from the pieces. A block adds those of one row of a tile.
KERNEL(128)
dense_add(double* memory, int m, int n, int k, int shares) {
  Dense dense(memory, m, n, k);
  int tiles = tiles_of(n) * (tiles_of(n) + 1) / 2, i, j;
  place(blockIdx.x / edge, i, j);
  int row = i * edge + blockIdx.x % edge;
  for (int e = threadIdx.x; e < edge; e += blockDim.x) {
    int column = j * edge + e;
    if (row >= n || column > row) continue;
    double total = 0;
    for (int share = 0; share < shares; ++share)
      total += dense.pieces[((long long)share * tiles * edge + blockIdx.x) * edge + e];
    dense.g[(long long)row * n + column] = dense.g[(long long)column * n + row] = total;
  }
}

// One over the norms of the columns.
KERNEL(128)
dense_norms(double* memory, int m, int n, int k) {
  Dense dense(memory, m, n, k);
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) dense.d[i] = 1 / sqrt(dense.g[(long long)i * n + i]);
  if (i < k) dense.last[i] = dense.before[i] = 0;
  if (i == 0) *dense.status = unproven, *dense.taken = 0;
}

// Row blockIdx.x of G is scaled, and L is it; the sum of the squares of what it was.
KERNEL(128)
dense_scale(double* memory, int m, int n, int k) {
  SHARED(shared);
  Dense dense(memory, m, n, k);
  int i = blockIdx.x;
  double mine = 0;
  for (int j = threadIdx.x; j < n; j += blockDim.x) {
    long long e = (long long)i * n + j;
    double v = dense.g[e];
    mine += v * v;
    dense.l[e] = dense.g[e] = v * dense.d[i] * dense.d[j];
  }
  mine = sum(mine, shared);
  if (threadIdx.x == 0) dense.squares[i] = mine;
}

// One block: the triangle in the tile on the diagonal, and its inverse, which comes into T.
KERNEL(256)
dense_diagonal(double* memory, int m, int n, int k, int tile) {
  SHARED(shared);
  Dense dense(memory, m, n, k);
  int me = threadIdx.x, all = blockDim.x, first = tile * edge, w = n - first < edge ? n - first : edge;
  double *l = shared, *t = shared + w * w;
  for (int e = me; e < w * w; e += all) {
    int i = e / w, j = e - i * w;
    l[e] = dense.l[(long long)(first + i) * n + first + j];
    t[e] = i == j;
  }
  __syncthreads();
  for (int j = 0; j < w; ++j) eliminate(l, t, w, j);
  for (int e = me; e < w * w; e += all) {
    int i = e / w, j = e - i * w;
    dense.t[(long long)(first + i) * n + first + j] = j > i ? 0.0 : t[e] / sqrt(l[i * w + i]);
  }
}

// What is below that tile, times the transpose of its inverse. A block has one tile.
KERNEL(128)
dense_panel(double* memory, int m, int n, int k, int tile) {
  SHARED(shared);
  Dense dense(memory, m, n, k);
  int first = tile * edge, top = (tile + 1 + blockIdx.x) * edge;
  Sums sums;
  multiply_tiles<true, true>(
      sums,
      [&](int c, int i) { return top + i < n ? dense.l[(long long)(top + i) * n + first + c] : 0.0; },
      [&](int c, int j) { return dense.t[(long long)(first + j) * n + first + c]; },
      0,
      edge,
      shared);
  __syncthreads();
  sums.each([&](int i, int j, double sum) {
    if (top + i < n) dense.l[(long long)(top + i) * n + first + j] = sum;
  });
}

// And what is to the right of it: less the product of the tiles to the left. A block has one tile of the lower
// triangle.
KERNEL(128)
dense_trailing(double* memory, int m, int n, int k, int tile) {
  SHARED(shared);
  Dense dense(memory, m, n, k);
  int first = tile * edge, i, j;
  place(blockIdx.x, i, j);
  int top = (tile + 1 + i) * edge, left = (tile + 1 + j) * edge;
  Sums sums;
  auto rows_from = [&](int from) {
    return [&dense, first, from, n](int c, int e) {
      return from + e < n ? dense.l[(long long)(from + e) * n + first + c] : 0.0;
    };
  };
  multiply_tiles<true, true>(sums, rows_from(top), rows_from(left), 0, edge, shared);
  sums.each([&](int row, int column, double sum) {
    if (top + row < n && left + column < n) dense.l[(long long)(top + row) * n + left + column] -= sum;
  });
}

// T is known in squares on the diagonal, `size` wide. Between two of these it is -T22 (L21 T11): first the product in
// the brackets, which comes, transposed, into what is above the diagonal; then the other. A block has one tile.
KERNEL(128)
dense_halves(double* memory, int m, int n, int k, int size, int second) {
  SHARED(shared);
  Dense dense(memory, m, n, k);
  int across = size / edge, pair = blockIdx.x / (across * across), place_in = blockIdx.x % (across * across);
  int row = place_in / across * edge, column = place_in % across * edge;
  int left = pair * 2 * size, below = left + size;
  if (below + row >= n) return;
  Sums sums;
  const double *l = dense.l, *t = dense.t;
  if (!second) {
    multiply_tiles<true, false>(
        sums,
        [&](int c, int i) { return below + row + i < n ? l[(long long)(below + row + i) * n + left + c] : 0.0; },
        [&](int c, int j) { return c >= column + j ? t[(long long)(left + c) * n + left + column + j] : 0.0; },
        column,
        size,
        shared);
    sums.each([&](int i, int j, double sum) {
      if (below + row + i < n) dense.t[(long long)(left + column + j) * n + below + row + i] = sum;
    });
    return;
  }
  int last = n - below < row + edge ? n - below : row + edge;
  multiply_tiles<true, true>(
      sums,
      [&](int c, int i) {
        return c <= row + i && below + row + i < n ? t[(long long)(below + row + i) * n + below + c] : 0.0;
      },
      [&](int c, int j) { return t[(long long)(left + column + j) * n + below + c]; },
      0,
      last,
      shared);
  sums.each([&](int i, int j, double sum) {
    if (below + row + i < n) dense.t[(long long)(below + row + i) * n + left + column + j] = -sum;
  });
}

// P = T^T T, a tile of the lower triangle and its mirror image. Above the diagonal T is not zero, but is not read.
KERNEL(128)
dense_square(double* memory, int m, int n, int k) {
  SHARED(shared);
  Dense dense(memory, m, n, k);
  int i, j;
  place(blockIdx.x, i, j);
  Sums sums;
  const double* t = dense.t;
  auto column = [&](int tile) {
    return [=](int c, int e) {
      return c >= tile * edge + e && tile * edge + e < n ? t[(long long)c * n + tile * edge + e] : 0.0;
    };
  };
  multiply_tiles<false, false>(sums, column(i), column(j), i * edge, n, shared);
  sums.each([&](int row, int column, double sum) {
    row += i * edge, column += j * edge;
    if (row < n && column <= row) dense.l[(long long)row * n + column] = dense.l[(long long)column * n + row] = sum;
  });
}

// The sum of the squares of I - P G in tile blockIdx.x.
KERNEL(128)
dense_defect(double* memory, int m, int n, int k) {
  SHARED(shared);
  Dense dense(memory, m, n, k);
  int across = tiles_of(n), top = blockIdx.x / across * edge, left = blockIdx.x % across * edge;
  Sums sums;
  const double *p = dense.l, *g = dense.g;
  multiply_tiles<false, false>(
      sums,
      [&](int c, int i) { return top + i < n ? p[(long long)c * n + top + i] : 0.0; },
      [&](int c, int j) { return left + j < n ? g[(long long)c * n + left + j] : 0.0; },
      0,
      n,
      shared);
  double mine = 0;
  sums.each([&](int row, int column, double value) {
    row += top, column += left;
    double defect = (row == column) - value;
    if (row < n && column < n) mine += defect * defect;
  });
  __syncthreads();
  mine = sum(mine, shared);
  if (threadIdx.x == 0) dense.pieces[blockIdx.x] = mine;
}

// One block: the proof, where so many additions are behind an entry of the Gram matrix. Of many columns rounding errors
// are bounded as independent ones: see `_certified`.
KERNEL(256)
dense_prove(double* memory, int* status, int m, int n, int k, double additions, double rcond) {
  SHARED(scratch);
  double rounding = n <= 128 ? n * (additions + 3.0 * n + 10) * unit
                             : 8 * sqrt(double(n)) * (sqrt(additions) + 2 * sqrt(double(n))) * unit;
  Dense dense(memory, m, n, k);
  int me = threadIdx.x, all = blockDim.x, tiles = tiles_of(n) * tiles_of(n);
  double sums[4] = {0}, &defect = sums[0], &trace = sums[1], &inverse = sums[2], &frobenius = sums[3];
  double sizes[3] = {0, -1e300, 0}, &most = sizes[0], &shortest = sizes[1], &longest = sizes[2];
  for (int e = me; e < tiles; e += all) defect += dense.pieces[e];
  for (int i = me; i < n; i += all) {
    double on_diagonal = dense.l[(long long)i * n + i], d = dense.d[i];
    trace += on_diagonal, inverse += on_diagonal * d * d, frobenius += dense.squares[i];
    most = largest(most, on_diagonal), shortest = largest(shortest, -1 / (d * d)),
    longest = largest(longest, 1 / (d * d));
  }
  put_together(sums, 4, scratch);
  put_together(sizes, 0, scratch);
  double rho = sqrt(defect) + trace * rounding;
  Bounds bounds = {rho, sqrt(sqrt(frobenius)), sqrt(inverse / (1 - rho)), sqrt(most), sqrt(-shortest), sqrt(longest)};
  if (me == 0) {
    dense.bounds[0] = bounds.rho, dense.bounds[1] = bounds.norm, dense.bounds[2] = bounds.inverse;
    dense.bounds[3] = bounds.condition, dense.bounds[4] = bounds.shortest, dense.bounds[5] = bounds.longest;
    *dense.status = *status = certain(bounds, rcond) ? unproven : given_up;
  }
}

// r = b - A x. A warp has a row; the sums of the squares of a block's are in of_blocks[block].
KERNEL(128)
dense_residual(const Real* a, const Real* b, double* memory, int m, int n, int k) {
  SHARED(shared);
  Dense dense(memory, m, n, k);
  if (*dense.status != unproven) return;
  int me = threadIdx.x, lane = me % 32, warps = blockDim.x / 32;
  for (int column = 0; column < k; ++column) {
    double square = 0;
    for (long long row = blockIdx.x * warps + me / 32; row < m; row += (long long)gridDim.x * warps) {
      double dot = 0;
      for (int j = lane; j < n; j += 32) dot += double(a[row * n + j]) * dense.x[j * k + column];
      double left = double(b[row * k + column]) - sum_of_warp(dot);
      if (lane == 0) dense.r[row * k + column] = left, square += left * left;
    }
    square = sum(square, shared);
    if (me == 0) dense.pieces[blockIdx.x * k + column] = square;
  }
}

// A^T r over share blockIdx.x / blocks of the rows, for 128 columns; of b in the place of r at the beginning. And, by
// the first block, the sums of squares of `counted` blocks before.
KERNEL(128)
dense_transposed(
    const Real* a, const Real* b, double* memory, double* of_shares, int m, int n, int k, int rows_each, int counted) {
  Dense dense(memory, m, n, k);
  if (*dense.status != unproven) return;
  int blocks = (n + team - 1) / team, share = blockIdx.x / blocks, j = blockIdx.x % blocks * team + threadIdx.x;
  long long first = (long long)share * rows_each, last = first + rows_each < m ? first + rows_each : m;
  if (blockIdx.x == 0)
    for (int column = threadIdx.x; column < k; column += blockDim.x) {
      double total = 0;
      for (int block = 0; block < counted; ++block) total += dense.pieces[block * k + column];
      dense.of_r[column] = total;
    }
  if (j >= n) return;
  for (int column = 0; column < k; ++column) {
    double dot = 0;
    if (counted > 0)
      for (long long row = first; row < last; ++row) dot += double(a[row * n + j]) * dense.r[row * k + column];
    else
      for (long long row = first; row < last; ++row) dot += double(a[row * n + j]) * double(b[row * k + column]);
    of_shares[(long long)share * n * k + j * k + column] = dot;
  }
}

// c, the sum over the shares, for 128 columns each.
KERNEL(128)
dense_sum(double* memory, const double* of_shares, int m, int n, int k, int shares) {
  Dense dense(memory, m, n, k);
  if (*dense.status != unproven) return;
  int e = blockIdx.x * blockDim.x + threadIdx.x;
  if (e >= n * k) return;
  double total = 0;
  for (int share = 0; share < shares; ++share) total += of_shares[(long long)share * n * k + e];
  dense.c[e] = total;
}

// The step: P in the units of the caller, times c. A warp has a row.
KERNEL(128)
dense_step(double* memory, int m, int n, int k) {
  Dense dense(memory, m, n, k);
  if (*dense.status != unproven) return;
  int lane = threadIdx.x % 32, i = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
  if (i >= n) return;
  for (int column = 0; column < k; ++column) {
    double dot = 0;
    for (int j = lane; j < n; j += 32) dot += dense.l[(long long)i * n + j] * dense.d[j] * dense.c[j * k + column];
    dot = sum_of_warp(dot);
    if (lane == 0) dense.step[i * k + column] = dense.d[i] * dot;
  }
}

// One block: x after the step, and whether it is proven, as in `refine`.
KERNEL(256)
dense_advance(double* memory, Real* x_out, Real* squares_out, int* status, int m, int n, int k, int most_steps) {
  SHARED(scratch);
  Dense dense(memory, m, n, k);
  if (*dense.status != unproven) return;
  int me = threadIdx.x, all = blockDim.x, taken = int(*dense.taken), rows = m;
  const double* of = dense.bounds;
  Bounds bounds = {of[0], of[1], of[2], of[3], of[4], of[5]};
  bool done = taken > 0, stuck = false;
  for (int column = 0; column < k; ++column) {
    double numbers[4] = {0}, &of_step = numbers[0], &of_next = numbers[1], &of_x = numbers[2], &change = numbers[3];
    for (int j = me; j < n; j += all) {
      int e = j * k + column;
      double before = taken > 0 ? dense.x[e] : 0.0, over_d = 1 / dense.d[j];
      double x = before * over_d, y = dense.step[e] * over_d;
      of_step += y * y, of_next += (x + y) * (x + y), of_x += x * x, change += dense.step[e] * dense.c[e];
      dense.x[e] = before + dense.step[e];
    }
    put_together(numbers, 4, scratch);
    of_step = sqrt(of_step);
    double square = dense.of_r[column], left = sqrt(square), last = dense.last[column];
    // Either this step proves what it leads to, and changes the residual by nothing; or the last one had proven x.
    bool now = solved(bounds, of_step, sqrt(of_next), left, 0, rows, n) && change <= 1e-6 * square;
    bool earlier = taken > 1 && solved(bounds, last, sqrt(of_x), left, 0, rows, n);
    done = done && (now || earlier);
    stuck = stuck || (taken > 1 && !earlier && !now && !(of_step <= last / 2));
    __syncthreads();
    if (me == 0) {
      dense.last[column] = of_step;
      dense.of_r[column] = now ? square - change : square;
    }
  }
  __syncthreads();
  stuck = stuck || taken == most_steps;
  if (done)
    for (int e = me; e < n * k; e += all) x_out[e] = Real(dense.x[e]);
  if (done)
    for (int column = me; column < k; column += all) squares_out[column] = Real(dense.of_r[column]);
  if (me == 0) {
    if (done || stuck) *dense.status = *status = done ? proven : given_up;
    *dense.taken = taken + 1;
  }
}
