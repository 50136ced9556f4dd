// The answer where the Gram matrix proves nothing, so that the rank is in doubt: the solution of minimum norm, in
// double precision, by orthogonal transformations alone. Rows are absorbed into a triangle by reflections (Golub and
// Van Loan 2013, section 5.2); the columns of the triangle are then rotated until they are orthogonal, which reveals
// the singular values. Of single precision numbers no square leaves the range of double precision, so that nothing is
// scaled.

namespace {

// What rows [a b] of w = n + k numbers are reduced to: the triangle T (n x n), C (n x k) beside it, in rows of w, and
// the sums of squares of what is left of each right-hand side (k). Rows are read into a tile of `height` of them.
struct Reduced {
  double *rows, *left, *tile, *free;
  int n, k, w, stride, height;

  __device__ Reduced(double* memory, int n, int k, int height)
      : rows(memory), n(n), k(k), w(n + k), stride((n + k) | 1), height(height) {
    left = rows + n * w, tile = left + k, free = tile + height * stride;
  }

  __device__ void clear() {
    for (int e = threadIdx.x; e < n * w + k; e += blockDim.x) rows[e] = 0;
    __syncthreads();
  }

  // Rows of a (count x n) and b (count x k), each of them `pitch_a` or `pitch_b` after the one before.
  template <class Number>
  __device__ void absorb(const Number* a, const Number* b, int pitch_a, int pitch_b, long long count) {
    int me = threadIdx.x, all = blockDim.x;
    for (long long top = 0; top < count; top += height) {
      int here = count - top < height ? int(count - top) : height;
      for (int e = me; e < here * w; e += all) {
        int row = e / w, column = e - row * w;
        tile[row * stride + column] =
            column < n ? double(a[(top + row) * pitch_a + column]) : double(b[(top + row) * pitch_b + column - n]);
      }
      __syncthreads();
      for (int j = 0; j < n; ++j) reflect(j, here);
      for (int column = me; column < k; column += all)
        for (int row = 0; row < here; ++row) {
          double v = tile[row * stride + n + column];
          left[column] += v * v;
        }
      __syncthreads();
    }
  }

 private:
  // Make column j of the tile zero, by a reflection of it and of row j of the triangle.
  __device__ void reflect(int j, int here) {
    double pivot = rows[j * w + j], square = 0;
    for (int row = 0; row < here; ++row) square += tile[row * stride + j] * tile[row * stride + j];
    __syncthreads();  // All have read the pivot.
    if (square == 0) return;
    double norm = sqrt(pivot * pivot + square), diagonal = pivot > 0 ? -norm : norm, first = pivot - diagonal;
    // The reflection is I - v v^T / (norm |first|), where v is the column with `first` above it.
    double over = 1 / (norm * fabs(first));
    for (int column = j + 1 + threadIdx.x; column < w; column += blockDim.x) {
      double above = rows[j * w + column], dot = first * above;
      for (int row = 0; row < here; ++row) dot += tile[row * stride + j] * tile[row * stride + column];
      dot *= over;
      rows[j * w + column] = above - dot * first;
      for (int row = 0; row < here; ++row) tile[row * stride + column] -= dot * tile[row * stride + j];
    }
    if (threadIdx.x == 0) rows[j * w + j] = diagonal;
    __syncthreads();
  }
};

// From what the rows are reduced to: x (n x k), the sums of squares of the residuals (k) and the rank. NaN and rank 0
// where a is not finite, NaN for right-hand sides that are not. `reduced.free` holds 2 n (n | 1) + n + 3 all numbers.
__device__ void conclude_reduced(const Reduced& reduced, Real* x, Real* squares, int* rank, double rcond) {
  int me = threadIdx.x, all = blockDim.x, n = reduced.n, k = reduced.k, w = reduced.w, stride = n | 1;
  double *turned = reduced.free, *s = turned + 2 * n * stride, *scratch = s + n;
  const double* rows = reduced.rows;
  for (int e = me; e < n * n; e += all) {
    int i = e / n, j = e - i * n;
    turned[i * stride + j] = j < i ? 0.0 : rows[i * w + j];
    turned[(n + i) * stride + j] = i == j;
  }
  __syncthreads();
  bool done = orthogonalise(turned, n, 2 * n, n, stride, 8 * unit, scratch);
  double largest_s = 0, total = 0;
  for (int j = me; j < n; j += all) {
    double square = 0;
    for (int i = 0; i < n; ++i) square += turned[i * stride + j] * turned[i * stride + j];
    s[j] = sqrt(square);
  }
  __syncthreads();
  for (int j = 0; j < n; ++j) largest_s = largest(largest_s, s[j]), total += s[j];
  bool finite = done && total < 1e300;  // NaN is not.
  int kept = 0;
  for (int j = 0; j < n; ++j) kept += s[j] > rcond * largest_s;
  for (int column = me; column < k; column += all) {
    double size = reduced.left[column];
    for (int i = 0; i < n; ++i) size += rows[i * w + n + column] * rows[i * w + n + column];
    scratch[column] = finite && size < 1e300;
  }
  __syncthreads();
  // y = S^+ U^T c and x = V y in double precision, in the place of the tile, which is not needed any more. It has room
  // for both: n k is at most 16 (n + k), and the tile is of 32 rows of n + k or more.
  double *y = reduced.tile, *precise = y + n * k;
  for (int e = me; e < n * k; e += all) {
    int j = e / k, column = e - j * k;
    double dot = 0;
    if (s[j] > rcond * largest_s) {
      for (int i = 0; i < n; ++i) dot += turned[i * stride + j] / s[j] * rows[i * w + n + column];
      dot /= s[j];
    }
    y[e] = dot;
  }
  __syncthreads();
  for (int e = me; e < n * k; e += all) {
    int i = e / k, column = e - i * k;
    double dot = 0;
    for (int j = 0; j < n; ++j) dot += turned[(n + i) * stride + j] * y[j * k + column];
    precise[e] = scratch[column] ? dot : nan("");
    x[e] = Real(precise[e]);
  }
  __syncthreads();
  for (int column = me; column < k; column += all) {
    double square = reduced.left[column];
    for (int i = 0; i < n; ++i) {
      double rest = rows[i * w + n + column];
      for (int j = i; j < n; ++j) rest -= rows[i * w + j] * precise[j * k + column];
      square += rest * rest;
    }
    squares[column] = Real(square);
  }
  if (me == 0) *rank = finite ? kept : 0;
  __syncthreads();
}

}  // namespace
