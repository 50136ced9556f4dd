"""The drivers: the certified way for the matrices that it can prove an answer for, the SVD for the others."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import array_api_compat
import numpy as np

from lstsq._arithmetic import device, is_complex, nan, working_dtype
from lstsq._backend import Array, Solution
from lstsq_array_api import _certified, _fused, _svd
from lstsq_array_api import _lacking as lacking
from lstsq_array_api._cuda import kernels_for
from lstsq_array_api._matrix import Matrix

#: Numbers of a batch that are solved at once on a processor, so that they stay in its cache from step to step. Memory
#: that is taken anew for larger arrays costs more than all the arithmetic (measured: torch, two cores, 1 MB each).
CACHED = 1 << 18


def solve(xp: Any, a: Array, b: Array, rcond: float, driver: str, singular_values: bool = True) -> Solution:
    """Solve for ``a (..., M, N)``, ``b (..., M, K)``. See `Backend.solve`; `s` may be None if it is not wanted.

    Raises
    ------
    TypeError
        The driver is "cholesky" and the numbers are not there yet, or the device has no double precision.
    """
    if driver != "svd":
        reason = _why_not_certified(xp, a, b)
        if reason is None:
            return solve_certified(xp, a, b, rcond, driver, singular_values)
        if driver == "cholesky":
            raise TypeError(f"the driver 'cholesky' certifies its answer, and {reason}. Use the driver 'svd'.")
    return _svd.solve(xp, a, b, rcond)


def solve_certified(xp: Any, a: Array, b: Array, rcond: float, driver: str, singular_values: bool) -> Solution:
    """Solve by the certified way, and by the driver "auto" what has no certificate by the SVD.

    The numbers are known, and the device has double precision.
    """
    batch, (m, n), k = a.shape[:-2], a.shape[-2:], b.shape[-1]
    request = _Request(xp, rcond, driver, singular_values)
    if len(batch) == 1:
        return _solve(a, b, request, _reductions(a, b, request))
    flat = _solve(xp.reshape(a, (-1, m, n)), xp.reshape(b, (-1, m, k)), request, _reductions(a, b, request))
    return Solution(*(None if part is None else xp.reshape(part, (*batch, *part.shape[1:])) for part in flat))


def _why_not_certified(xp: Any, a: Array, b: Array) -> str | None:
    if not (lacking.is_eager(a) and lacking.is_eager(b)):
        return "the numbers of a or b are not known yet: the library is lazy, or a transformation traces them"
    if working_dtype(xp, a) not in (xp.float64, xp.complex128):
        return "the device has no double precision"
    return None


class _Request(NamedTuple):
    """What is asked for, and the functions to do it with."""

    xp: Any
    rcond: float
    driver: str
    singular_values: bool


def _reductions(a: Array, b: Array, request: _Request) -> tuple[str, ...]:
    """The reductions to try, one after the other, for the certified way."""
    (m, n), single = a.shape[-2:], working_dtype(request.xp, a) != a.dtype
    on_cpu = lacking.is_on_cpu(a)
    if m == n > _certified.SMALL_SQUARE:
        # On a GPU products are so much faster than a factorisation with pivots that the Gram matrix is worth trying.
        return (("lu in single",) if single else ()) + ("lu",) if on_cpu else ("gram", "lu")
    if m > n > _certified.LARGE and on_cpu and not request.singular_values:
        return (("large in single",) if single else ()) + ("large",)
    if array_api_compat.is_torch_array(a) and not request.singular_values and kernels_for(a) is None:
        from lstsq_array_api import _batches, _batches_on_gpu

        if on_cpu and _batches.takes(a):
            return ("batch", "gram")
        if not on_cpu and _batches_on_gpu.takes(a, b):
            return ("batch on gpu", "gram")
    return ("gram",)


def _solve(a: Array, b: Array, request: _Request, reductions: tuple[str, ...]) -> Solution:
    """Solve for ``a (B, M, N)``, ``b (B, M, K)``."""
    xp, dtype, count, rank = request.xp, a.dtype, a.shape[0], min(a.shape[1:])
    real = xp.float32 if dtype in (xp.float32, xp.complex64) else xp.float64
    found = _certify(a, b, request, reductions[0])
    ranks = found.rank if found.rank is not None else xp.full((count,), rank, dtype=xp.int32, device=device(a))
    if found.x.dtype == dtype:
        answer = Solution(found.x, found.squares, ranks, found.s)
    else:
        s = None if found.s is None else xp.astype(found.s, real)
        answer = Solution(xp.astype(found.x, dtype), xp.astype(found.squares, real), ranks, s)
    if found.good is None:
        return answer
    bad = np.flatnonzero(~lacking.to_host(found.good))
    if bad.size == 0:
        return answer
    indices = lacking.to_device(xp, bad, a)
    a_left, b_left = (array if bad.size == count else xp.take(array, indices, axis=0) for array in (a, b))
    left = _solve_uncertified(a_left, b_left, request, reductions[1:])
    if bad.size == count:
        return left
    order = np.arange(count)
    order[bad] = count + np.arange(bad.size)
    places = lacking.to_device(xp, order, a)

    def merge(ours: Array, theirs: Array) -> Array:
        return None if ours is None else xp.take(xp.concat([ours, theirs]), places, axis=0)

    return Solution(*(merge(ours, theirs) for ours, theirs in zip(answer, left)))


def _certify(a: Array, b: Array, request: _Request, reduction: str) -> _certified.Certified:
    """The certified way: by kernels where there are some, else by operations."""
    xp, rcond, driver, singular_values = request
    kernels = kernels_for(a)
    if kernels is not None:
        a_there, b_there = lacking.contiguous(a), lacking.contiguous(b)
        found = _fused.solve(xp, kernels, a_there, b_there, rcond, singular_values, reveal=driver == "auto")
        if found is not None:
            return found
    if reduction == "batch":
        from lstsq_array_api import _batches

        return _batches.solve(a, b, rcond)
    if reduction == "batch on gpu":
        from lstsq_array_api import _batches_on_gpu

        return _batches_on_gpu.solve(a, b, rcond)
    working, count = working_dtype(xp, a), a.shape[0]
    at_once = count if not lacking.is_on_cpu(a) else max(1, CACHED // math.prod(a.shape[1:]))
    parts, convert = [], lacking.converter(xp, working)
    for start in range(0, count, at_once):
        part = slice(start, min(start + at_once, count))
        matrix = Matrix(xp, a[part, :, :], working, convert)
        right = lacking.by_columns(xp.astype(b[part, :, :], working, copy=False))
        parts.append(_certified.solve(xp, matrix, right, rcond, singular_values, reduction))
    return parts[0] if len(parts) == 1 else _certified.joined(xp, parts)


def _solve_uncertified(a: Array, b: Array, request: _Request, reductions: tuple[str, ...]) -> Solution:
    """Solve the problems for which the reductions so far gave no certificate."""
    xp = request.xp
    if reductions:
        return _solve(a, b, request, reductions)
    finite = xp.all(xp.isfinite(b), axis=-2)
    if not bool(xp.all(finite)):
        # Without the right-hand sides that are not finite there may be a certificate.
        b = xp.where(finite[:, None, :], b, xp.zeros_like(b))
        x, squares, rank, s = _solve(a, b, request, _reductions(a, b, request))
        x, squares = (
            xp.where(lost, nan(xp, part), part) for lost, part in ((~finite[:, None, :], x), (~finite, squares))
        )
        return Solution(x, squares, rank, s)
    if request.driver == "cholesky":
        return _no_answer(xp, a, b)
    return _svd.solve(xp, a, b, request.rcond)


def _no_answer(xp: Any, a: Array, b: Array) -> Solution:
    (count, m, n), k, where = a.shape, b.shape[-1], device(a)
    real = a.dtype if not is_complex(a) else xp.float32 if a.dtype == xp.complex64 else xp.float64
    nothing = nan(xp, xp.zeros((count, n, k), dtype=a.dtype, device=where))
    residuals, s = (xp.full((count, size), float("nan"), dtype=real, device=where) for size in (k, min(m, n)))
    return Solution(nothing, residuals, xp.zeros((count,), dtype=xp.int32, device=where), s)
