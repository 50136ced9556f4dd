// Cholesky factorisation and triangular solves for small cores, row-major.

static bool cholesky(int64_t n, double* g, int64_t ldg) {
  for (int64_t k = 0; k < n; ++k) {
    double* pivot_row = g + k * ldg;
    const double pivot = pivot_row[k];
    if (!(pivot > 0)) return false;  // NaN fails too
    const double root = __builtin_sqrt(pivot), inverse = 1 / root;
    for (int64_t j = k; j < n; ++j) pivot_row[j] *= inverse;
    pivot_row[k] = root;
    for (int64_t i = k + 1; i < n; ++i) {
      const double s = pivot_row[i];
      double* __restrict row = g + i * ldg;
      const double* __restrict from = pivot_row;
      for (int64_t j = i; j < n; ++j) row[j] -= s * from[j];
    }
  }
  return true;
}

static inline void subtract_row(double* __restrict to, const double* __restrict from, double s, int64_t k) {
  for (int64_t j = 0; j < k; ++j) to[j] -= s * from[j];
}

// One right-hand side: by rows of R, so that memory is read in order.
static void solve_rt_one(int64_t n, const double* r, int64_t ldr, double* w) {
  for (int64_t i = 0; i < n; ++i) {
    const double s = w[i] /= r[i * ldr + i];
    const double* __restrict row = r + i * ldr;
    double* __restrict out = w;
    for (int64_t j = i + 1; j < n; ++j) out[j] -= s * row[j];
  }
}
static void solve_r_one(int64_t n, const double* r, int64_t ldr, double* w) {
  for (int64_t i = n - 1; i >= 0; --i) {
    const double* row = r + i * ldr;
    VecD acc = {};
    int64_t j = i + 1;
    for (; j + lanes <= n; j += lanes) acc += load<lanes>(row + j) * load<lanes>(w + j);
    double s = w[i] - sum(acc);
    for (; j < n; ++j) s -= row[j] * w[j];
    w[i] = s / row[i];
  }
}

// Eight right-hand sides, the shape of the condition estimate: the eight stay in registers.
template <bool transposed>
static void solve_eight(int64_t n, const double* r, int64_t ldr, double* w) {
  using V8 = Vec<double, 8>;
  if constexpr (transposed) {
    for (int64_t i = 0; i < n; ++i) {
      const double* row = r + i * ldr;
      const V8 s = load<8>(w + 8 * i) / row[i];
      store<8>(w + 8 * i, s);
      for (int64_t j = i + 1; j < n; ++j) store<8>(w + 8 * j, load<8>(w + 8 * j) - row[j] * s);
    }
  } else {
    for (int64_t i = n - 1; i >= 0; --i) {
      const double* row = r + i * ldr;
      V8 even = load<8>(w + 8 * i), odd = {};
      int64_t j = i + 1;
      for (; j + 2 <= n; j += 2) {
        even -= row[j] * load<8>(w + 8 * j);
        odd -= row[j + 1] * load<8>(w + 8 * (j + 1));
      }
      if (j < n) even -= row[j] * load<8>(w + 8 * j);
      store<8>(w + 8 * i, (even + odd) / row[i]);
    }
  }
}

static void solve_rt(int64_t n, const double* r, int64_t ldr, double* w, int64_t k) {
  if (k == 1) return solve_rt_one(n, r, ldr, w);
  if (k == 8) return solve_eight<true>(n, r, ldr, w);
  for (int64_t i = 0; i < n; ++i) {
    const double inverse = 1 / r[i * ldr + i];
    for (int64_t c = 0; c < k; ++c) w[i * k + c] *= inverse;
    for (int64_t j = i + 1; j < n; ++j) subtract_row(w + j * k, w + i * k, r[i * ldr + j], k);
  }
}
static void solve_r(int64_t n, const double* r, int64_t ldr, double* w, int64_t k) {
  if (k == 1) return solve_r_one(n, r, ldr, w);
  if (k == 8) return solve_eight<false>(n, r, ldr, w);
  for (int64_t i = n - 1; i >= 0; --i) {
    for (int64_t j = i + 1; j < n; ++j) subtract_row(w + i * k, w + j * k, r[i * ldr + j], k);
    const double inverse = 1 / r[i * ldr + i];
    for (int64_t c = 0; c < k; ++c) w[i * k + c] *= inverse;
  }
}
