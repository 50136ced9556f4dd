"""The certified way of `_certified`, on a GPU, for matrices of few columns: a few kernels in the place of fifty.

On a GPU a small operation takes the time of its launch, so that fifty take longer than the arithmetic of many
problems. Batches of small problems are solved by one kernel, a long matrix by a few (the folder `kernels`). The
operations of `_certified` do the same where there are no kernels, and the kernels are tested against them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lstsq._arithmetic import device
from lstsq._backend import Array, dtype_name
from lstsq_array_api import _certified
from lstsq_array_api._certified import STEPS, Certified
from lstsq_array_api._cuda import Kernels
from lstsq_array_api._matrix import Matrix

#: Columns of a matrix and right-hand sides up to which there are kernels: what is N x N fits into shared memory.
COLUMNS = 64
RIGHT_HAND_SIDES = 16
#: Blocks of eight columns up to which a warp has room for the Gram matrix in its registers.
EIGHTS = 9
#: Numbers of a matrix up to which one block of threads reads it alone.
SMALL = 65536
#: Columns and rows of a matrix that one thread solves with alone, be it one or one of many: with the same bits.
TINY = 8
SHORT = 64
#: Threads of a block of such: they share nothing but what they read.
TEAM = 32
#: Shared memory up to which several blocks run at the same time on a processor of the GPU.
CROWDED = 96 * 1024
#: Threads of a block that is alone are not fewer, or the block would take too long.
FEWEST = 64
#: Rows that are reduced at once where the rank is in doubt: not fewer, since the kernel uses their place again.
HEIGHT = 32
#: Blocks that share a long matrix, and how many rows are worth a block.
BLOCKS = 528
ROWS = 256


def solve(
    xp: Any, kernels: Kernels, a: Array, b: Array, rcond: float, singular_values: bool, reveal: bool
) -> Certified | None:
    """Solve for ``a (B, M, N)``, ``b (B, M, K)``, contiguous and real, in the precision that they have.

    With `reveal` what has no certificate is solved as well, and found to be good, where there is a kernel for it. None
    if there are no kernels for problems of this shape.
    """
    (count, m, n), k = a.shape, b.shape[-1]
    if not (m >= n and n <= COLUMNS and k <= RIGHT_HAND_SIDES and max(count, m) < 2**31):
        return None
    rcond = float(rcond)  # And no number of NumPy's.
    if m * n <= SMALL:
        return _solve_batch(xp, kernels, a, b, rcond, singular_values, reveal)
    return _solve_long(xp, kernels, a, b, rcond, singular_values) if count == 1 else None


def _solve_batch(
    xp: Any, kernels: Kernels, a: Array, b: Array, rcond: float, singular_values: bool, reveal: bool
) -> Certified | None:
    (count, m, n), k = a.shape, b.shape[-1]
    threads = min(kernels.threads, 64 if n <= 16 else 128 if n <= 32 else 256)
    shared = 8 * (3 * n * n + n + 3 * n * k + m * k + 4 * threads)
    copy = _bytes(a) * m * (n | 1)
    a_is_shared = shared + copy <= min(CROWDED, kernels.shared_limit)
    shared += copy if a_is_shared else 0
    shared_by_s = 8 * (3 * threads + n + m * (n | 1))
    if max(shared, shared_by_s if singular_values else 0) > kernels.shared_limit:
        return None
    # Squares of numbers in double precision may be beyond its range, so that these are not revealed.
    shared_by_reveal = 8 * (n * (n + k) + k + HEIGHT * (n + k | 1) + 2 * n * (n | 1) + n + 3 * threads)
    reveal = reveal and _bytes(a) == 4 and shared_by_reveal <= kernels.shared_limit
    where, dtype = device(a), a.dtype
    x, squares = xp.empty((count, n, k), dtype=dtype, device=where), xp.empty((count, k), dtype=dtype, device=where)
    rank = failures = xp.empty((count,), dtype=xp.int32, device=where)
    if not reveal:  # Else there are no failures, and nothing is written there.
        failures = xp.empty((), dtype=xp.int32, device=where)
        kernels.clear(failures)
    arrays, height = (a, b, x, squares, rank, failures), HEIGHT if reveal else 0
    if n <= TINY and m <= SHORT:
        threads = min(kernels.threads, TEAM)
        of_all = _bytes(a) * threads * ((m * n | 1) + (m * k | 1))
        is_shared = of_all <= min(CROWDED, kernels.shared_limit)
        shared = max(of_all if is_shared else 0, 8 * threads + shared_by_reveal if reveal else 0)
        sizes = (count, m, k, rcond, int(is_shared), height)
        kernels.launch(f"solve_tiny_{n}", -(-count // threads), threads, shared, (*arrays, *sizes))
    else:
        shared = max(shared, shared_by_reveal if reveal else 0)
        kernels.launch("solve_batch", count, threads, shared, (*arrays, m, n, k, rcond, int(a_is_shared), height))
    s = None
    if singular_values:
        s = xp.empty((count, n), dtype=dtype, device=where)
        kernels.launch("singular_values_batch", count, threads, shared_by_s, (a, s, m, n))
    return Certified(x, squares, rank >= 0 if not reveal and int(failures) else None, s, rank)


def _solve_long(xp: Any, kernels: Kernels, a: Array, b: Array, rcond: float, singular_values: bool) -> Certified | None:
    (_, m, n), k = a.shape, b.shape[-1]
    threads, w, outputs, across = kernels.threads, n + k, n * k, -(-(n + k) // 4)
    most = kernels.most_threads
    while most > FEWEST and _shared_by_core(n, most) > kernels.shared_limit:
        most //= 2
    if _shared_by_core(n, most) > kernels.shared_limit:
        return None
    tiles, entries = across * (across + 1) // 2, outputs + 2 * k
    rows = max(ROWS, -(-m // BLOCKS))
    blocks = -(-m // rows)
    where, dtype = device(a), a.dtype
    before_gram = 8 + n + n * n + outputs + 2 * k
    work = xp.empty((before_gram + w * w + blocks * max(w * w, entries),), dtype=xp.float64, device=where)
    x, squares = xp.empty((1, n, k), dtype=dtype, device=where), xp.empty((1, k), dtype=dtype, device=where)
    status = xp.empty((2,), dtype=xp.int32, device=where)

    eights = -(-n // 8), -(-k // 8)
    if sum(eights) <= EIGHTS:
        shared = 8 * 32 * sum(eights) * (sum(eights) + 1)
        kernels.launch(f"gram_by_warps_{eights[0]}_{eights[1]}", blocks, threads, shared, (a, b, work, m, n, k, rows))
    else:
        shared = 8 * (32 * 4 * across + 16 * tiles * (threads // tiles))
        kernels.launch("gram", blocks, threads, shared, (a, b, work, m, n, k, rows))
    entries_of_gram = w * (w + 1) // 2
    kernels.launch("add_pieces", -(-entries_of_gram // 16), threads, 8 * threads, (work, blocks, n, k))
    additions = rows + threads + blocks
    kernels.launch("core", 1, most, _shared_by_core(n, most), (work, status, n, k, float(additions), rcond))

    groups = max(1, threads // outputs)
    of_residual = 8 * (outputs + 64 * k + groups * outputs + threads + 2 * k) + _bytes(a) * 64 * (n | 1)
    of_refine = 8 * (max(1, most // entries) * entries + entries + outputs + 4 * most)
    for step in range(STEPS + 1):
        kernels.launch("residual", blocks, threads, of_residual, (a, b, work, m, n, k, rows))
        sizes = (blocks, int(m == n), n, k, STEPS)
        kernels.launch("refine", 1, most, of_refine, (work, x, squares, status, *sizes))
        # In single precision one step is enough most of the time, and in double two; then the host looks.
        proven = 0
        if (step or _bytes(a) == 4) and (proven := int(status[0])):
            break
    good = None if proven == 1 else np.zeros(1, bool)
    s = None
    if singular_values and good is None:
        gram = xp.reshape(work[before_gram : before_gram + w * w], (1, w, w))[:, :n, :n]
        s = _certified.singular_values(xp, Matrix(xp, a, xp.float64), gram, additions, np.ones(1, bool))
    return Certified(x, squares, good, s, status[1:])


def _shared_by_core(n: int, threads: int) -> int:
    return 8 * (3 * n * n + n + 4 * threads)


def _bytes(a: Array) -> int:
    return 4 if dtype_name(a.dtype) == "float32" else 8
