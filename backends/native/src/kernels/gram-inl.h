// The Gram matrix, block by block: rows are converted and packed into panels that stay in cache, and register tiles
// run over the panels of the upper triangle.
#pragma once

#include "isa.h"
#include "simd-inl.h"

namespace lstsq::kernels::LSTSQ_ISA {
namespace {

// Panel p holds columns [p W, p W + W) of the block: packed[(p depth + k) W + lane].
template <class T, class S>
static inline void pack_columns(const T* a, int64_t lda, int64_t n, int64_t depth, S* packed) {
  constexpr int W = panel_width<S>;
  const int64_t whole = n / W;
  for (int64_t k = 0; k < depth; ++k) {
    const T* row = a + k * lda;
    for (int64_t p = 0; p < whole; ++p) store<W>(packed + (p * depth + k) * W, load_as<S, W>(row + p * W));
    if (whole * W < n) {
      S* out = packed + (whole * depth + k) * W;
      for (int lane = 0; lane < W; ++lane)
        out[lane] = whole * W + lane < n ? static_cast<S>(row[whole * W + lane]) : S(0);
    }
  }
}

// The same where the panels' columns are the rows of a wide matrix.
template <class T, class S>
static inline void pack_rows(const T* a, int64_t lda, int64_t m, int64_t depth, S* packed) {
  constexpr int W = panel_width<S>;
  for (int64_t p = 0; p * W < m; ++p) {
    S* out = packed + p * depth * W;
    for (int lane = 0; lane < W; ++lane) {
      const T* row = a + min(p * W + lane, m - 1) * lda;
      const S keep = p * W + lane < m;
      if (keep != 0)
        for (int64_t k = 0; k < depth; ++k) out[k * W + lane] = static_cast<S>(row[k]);
      else
        for (int64_t k = 0; k < depth; ++k) out[k * W + lane] = 0;
    }
  }
}

// Panel i against the panels group, ..., group + NV - 1.
template <class S, int NV>
static inline void gram_tile(int64_t depth, const S* packed, int64_t i, int64_t group, double* g, int64_t ldg) {
  constexpr int W = panel_width<S>;
  const int64_t step = depth * W;
  for (int q = 0; q < W; q += 4)
    micro<S, 4, NV>(
        depth, packed + i * step + q, 1, W, packed + group * step, step, W, g + (i * W + q) * ldg + group * W, ldg);
}

// The panels [from, from + gram_rows) against those of a group, on and above the diagonal.
template <class S, int NV>
static inline void gram_group(int64_t depth, const S* packed, int64_t from, int64_t group, double* g, int64_t ldg) {
  for (int64_t i = from; i < min(from + gram_rows, group); ++i) gram_tile<S, NV>(depth, packed, i, group, g, ldg);
  if (group >= from + gram_rows) return;
  gram_tile<S, NV>(depth, packed, group, group, g, ldg);
  if constexpr (NV > 1) gram_tile<S, NV - 1>(depth, packed, group + 1, group + 1, g, ldg);
  if constexpr (NV > 2) gram_tile<S, NV - 2>(depth, packed, group + 2, group + 2, g, ldg);
}

// A group's panels stay in the first-level cache, and those against it, gram_rows at a time, in the second.
template <class S>
static inline void gram_tiles(int64_t depth, const S* packed, int64_t panels, double* g, int64_t ldg) {
  for (int64_t from = 0; from < panels; from += gram_rows) {
    int64_t group = from;
    // Four panels that are left over are two pairs, not three and one, which alone keeps half of the arithmetic idle;
    // but a pair must not begin before the end of these rows and end behind it.
    auto pairs = [&] { return tile_panels >= 3 && panels - group == 4 && group + 3 != from + gram_rows; };
    for (; group + tile_panels <= panels && !pairs(); group += tile_panels)
      gram_group<S, tile_panels>(depth, packed, from, group, g, ldg);
    if constexpr (tile_panels >= 3)
      for (; panels - group == 2 || pairs(); group += 2) gram_group<S, 2>(depth, packed, from, group, g, ldg);
    for (; group < panels; ++group) gram_group<S, 1>(depth, packed, from, group, g, ldg);
  }
}

template <class T, class S>
static void gram_as(const GramTask<T>& t) {
  constexpr int W = panel_width<S>;
  const int64_t panels = (t.n + W - 1) / W, ldg = padded(t.n);
  const int64_t block = gram_block_bytes / (4 * W * static_cast<int64_t>(sizeof(S)));
  S* packed = static_cast<S*>(scratch(0, block * panels * W * sizeof(S)));
  S* right = t.k ? static_cast<S*>(scratch(1, block * t.k * sizeof(S))) : nullptr;
  for (int64_t at = t.from; at < t.to; at += block) {
    const int64_t depth = min(block, t.to - at);
    if (t.wide)
      pack_rows<T, S>(t.a + at, t.lda, t.n, depth, packed);
    else
      pack_columns<T, S>(t.a + at * t.lda, t.lda, t.n, depth, packed);
    gram_tiles<S>(depth, packed, panels, t.g, ldg);
    if (t.k) {
      for (int64_t k = 0; k < depth; ++k)
        for (int64_t j = 0; j < t.k; ++j) right[k * t.k + j] = static_cast<S>(t.b[(at + k) * t.ldb + j]);
      if (t.k < 4)
        micro_block<S>(depth, right, 1, t.k, t.k, packed, depth * W, W, panels, t.c, ldg);
      else
        micro_blocks<S>(depth, right, 1, t.k, t.k, packed, depth * W, W, panels, t.c, ldg);
    }
  }
}

static void gram_f(const GramTask<float>& t) {
  if (t.single)
    gram_as<float, float>(t);
  else
    gram_as<float, double>(t);
}
static void gram_d(const GramTask<double>& t) {
  gram_as<double, double>(t);
}

}  // namespace
}  // namespace lstsq::kernels::LSTSQ_ISA
