"""The graph of one solution: a tree of reductions, its root solved, and of a wide matrix the way back down."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
from array_api_compat import array_namespace
from dask.array.core import PerformanceWarning
from dask.array.utils import meta_from_array
from dask.delayed import Delayed, delayed
from numpy.linalg import LinAlgError

import lstsq
from lstsq import Reduction, Rows, Solution
from lstsq._arithmetic import adjoint, exponent, headroom, times_power_of_two
from lstsq._contract import cutoff

Array = Any

#: How many triangles one task makes one of.
FAN_IN = 8


def solve(a: da.Array, b: da.Array, rcond: float | None, driver: str, singular_values: bool) -> Solution:
    """Solve for ``a (M, N)`` and ``b (M,)`` or ``(M, K)``. See `Backend.solve`."""
    if a.ndim > 2 or b.ndim > 2:
        raise TypeError(
            f"a has shape {a.shape} and b {b.shape}, which is a batch of problems, and the dask backend solves one "
            "after the other; expected one matrix (M, N). Solve each in a loop, and compute the results together, with "
            "dask.compute."
        )
    request = _Request(rcond, None if driver == "auto" else driver, singular_values)
    # Where M is not known, it may turn out to be less than N: the reduction is right there, too.
    return _solve_wide(a, b, request) if a.shape[0] < a.shape[1] else _solve_tall(a, b, request)


class _Request(NamedTuple):
    """What is asked for, beside the arrays."""

    rcond: float | None
    driver: str | None
    singular_values: bool


def reduce_rows(a: da.Array, b: da.Array) -> Rows:
    """Reduce ``a (M, N)`` and ``b (M, K)``. See `Backend.reduce_rows`."""
    (m, n), k = a.shape, b.shape[1]
    root, p = _reduce(a, b), min(m, n)
    double = np.result_type(a.dtype, np.float64)
    return Rows(
        _array(root.a, a, (p, n), double), _array(root.b, a, (p, k), double), _array(root.left, a, (k,), np.float64)
    )


def _solve_tall(a: da.Array, b: da.Array, request: _Request) -> Solution:
    answer = _task(solve_root)(_reduce(a, b), request)
    x, residuals, rank, s = _parts(a, b, answer, request)
    return Solution(_array(x, b, (a.shape[1], *b.shape[1:]), a.dtype), residuals, rank, s)


def _reduce(a: da.Array, b: da.Array) -> Delayed:
    """The reduction of all rows, as the root of a tree."""
    a = _whole(a, 1)
    b = _in_the_chunks_of(a, b if b.ndim == 1 else b.rechunk({1: -1}))
    parts = [_task(reduce_block)(i, *pair) for i, pair in enumerate(zip(_blocks(a), _blocks(b)))]
    while len(parts) > 1:
        parts = [_task(add)(group) for group in _groups(parts)]
    return parts[0]


def reduce_block(number: int, a: Array, b: Array) -> Reduction:
    """Reduce one chunk of rows."""
    try:
        return lstsq.reduce_rows(a, b)
    except LinAlgError as error:
        raise LinAlgError(f"in the chunk of rows number {number}: {error}") from error


def add(parts: list[Reduction]) -> Reduction:
    """Make one reduction of several."""
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def solve_root(total: Reduction, request: _Request) -> tuple[Array, ...]:
    """Solve for all rows."""
    _require_finite(total.a)
    rcond, driver, singular_values = request
    return tuple(total.solve(rcond, driver=driver, singular_values=singular_values))


def _solve_wide(a: da.Array, b: da.Array, request: _Request) -> Solution:
    (m, n), dtype = a.shape, a.dtype
    a, b = _whole(a, 0), b.rechunk(-1)
    levels = [[_task(factor_block)(i, block) for i, block in enumerate(_blocks(a))]]
    while len(levels[-1]) > 1:
        levels.append([_task(factor_stack)(group) for group in _groups(levels[-1])])
    request = request._replace(rcond=cutoff(request.rcond, dtype.name, m, n))
    answer = _task(solve_adjoint)(levels[-1][0], _blocks(b)[0], dtype.name, request)
    y, residuals, rank, s = _parts(a, b, answer, request)
    down = [y]
    for level, below in zip(levels[:0:-1], levels[-2::-1]):
        down = [_task(part_of_product)(level[i // FAN_IN], i % FAN_IN, down[i // FAN_IN]) for i in range(len(below))]
    columns = [
        _array(_task(last_product)(leaf, part, dtype.name, b.ndim == 1), b, (size, *b.shape[1:]), dtype)
        for leaf, part, size in zip(levels[0], down, a.chunks[1])
    ]
    return Solution(da.concatenate(columns), residuals, rank, s)


class Scaled(NamedTuple):
    """Columns that are to be multiplied by powers of two: the product may be beyond the range, and they are not."""

    y: Array
    #: (1, K), integers in floating point.
    power: Array


class Factors(NamedTuple):
    """``[R_1; R_2; ...] = Q R``, with the rows of Q that belong to each part."""

    q: list[Array]
    r: Array


def factor_block(number: int, a: Array) -> Factors:
    """Factorise the adjoint of one chunk of columns, in double precision."""
    xp = array_namespace(a)
    try:
        _require_finite(a)
    except LinAlgError as error:
        raise LinAlgError(f"in the chunk of columns number {number}: {error}") from error
    working = xp.complex128 if xp.isdtype(a.dtype, "complex floating") else xp.float64
    with np.errstate(all="ignore"):
        q, r = xp.linalg.qr(adjoint(xp, xp.astype(a, working)))
    return Factors([q], r)


def factor_stack(below: list[Factors]) -> Factors:
    """Factorise the triangles of several parts, one above the other."""
    xp = array_namespace(below[0].r)
    with np.errstate(all="ignore"):
        q, r = xp.linalg.qr(xp.concat([part.r for part in below], axis=0))
    ends = np.cumsum([0, *(part.r.shape[0] for part in below)])
    return Factors([q[i:j, :] for i, j in pairwise(ends)], r)


def solve_adjoint(top: Factors, b: Array, dtype: str, request: _Request) -> tuple[Any, ...]:
    """Solve ``L y = b``, L being the adjoint of the triangle: the residuals, rank and `s` are those of A."""
    xp = array_namespace(b)
    with np.errstate(all="ignore"):
        l, b = adjoint(xp, top.r), xp.astype(b if b.ndim == 2 else b[:, None], top.r.dtype)
        # Powers of two, so that nothing is rounded. b is left so small that y does not overflow.
        of_l, of_b = exponent(xp, l, (0, 1)), exponent(xp, b, 0)
        of_b = of_b + headroom(xp, of_b.dtype)
        y, residuals, rank, s = lstsq.lstsq(
            times_power_of_two(xp, l, -of_l),
            times_power_of_two(xp, b, -of_b),
            request.rcond,
            driver=request.driver,
            singular_values=request.singular_values,
        )
        real = xp.float32 if dtype in ("float32", "complex64") else xp.float64
        if s is not None:
            s = xp.astype(times_power_of_two(xp, s, of_l[0]), real)
        residuals = xp.astype(times_power_of_two(xp, residuals, 2 * of_b[0]), real)
        return Scaled(y, of_b - of_l), residuals, rank, s


def part_of_product(factors: Factors, part: int, y: Scaled) -> Scaled:
    """The rows of ``Q y`` that belong to this part."""
    return Scaled(factors.q[part] @ y.y, y.power)


def last_product(factors: Factors, y: Scaled, dtype: str, vector: bool) -> Array:
    """The rows of the solution that belong to a chunk, rounded to its dtype."""
    xp = array_namespace(y.y)
    with np.errstate(all="ignore"):
        x = times_power_of_two(xp, factors.q[0] @ y.y, y.power).astype(dtype)
    return x[:, 0] if vector else x


def _require_finite(a: Array) -> None:
    xp = array_namespace(a)
    if not bool(xp.all(xp.isfinite(a))):
        raise LinAlgError(
            "a holds NaN or inf; expected finite numbers, since least squares has no answer otherwise. Drop or replace "
            "these: dask.array.isfinite(a) finds them."
        )


def _task(function: Callable[..., Any]) -> Callable[..., Delayed]:
    """The function as a task, named after what it is given: what is asked for twice is computed once."""
    return delayed(function, pure=True)  # type: ignore[no-any-return]


def _groups(tasks: Sequence[Delayed]) -> list[Sequence[Delayed]]:
    return [tasks[i : i + FAN_IN] for i in range(0, len(tasks), FAN_IN)]


def _blocks(array: da.Array) -> list[Delayed]:
    # As the graph is: optimised here for each array alone, what two of them share would be computed for each.
    blocks: list[Delayed] = array.to_delayed(optimize_graph=False).ravel().tolist()
    return blocks


def _whole(a: da.Array, axis: int) -> da.Array:
    """The matrix with this axis in one chunk."""
    if a.numblocks[axis] == 1:
        return a
    warnings.warn(
        f"a has its axis {axis} in {a.numblocks[axis]} chunks, and is brought into one: chunks travel between the "
        f"workers. Make it with that axis whole, or say that it is meant, with a.rechunk({{{axis}: -1}}).",
        PerformanceWarning,
        stacklevel=2,
    )
    return a.rechunk({axis: -1})


def _in_the_chunks_of(a: da.Array, b: da.Array) -> da.Array:
    """b with the rows in the same chunks as those of `a`."""
    if a.chunks[0] == b.chunks[0]:
        return b
    if not any(math.isnan(size) for size in (*a.chunks[0], *b.chunks[0])):
        return b.rechunk({0: a.chunks[0]})
    if a.numblocks[0] != b.numblocks[0]:
        raise TypeError(
            f"the rows of a are in {a.numblocks[0]} chunks and those of b in {b.numblocks[0]}, and not all sizes are "
            "known; expected chunks that meet. Filter both by the same condition, or find the sizes first: "
            "a.compute_chunk_sizes(), b.compute_chunk_sizes()."
        )
    return b


def _parts(a: da.Array, b: da.Array, answer: Delayed, request: _Request) -> tuple[Any, ...]:
    """x as it is, and the other three as arrays."""
    m, n = a.shape
    real = np.empty(0, a.dtype).real.dtype
    shapes = (b.shape[1:] or (1,)), (), (math.nan if math.isnan(m) else min(m, n),)
    residuals, rank, s = (
        _array(answer[i], b, shape, dtype) for i, (shape, dtype) in enumerate(zip(shapes, (real, np.int32, real)), 1)
    )
    return answer[0], residuals, rank, s if request.singular_values else None


def _array(value: Delayed, like: da.Array, shape: tuple[Any, ...], dtype: Any) -> da.Array:
    meta = like._meta if np.dtype(dtype).kind == "c" else like._meta.real
    return da.from_delayed(value, shape, meta=meta_from_array(meta, ndim=len(shape), dtype=dtype))
