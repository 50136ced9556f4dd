"""The certified way of `_certified`, on a GPU, for matrices of few columns: a few kernels in the place of fifty.

On a GPU a small operation takes the time of its launch, so that fifty take longer than the arithmetic of many
problems. Batches of small problems are solved by one kernel, a long matrix by a few (`kernels.cu`). The operations of
`_certified` do the same where there are no kernels, and the kernels are tested against them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from lstsq._backend import Array, dtype_name
from lstsq_array_api import _certified
from lstsq_array_api._arithmetic import device
from lstsq_array_api._certified import STEPS, Certified
from lstsq_array_api._cuda import Kernels

#: Columns of a matrix and right-hand sides up to which there are kernels: what is N x N fits into shared memory.
COLUMNS = 64
RIGHT_HAND_SIDES = 16
#: Numbers of a matrix up to which one block of threads reads it alone.
SMALL = 65536
#: Columns of a matrix that one thread solves with alone, if there are at least so many.
TINY = 6
MANY = 2000
#: Shared memory up to which several blocks run at the same time on a processor of the GPU.
CROWDED = 96 * 1024
#: Blocks that share a long matrix, and how many rows are worth a block.
BLOCKS = 528
ROWS = 256


class Found(NamedTuple):
    """What the kernels found."""

    answers: Certified
    #: For a long matrix, whose singular values are not among the answers: its Gram matrix, and the additions behind
    #: each entry.
    gram: tuple[Array, int] | None

    def with_singular_values(self, xp: Any, a: Array, working: Any, single: bool) -> Certified:
        """The answers, with the singular values of `a` by the way of `_certified` if they are missing."""
        if self.gram is None:
            return self.answers
        s = _certified.singular_values(xp, xp.astype(a, working), *self.gram, self.answers.good, single)
        return self.answers._replace(s=s)


def solve(xp: Any, kernels: Kernels, a: Array, b: Array, rcond: float, singular_values: bool) -> Found | None:
    """Solve for ``a (B, M, N)``, ``b (B, M, K)``, contiguous and real, in the precision that they have.

    None if there are no kernels for problems of this shape.
    """
    (count, m, n), k = a.shape, b.shape[-1]
    if not (m >= n and n <= COLUMNS and k <= RIGHT_HAND_SIDES and max(count, m) < 2**31):
        return None
    if m * n <= SMALL:
        found = _solve_batch(xp, kernels, a, b, rcond, singular_values)
        return None if found is None else Found(found, None)
    return _solve_long(xp, kernels, a, b, rcond) if count == 1 else None


def _solve_batch(
    xp: Any, kernels: Kernels, a: Array, b: Array, rcond: float, singular_values: bool
) -> Certified | None:
    (count, m, n), k = a.shape, b.shape[-1]
    threads = min(kernels.threads, 32 if n <= 8 else 64 if n <= 16 else 128 if n <= 32 else 256)
    shared = 8 * (3 * n * n + n + 3 * n * k + m * k + threads + 5 * k)
    copy = _bytes(a) * m * (n | 1)
    a_is_shared = shared + copy <= min(CROWDED, kernels.shared_limit)
    shared += copy if a_is_shared else 0
    shared_by_s = 8 * (3 * threads + n + m * (n | 1))
    if max(shared, shared_by_s if singular_values else 0) > kernels.shared_limit:
        return None
    empty = _empty(xp, a)
    x, squares, good = empty((count, n, k), a.dtype), empty((count, k), a.dtype), empty((count,), xp.uint8)
    failures = xp.zeros((1,), dtype=xp.int32, device=device(a))
    results = (x, squares, good, failures)
    sizes = (np.int32(m), np.int32(n), np.int32(k))
    if n <= TINY and count >= MANY:
        arguments = (a, b, *results, np.int32(count), np.int32(m), np.int32(k), np.float64(rcond))
        kernels.launch(f"solve_tiny_{n}", -(-count // 64), 64, 0, arguments)
    else:
        arguments = (a, b, *results, *sizes, np.float64(rcond), np.int32(a_is_shared))
        kernels.launch("solve_batch", count, threads, shared, arguments)
    s = None
    if singular_values:
        s = empty((count, n), a.dtype)
        kernels.launch("singular_values_batch", count, threads, shared_by_s, (a, s, *sizes[:2]))
    all_good = int(failures[0]) == 0
    return Certified(x, squares, np.ones(count, bool) if all_good else good == 1, s)


def _solve_long(xp: Any, kernels: Kernels, a: Array, b: Array, rcond: float) -> Found:
    (_, m, n), k = a.shape, b.shape[-1]
    threads, w, outputs, across = kernels.threads, n + k, n * k, -(-(n + k) // 4)
    tiles = across * (across + 1) // 2
    rows = max(ROWS, -(-m // BLOCKS))
    blocks = -(-m // rows)
    empty = _empty(xp, a)
    double = xp.float64
    gram, memory = empty((w, w), double), empty((8 + n + n * n + outputs + 2 * k,), double)
    pieces = empty((blocks * max(16 * tiles, outputs + 2 * k),), double)
    x, squares, status = empty((1, n, k), a.dtype), empty((1, k), a.dtype), empty((1,), xp.int32)
    of_matrix = (np.int64(m), np.int32(n), np.int32(k))

    shared = 8 * (32 * 4 * across + 16 * tiles * (threads // tiles))
    kernels.launch("gram", blocks, threads, shared, (a, b, pieces, *of_matrix, np.int32(rows)))
    kernels.launch("add_pieces", -(-16 * tiles // threads), threads, 0, (pieces, gram, np.int32(blocks), np.int32(w)))
    additions = rows + threads + blocks
    sizes = of_matrix[1:]
    most = kernels.most_threads
    if 8 * (3 * n * n + n + most) > kernels.shared_limit:
        most = threads
    shared = 8 * (3 * n * n + n + most)
    kernels.launch("core", 1, most, shared, (gram, memory, status, *sizes, *map(np.float64, (additions, rcond))))

    groups = max(1, threads // outputs)
    of_residual = 8 * (outputs + 64 * k + groups * outputs + threads + 2 * k) + _bytes(a) * 64 * (n | 1)
    entries = outputs + 2 * k
    of_refine = 8 * (max(1, most // entries) * entries + entries + outputs + most)
    for step in range(STEPS + 1):
        kernels.launch("residual", blocks, threads, of_residual, (a, b, memory, pieces, *of_matrix, np.int32(rows)))
        counts = (np.int32(blocks), np.int32(m == n))
        kernels.launch("refine", 1, most, of_refine, (pieces, memory, x, squares, status, *counts, *sizes))
        # One step is taken in any case; then the host looks whether another is needed.
        state = int(status[0]) if step else 0
        if state:
            break
    return Found(Certified(x, squares, np.array([state == 1]), None), (gram[None, :n, :n], additions))


def _bytes(a: Array) -> int:
    return 4 if dtype_name(a.dtype) == "float32" else 8


def _empty(xp: Any, like: Array) -> Callable[[tuple[int, ...], Any], Array]:
    where = device(like)
    return lambda shape, dtype: xp.empty(shape, dtype=dtype, device=where)
