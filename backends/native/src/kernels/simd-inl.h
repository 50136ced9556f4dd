// Vectors of the instruction set that this translation unit is compiled for, by the compilers' vector extension.
//
// The files *-inl.h are what isa_kernels.cpp is made of, which is compiled once per instruction set: their namespace is
// named after it. No standard templates in them: a weak symbol compiled for AVX-512 could otherwise be the one that the
// linker keeps for everybody.
#pragma once

#include <cstdint>

#include "tuning.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#ifndef LSTSQ_ISA
#define LSTSQ_ISA baseline  // for tools that open one of the files alone
#endif

namespace lstsq::kernels::LSTSQ_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int lanes = 8, tile_panels = 3;
#elif defined(__AVX2__) || defined(__aarch64__)
constexpr int lanes = 4, tile_panels = 3;  // on NEON a panel is two registers, and 24 of the 32 hold sums
#else
constexpr int lanes = 4, tile_panels = 1;  // on SSE2 a panel is two registers, and 8 of the 16 hold sums
#endif

static_assert(gram_rows % tile_panels == 0 && stack_width % (tile_panels * lanes) == 0);
static_assert(pad_to % (2 * lanes) == 0);  // whole vectors in single precision
static_assert(batch_multiple % lanes == 0 && values_multiple % (qd_vectors * lanes) == 0);

template <class S, int L>
struct VecOf {
  typedef S type __attribute__((vector_size(L * sizeof(S))));
  typedef S unaligned __attribute__((vector_size(L * sizeof(S)), aligned(alignof(S)), may_alias));
};
template <class S, int L>
using Vec = typename VecOf<S, L>::type;
using VecD = Vec<double, lanes>;

template <class S>
constexpr int panel_width = lanes * static_cast<int>(sizeof(double) / sizeof(S));  // one full register

template <int L, class S>
static inline Vec<S, L> load(const S* p) {
  return *reinterpret_cast<const typename VecOf<S, L>::unaligned*>(p);
}
template <int L, class S>
static inline void store(S* p, Vec<S, L> v) {
  *reinterpret_cast<typename VecOf<S, L>::unaligned*>(p) = v;
}
template <class To, int L, class From>
static inline Vec<To, L> load_as(const From* p) {
  // Element by element: GCC makes one instruction of that, and four of __builtin_convertvector.
  if constexpr (sizeof(To) == sizeof(From))
    return load<L>(p);
  else if constexpr (L == 4)
    return Vec<To, L>{To(p[0]), To(p[1]), To(p[2]), To(p[3])};
  else {
    static_assert(L == 8);
    return Vec<To, L>{To(p[0]), To(p[1]), To(p[2]), To(p[3]), To(p[4]), To(p[5]), To(p[6]), To(p[7])};
  }
}
template <class S, int L>
static inline Vec<S, L> splat(S s) {
  return Vec<S, L>{} + s;
}
static inline double sum(VecD v) {
  double s = 0;
  for (int i = 0; i < lanes; ++i) s += v[i];
  return s;
}
// Lanes of which something is true: all bits are set.
typedef int64_t MaskD __attribute__((vector_size(lanes * sizeof(int64_t))));

static inline bool any(MaskD m) {
  // By instructions for just that: of a loop compilers make a chain of a dozen, which took a tenth of a batch's time.
#if defined(__AVX512F__)
  return _mm512_test_epi64_mask(reinterpret_cast<__m512i>(m), reinterpret_cast<__m512i>(m)) != 0;
#elif defined(__AVX2__)
  return !_mm256_testz_si256(reinterpret_cast<__m256i>(m), reinterpret_cast<__m256i>(m));
#else
  int64_t bits = 0;
  for (int l = 0; l < lanes; ++l) bits |= m[l];
  return bits != 0;
#endif
}
static inline VecD square_root(VecD v) {
  VecD out;
  for (int l = 0; l < lanes; ++l) out[l] = __builtin_sqrt(v[l]);
  return out;
}
static inline VecD magnitudes(VecD v) {
  return reinterpret_cast<VecD>(reinterpret_cast<MaskD>(v) & 0x7fffffffffffffff);
}
// Every lane of G columns of n entries by itself; the columns lie side by side.
template <int G>
static inline void sort_descending(int64_t n, VecD* columns) {
  for (int64_t k = G; k < n * G; ++k)
    for (int64_t p = k; p >= G; p -= G) {
      const VecD up = columns[p - G], down = columns[p];
      columns[p - G] = up > down ? up : down;
      columns[p] = up > down ? down : up;
    }
}
static inline int64_t min(int64_t a, int64_t b) {
  return a < b ? a : b;
}
static inline int64_t max(int64_t a, int64_t b) {
  return a > b ? a : b;
}

// c[i][j] += (or, with `subtract`, -=) the sum over k of b[i * bs + k * bk] * v[j * vp + k * vk], for NB scalars
// against NV vectors. The sums of one call stay in registers and are as precise as S; c may be more so.
template <class S, int NB, int NV, bool subtract = false, class C>
static inline void micro(int64_t depth,
                         const S* __restrict b,
                         int64_t bs,
                         int64_t bk,
                         const S* __restrict v,
                         int64_t vp,
                         int64_t vk,
                         C* __restrict c,
                         int64_t ldc) {
  constexpr int W = panel_width<S>;
  // In a large matrix c is far away, and is needed only when the products are added up.
  if (depth >= 64)
    for (int i = 0; i < NB; ++i)
      for (int j = 0; j < NV * W * static_cast<int>(sizeof(C)); j += 64)
        __builtin_prefetch(reinterpret_cast<char*>(c + i * ldc) + j, 1);
  Vec<S, W> acc[NB][NV] = {};
  for (int64_t k = 0; k < depth; ++k) {
    Vec<S, W> column[NV];
#pragma GCC unroll 8
    for (int j = 0; j < NV; ++j) column[j] = load<W>(v + j * vp);
#pragma GCC unroll 8
    for (int i = 0; i < NB; ++i) {
      const S s = b[i * bs];
#pragma GCC unroll 8
      for (int j = 0; j < NV; ++j) acc[i][j] += s * column[j];
    }
    b += bk;
    v += vk;
  }
#pragma GCC unroll 8
  for (int i = 0; i < NB; ++i)
#pragma GCC unroll 8
    for (int j = 0; j < NV; ++j) {
      C* out = c + i * ldc + j * W;
      const Vec<C, W> sum = __builtin_convertvector(acc[i][j], Vec<C, W>);
      store<W>(out, subtract ? load<W>(out) - sum : load<W>(out) + sum);
    }
}

// The same for a run-time number of vectors, in tiles.
template <class S, int NB, bool subtract = false, class C>
static inline void micro_row(int64_t depth,
                             const S* b,
                             int64_t bs,
                             int64_t bk,
                             const S* v,
                             int64_t vp,
                             int64_t vk,
                             int64_t panels,
                             C* c,
                             int64_t ldc) {
  constexpr int W = panel_width<S>;
  constexpr int most_panels = NB == 1 ? 2 * tile_panels : tile_panels;  // enough sums to hide the adds' latency
  int64_t j = 0;
  for (; j + most_panels <= panels; j += most_panels)
    micro<S, NB, most_panels, subtract>(depth, b, bs, bk, v + j * vp, vp, vk, c + j * W, ldc);
  if constexpr (most_panels > 3)
    for (; j + 3 <= panels; j += 3) micro<S, NB, 3, subtract>(depth, b, bs, bk, v + j * vp, vp, vk, c + j * W, ldc);
  if constexpr (most_panels > 2)
    for (; j + 2 <= panels; j += 2) micro<S, NB, 2, subtract>(depth, b, bs, bk, v + j * vp, vp, vk, c + j * W, ldc);
  for (; j < panels; ++j) micro<S, NB, 1, subtract>(depth, b, bs, bk, v + j * vp, vp, vk, c + j * W, ldc);
}

// Likewise for a run-time number of scalars.
template <class S, bool subtract = false, class C>
static inline void micro_block(int64_t depth,
                               const S* b,
                               int64_t bs,
                               int64_t bk,
                               int64_t scalars,
                               const S* v,
                               int64_t vp,
                               int64_t vk,
                               int64_t panels,
                               C* c,
                               int64_t ldc) {
  int64_t i = 0;
  for (; i + 4 <= scalars; i += 4)
    micro_row<S, 4, subtract>(depth, b + i * bs, bs, bk, v, vp, vk, panels, c + i * ldc, ldc);
  if (i + 2 <= scalars) {
    micro_row<S, 2, subtract>(depth, b + i * bs, bs, bk, v, vp, vk, panels, c + i * ldc, ldc);
    i += 2;
  }
  if (i < scalars) micro_row<S, 1, subtract>(depth, b + i * bs, bs, bk, v, vp, vk, panels, c + i * ldc, ldc);
}

// A large product: tile by tile of vectors, which stay in the first-level cache while all scalars pass.
template <class S, bool subtract = false, class C>
static inline void micro_blocks(int64_t depth,
                                const S* b,
                                int64_t bs,
                                int64_t bk,
                                int64_t scalars,
                                const S* v,
                                int64_t vp,
                                int64_t vk,
                                int64_t panels,
                                C* c,
                                int64_t ldc) {
  for (int64_t j = 0; j < panels; j += tile_panels)
    micro_block<S, subtract>(
        depth, b, bs, bk, scalars, v + j * vp, vp, vk, min(tile_panels, panels - j), c + j * panel_width<S>, ldc);
}

}  // namespace
}  // namespace lstsq::kernels::LSTSQ_ISA
