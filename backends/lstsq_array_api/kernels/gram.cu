// W^T W, W = [a b], by the tensor cores for double precision, where the GPU has them: as `gram` in long.cu.

namespace {

// A warp has all tiles (8 x 8) of the lower triangle in its registers, and reads four rows at a time, the next four
// while it works on these: what a lane has of them is its part of the one operand, and of the other too. a takes so
// many blocks of eight columns, and b `of_b`; the last block of each may have fewer.
template <int of_a, int of_b>
__device__ void sum_by_warps(const Real* a, const Real* b, double* work, int m, int n, int k, int rows_each) {
  constexpr int of_w = of_a + of_b, tiles = of_w * (of_w + 1) / 2;
  SHARED(shared);
  int me = threadIdx.x, all = blockDim.x, w = n + k, lane = me % 32, warps = all / 32, mine = me / 32;
  long long first = (long long)blockIdx.x * rows_each, last = first + rows_each < m ? first + rows_each : m;
  double sums[tiles][2] = {};
  Real next[of_w];
  auto read = [&](long long top) {
    long long row = top + lane % 4;
#pragma unroll
    for (int block = 0; block < of_w; ++block) {
      int column = block < of_a ? 8 * block + lane / 4 : 8 * (block - of_a) + lane / 4, width = block < of_a ? n : k;
      next[block] = row < last && column < width ? (block < of_a ? a : b)[row * width + column] : Real(0);
    }
  };
  read(first + 4 * mine);
  for (long long top = first + 4 * mine; top < last; top += 4 * warps) {
    double rows[of_w];
#pragma unroll
    for (int block = 0; block < of_w; ++block) rows[block] = next[block];
    read(top + 4 * warps);
#pragma unroll
    for (int i = 0; i < of_w; ++i)
#pragma unroll
      for (int j = 0; j <= i; ++j) multiply(sums[i * (i + 1) / 2 + j], rows[i], rows[j]);
  }
  // One warp after the other adds its sums, so that the order is always the same.
  for (int turn = 0; turn < warps; ++turn) {
    if (turn == mine)
#pragma unroll
      for (int tile = 0; tile < tiles; ++tile)
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          double& to = shared[(2 * tile + e) * 32 + lane];
          to = turn == 0 ? sums[tile][e] : to + sums[tile][e];
        }
    __syncthreads();
  }
  double* piece = Work(work, n, k).pieces + (long long)blockIdx.x * w * w;
  for (int e = me; e < 64 * tiles; e += all) {
    int i, j, of = e % 32;
    place(e / 64, i, j);
    int row = 8 * (i < of_a ? i : i - of_a) + of / 4, column = 8 * (j < of_a ? j : j - of_a) + of % 4 * 2 + e / 32 % 2;
    bool is_there = row < (i < of_a ? n : k) && column < (j < of_a ? n : k);
    row += i < of_a ? 0 : n, column += j < of_a ? 0 : n;
    if (is_there && column <= row) piece[row * w + column] = shared[e];
  }
}

}  // namespace

#define GRAM_BY_WARPS(of_a, of_b)                                                                                 \
  KERNEL(256)                                                                                                     \
  gram_by_warps_##of_a##_##of_b(const Real* a, const Real* b, double* work, int m, int n, int k, int rows_each) { \
    sum_by_warps<of_a, of_b>(a, b, work, m, n, k, rows_each);                                                     \
  }
#define GRAM(of_a, of_b) GRAM_BY_WARPS(of_a, of_b)

// For one pair of widths if it is said: each takes the compiler a second or two.
#if defined(LSTSQ_COLUMNS)
GRAM(LSTSQ_COLUMNS, LSTSQ_RIGHT_SIDES)
#else
GRAM(1, 1)
GRAM(2, 1)
GRAM(1, 2)
#endif
