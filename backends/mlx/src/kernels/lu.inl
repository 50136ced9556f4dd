// Solves with the LU factors of a row-major matrix. LAPACK factorised its transpose, P A' = L U, so the rows of `lu`
// hold U' below and on the diagonal and the unit triangle L' above it, and A = U' L' P.

template <class T, int K, bool transposed>
static void lu_triangles(int64_t n, const T* lu, const int32_t* pivots, double* w) {
  using V = Vec<double, K>;
  auto at = [&](int64_t i) { return w + K * i; };
  auto exchange = [&](int64_t i, int64_t j) {
    const V keep = load<K>(at(i));
    store<K>(at(i), load<K>(at(j)));
    store<K>(at(j), keep);
  };
  // The sum over `from <= j < to` of row[j] w_j, in four partial sums.
  auto dot = [&](const T* row, int64_t from, int64_t to) {
    V s0 = {}, s1 = {}, s2 = {}, s3 = {};
    int64_t j = from;
    for (; j + 4 <= to; j += 4) {
      s0 += static_cast<double>(row[j]) * load<K>(at(j));
      s1 += static_cast<double>(row[j + 1]) * load<K>(at(j + 1));
      s2 += static_cast<double>(row[j + 2]) * load<K>(at(j + 2));
      s3 += static_cast<double>(row[j + 3]) * load<K>(at(j + 3));
    }
    for (; j < to; ++j) s0 += static_cast<double>(row[j]) * load<K>(at(j));
    return (s0 + s1) + (s2 + s3);
  };
  auto spread = [&](const T* row, int64_t from, int64_t to, V s) {
    for (int64_t j = from; j < to; ++j) store<K>(at(j), load<K>(at(j)) - static_cast<double>(row[j]) * s);
  };
  if constexpr (!transposed) {
    for (int64_t i = 0; i < n; ++i)
      store<K>(at(i), (load<K>(at(i)) - dot(lu + i * n, 0, i)) / static_cast<double>(lu[i * n + i]));
    for (int64_t i = n - 1; i >= 0; --i) store<K>(at(i), load<K>(at(i)) - dot(lu + i * n, i + 1, n));
    for (int64_t i = n - 1; i >= 0; --i) exchange(i, pivots[i] - 1);
  } else {
    for (int64_t i = 0; i < n; ++i) exchange(i, pivots[i] - 1);
    for (int64_t i = 0; i < n; ++i) spread(lu + i * n, i + 1, n, load<K>(at(i)));
    for (int64_t i = n - 1; i >= 0; --i) {
      const V s = load<K>(at(i)) / static_cast<double>(lu[i * n + i]);
      store<K>(at(i), s);
      spread(lu + i * n, 0, i, s);
    }
  }
}

// One right-hand side: vectors run along the rows.
template <class T>
static void lu_one(int64_t n, const T* lu, const int32_t* pivots, double* w) {
  auto dot = [&](const T* row, int64_t from, int64_t to) {
    VecD s[4] = {};
    int64_t j = from;
    for (; j + 4 * lanes <= to; j += 4 * lanes)
      for (int u = 0; u < 4; ++u) s[u] += load_as<double, lanes>(row + j + u * lanes) * load<lanes>(w + j + u * lanes);
    for (; j + lanes <= to; j += lanes) s[0] += load_as<double, lanes>(row + j) * load<lanes>(w + j);
    double total = sum((s[0] + s[1]) + (s[2] + s[3]));
    for (; j < to; ++j) total += static_cast<double>(row[j]) * w[j];
    return total;
  };
  for (int64_t i = 0; i < n; ++i) w[i] = (w[i] - dot(lu + i * n, 0, i)) / static_cast<double>(lu[i * n + i]);
  for (int64_t i = n - 1; i >= 0; --i) w[i] -= dot(lu + i * n, i + 1, n);
  for (int64_t i = n - 1; i >= 0; --i) {
    const double keep = w[i];
    w[i] = w[pivots[i] - 1];
    w[pivots[i] - 1] = keep;
  }
}

template <class T>
static void lu_solve(int64_t n, const T* lu, const int32_t* pivots, bool transposed, double* w, int64_t k) {
  if (k == 1 && !transposed) return lu_one(n, lu, pivots, w);
  if (k == 4) return transposed ? lu_triangles<T, 4, true>(n, lu, pivots, w) : lu_triangles<T, 4, false>(n, lu, pivots, w);
  if (k == 8) return transposed ? lu_triangles<T, 8, true>(n, lu, pivots, w) : lu_triangles<T, 8, false>(n, lu, pivots, w);
  __builtin_trap();
}
