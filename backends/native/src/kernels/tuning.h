// Every block size and limit of the kernels, in one place. Each says what it was chosen for, or what was measured, on
// an AMD EPYC (Zen 4, AVX-512) and with AVX2 alone. What depends on the instruction set, the width of the vectors and
// how many of them a tile has, is in simd-inl.h, which also checks that both agree.
#pragma once

#include <cstdint>

namespace lstsq::kernels {

// ---- Layout ----

// Columns of a Gram matrix and of LU factors are padded to a multiple of this, so that every instruction set works on
// whole vectors: 16 numbers in single precision are one register of AVX-512.
inline constexpr int64_t pad_to = 16;

// ---- Gram matrices (gram-inl.h) ----

// Bytes of four panels of a block, which fit the first-level cache (32 KiB) beside what they are multiplied with.
// Shorter blocks would move the sums in g more often, which costs more than panels that stream from further away.
inline constexpr int64_t gram_block_bytes = 24576;
// The depths of blocks that this gives: with registers of 64 bytes, and of 32. Error bounds count on them.
inline constexpr int64_t shortest_gram_block = gram_block_bytes / (4 * 64),
                         longest_gram_block = gram_block_bytes / (4 * 32);
// Panels that take turns against a group of panels: they stay in the second-level cache.
inline constexpr int64_t gram_rows = 24;
// Below this, threads have several pieces each, so that none waits long for the last; above, the copies of G would cost
// more than that.
inline constexpr int64_t gram_many_pieces = 128;
// From this order on a Gram matrix in single precision is worth a try: products dominate, and take half of the time.
inline constexpr int64_t single_gram_order = 128;

// ---- Passes over a matrix (residual-inl.h) ----

// Rows and columns of a block with many right-hand sides, in double precision: 128 KiB, of the second-level cache.
inline constexpr int64_t residual_rows = 128, residual_columns = 128;
// More than the columns of a block: a power of two would map rows on the same cache sets.
inline constexpr int64_t off_powers_of_two = 8;
// Numbers of A that stay in cache while several right-hand sides take turns.
inline constexpr int64_t residual_turn = 16384;
// Numbers of y = A'v that stay in the first-level cache; and the blocks of columns and of rows for many right-hand
// sides.
inline constexpr int64_t transpose_block = 4096, transpose_columns = 64, transpose_rows = 256;

// ---- Matrices that do not lie in rows (passes.h) ----

// A tile that is transposed: two of 16 x 16 numbers in double precision are 4 KiB.
inline constexpr int64_t copy_tile = 16;
// Rows of a block that is copied: some 512 KiB in double precision, of the second-level cache, and whole blocks of a
// Gram matrix for every instruction set, so that its sums are no longer for it.
inline constexpr int64_t copied_rows(int64_t n) {
  return n < 65536 / longest_gram_block ? 65536 / (n * longest_gram_block) * longest_gram_block : longest_gram_block;
}

// ---- Factors of square matrices (triangular-inl.h, lu-inl.h, factors.cpp) ----

// Rows that are done one by one; between blocks of them everything is a matrix product.
inline constexpr int64_t block_rows = 16;
// Rows of a panel, the next of which is factorised by one thread while the others update what comes after it; smaller
// orders are factorised by one thread, as a whole.
inline constexpr int64_t cholesky_depth = 64, lu_depth = 128;
// Columns of a panel that are solved at a time: they stay in cache.
inline constexpr int64_t cholesky_chunk = 48;
// Rows that are updated at a time.
inline constexpr int64_t lu_rows = 32;

// ---- Orthogonal reduction (stack-inl.h) ----

// Columns of a panel: whole tiles of vectors, for every instruction set.
inline constexpr int64_t stack_width = 24;
// Rows of a block: a panel of them, 24 KiB, fits the first-level cache.
inline constexpr int64_t stack_depth = 128;
// Rows for each column from which on a Gram matrix and its proof take less time than reflections (n from 8 to 200).
inline constexpr int64_t shortest_certified = 8;

// ---- Batches (batch-inl.h, batch.cpp) ----

// Numbers of a block of rows that stay in the first-level cache: 24 KiB.
inline constexpr int64_t batch_block = 3072;
// Numbers of one problem, in double precision, above which eight of them are beyond the second-level cache.
inline constexpr int64_t largest_batch_element = 65536;
// Multiplications of a task of the threads: some 30 microseconds; and tasks of a thread at most.
inline constexpr double batch_task = 1e5;
inline constexpr int64_t batch_tasks = 64;
// Elements are given to threads in multiples of this, a multiple of every vector length (qd_vectors of them).
inline constexpr int64_t batch_multiple = 8, values_multiple = 16;

// ---- Singular values (qd-inl.h, singular_values-inl.h) ----

// Vectors that take turns, so that one divides while another waits for its division: 32x8 in 1410 instead of 1600
// cycles a matrix, with AVX2 in 2000 instead of 2400. Four gain nothing more.
inline constexpr int qd_vectors = 2;
// Sweeps, at most: random matrices need 4 for each value, two equal values of many up to 8.
inline constexpr int64_t qd_sweeps(int64_t n) {
  return 24 + 12 * n;
}

// ---- Singular values from Gram matrices (gram_values-inl.h, lapack/gram_values.h) ----

// Up to this condition a Gram matrix gives them as precisely as its matrix does, in double precision: rounding errors
// of its eigenvalues are those of the smallest singular value times half of the condition.
inline constexpr double largest_gram_condition = 4;
// Sweeps, at most: random matrices need 2 for each value.
inline constexpr int64_t ql_sweeps(int64_t n) {
  return 30 * n;
}

// ---- Cores and the refinement (core.cpp, tall.cpp, wide.cpp, square.cpp) ----

// Up to this order the inverse of R is formed, and every bound is proved; above, norms are estimated.
inline constexpr int64_t proved_order = 128;
// Square matrices of a larger order are solved by LU factors: those of smaller ones cost more than their Gram matrix.
inline constexpr int64_t largest_gram_square = 64;
// Right-hand sides of a group: whole vectors, and narrow enough for a block of rows to stay in cache.
inline constexpr int64_t group_columns = 48;

// ---- Threads ----

// Multiplications (or numbers to move) of a piece, at least: fewer cost less than waking a thread.
inline constexpr double gram_piece = 2e5, residual_piece = 5e4, copy_piece = 1e5, reduce_piece = 1e6;

static_assert(gram_block_bytes % (4 * 64) == 0);
static_assert(longest_gram_block == 2 * shortest_gram_block);  // see copied_rows
static_assert(cholesky_depth % pad_to == 0 && lu_depth % pad_to == 0);
static_assert(cholesky_depth % block_rows == 0 && lu_depth % block_rows == 0 && lu_depth % lu_rows == 0);
static_assert(lu_rows % pad_to == 0);  // whole vectors, also in single precision
static_assert(cholesky_chunk % pad_to == 0 && group_columns % 8 == 0);
static_assert(residual_columns % pad_to == 0 && transpose_columns % pad_to == 0);
static_assert(values_multiple % (8 * qd_vectors) == 0 && batch_multiple % 8 == 0);

}  // namespace lstsq::kernels
