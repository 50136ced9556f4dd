// A long matrix for which nothing was proven: its rows are reduced by all blocks, what is left of them by a few, and
// then by one, which finds the answer.

// A long matrix without a proof (*status is `given_up`). Block blockIdx.x reduces its share of the rows to n rows of
// n + k numbers and the k sums of squares behind them, in parts[block].
KERNEL(256)
absorb_rows(
    const Real* a, const Real* b, const int* status, double* parts, int m, int n, int k, int rows_each, int height) {
  SHARED(shared);
  if (*status != given_up) return;
  Reduced reduced(shared, n, k, height);
  long long first = (long long)blockIdx.x * rows_each, last = first + rows_each < m ? first + rows_each : m;
  reduced.clear();
  if (first < last) reduced.absorb(a + first * n, b + first * k, n, k, last - first);
  int size = n * (n + k) + k;
  for (int e = threadIdx.x; e < size; e += blockDim.x) parts[(long long)blockIdx.x * size + e] = reduced.rows[e];
}

namespace {

// Absorb the parts that one block after the other has left.
__device__ void absorb_all(Reduced& reduced, const double* parts, int first, int last) {
  int n = reduced.n, k = reduced.k, w = reduced.w;
  long long size = n * w + k;
  reduced.clear();
  for (int part = first; part < last; ++part) {
    const double* rows = parts + part * size;
    reduced.absorb(rows, rows + n, w, w, n);
    for (int column = threadIdx.x; column < k; column += blockDim.x) reduced.left[column] += rows[n * w + column];
  }
  __syncthreads();
}

}  // namespace

// Block blockIdx.x reduces its share of `count` parts to one part.
KERNEL(256)
absorb_parts(const double* parts, const int* status, double* fewer, int count, int n, int k, int each, int height) {
  SHARED(shared);
  if (*status != given_up) return;
  Reduced reduced(shared, n, k, height);
  int first = blockIdx.x * each, last = first + each < count ? first + each : count, size = n * (n + k) + k;
  absorb_all(reduced, parts, first, last);
  for (int e = threadIdx.x; e < size; e += blockDim.x) fewer[(long long)blockIdx.x * size + e] = reduced.rows[e];
}

// One block: the answer to a long problem, from what is left of its rows if there was no proof, else what was found.
KERNEL(256)
reveal_parts(const double* parts,
             const int* status,
             const Real* x_found,
             const Real* squares_found,
             Real* x,
             Real* squares,
             int* rank,
             int count,
             int n,
             int k,
             double rcond,
             int height) {
  SHARED(shared);
  if (*status != given_up) {
    for (int e = threadIdx.x; e < n * k; e += blockDim.x) x[e] = x_found[e];
    for (int e = threadIdx.x; e < k; e += blockDim.x) squares[e] = squares_found[e];
    if (threadIdx.x == 0) *rank = n;
    return;
  }
  Reduced reduced(shared, n, k, height);
  absorb_all(reduced, parts, 0, count);
  conclude_reduced(reduced, x, squares, rank, rcond);
}
