"""The drivers: the certified way for the matrices that it can prove an answer for, the SVD for the others."""

from __future__ import annotations

from typing import Any

import numpy as np

from lstsq._backend import Array, Solution
from lstsq_array_api import _certified, _fused, _svd
from lstsq_array_api import _lacking as lacking
from lstsq_array_api._arithmetic import device, is_complex, nan, working_dtype
from lstsq_array_api._cuda import kernels_for


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
            batch, (m, n), k = a.shape[:-2], a.shape[-2:], b.shape[-1]
            flat = _solve(xp, xp.reshape(a, (-1, m, n)), xp.reshape(b, (-1, m, k)), rcond, driver, singular_values)
            return Solution(*(None if part is None else xp.reshape(part, (*batch, *part.shape[1:])) for part in flat))
        if driver == "cholesky":
            raise TypeError(f"the driver 'cholesky' certifies its answer, and {reason}. Use the driver 'svd'.")
    return _svd.solve(xp, a, b, rcond)


def _why_not_certified(xp: Any, a: Array, b: Array) -> str | None:
    if not (lacking.is_eager(a) and lacking.is_eager(b)):
        return "the numbers of a or b are not known yet: the library is lazy, or a transformation traces them"
    if working_dtype(xp, a) not in (xp.float64, xp.complex128):
        return "the device has no double precision"
    return None


def _solve(xp: Any, a: Array, b: Array, rcond: float, driver: str, singular_values: bool) -> Solution:
    """Solve for ``a (B, M, N)``, ``b (B, M, K)``."""
    dtype, working = a.dtype, working_dtype(xp, a)
    single = working != dtype
    found = _certify(xp, a, b, rcond, working, single, singular_values)
    real = xp.float32 if single else xp.float64
    count, *shape = a.shape
    answer = Solution(
        xp.astype(found.x, dtype),
        xp.astype(found.squares, real),
        xp.full((count,), min(shape), dtype=xp.int32, device=device(a)),
        None if found.s is None else xp.astype(found.s, real),
    )
    bad = np.flatnonzero(~lacking.to_host(found.good))
    if not bad.size:
        return answer
    indices = lacking.to_device(xp, bad, a)
    a_left, b_left = (array if bad.size == count else xp.take(array, indices, axis=0) for array in (a, b))
    left = _solve_uncertified(xp, a_left, b_left, rcond, driver, singular_values)
    if bad.size == count:
        return left
    order = np.arange(count)
    order[bad] = count + np.arange(bad.size)
    places = lacking.to_device(xp, order, a)

    def merge(ours: Array, theirs: Array) -> Array:
        return None if ours is None else xp.take(xp.concat([ours, theirs]), places, axis=0)

    return Solution(*(merge(ours, theirs) for ours, theirs in zip(answer, left)))


def _certify(
    xp: Any, a: Array, b: Array, rcond: float, working: Any, single: bool, singular_values: bool
) -> _certified.Certified:
    """The certified way: by kernels where there are some, else by operations."""
    kernels = None if is_complex(xp, a) else kernels_for(a)
    if kernels is not None:
        found = _fused.solve(xp, kernels, lacking.contiguous(a), lacking.contiguous(b), rcond, singular_values)
        if found is not None:
            return found.with_singular_values(xp, a, working, single) if singular_values else found.answers
    return _certified.solve(xp, xp.astype(a, working), xp.astype(b, working), rcond, single, singular_values)


def _solve_uncertified(xp: Any, a: Array, b: Array, rcond: float, driver: str, singular_values: bool) -> Solution:
    """Solve the problems that have no certificate as they are."""
    finite = xp.all(xp.isfinite(b), axis=-2)
    if not bool(xp.all(finite)):
        # Without the right-hand sides that are not finite there may be one.
        x, squares, rank, s = _solve(
            xp, a, xp.where(finite[:, None, :], b, xp.zeros_like(b)), rcond, driver, singular_values
        )
        return Solution(
            xp.where(finite[:, None, :], x, nan(xp, x)), xp.where(finite, squares, nan(xp, squares)), rank, s
        )
    if driver == "cholesky":
        return _no_answer(xp, a, b)
    return _svd.solve(xp, a, b, rcond)


def _no_answer(xp: Any, a: Array, b: Array) -> Solution:
    (count, m, n), k, where = a.shape, b.shape[-1], device(a)
    real = a.dtype if not is_complex(xp, a) else xp.float32 if a.dtype == xp.complex64 else xp.float64
    nothing = nan(xp, xp.zeros((count, n, k), dtype=a.dtype, device=where))
    residuals, s = (xp.full((count, size), float("nan"), dtype=real, device=where) for size in (k, min(m, n)))
    return Solution(nothing, residuals, xp.zeros((count,), dtype=xp.int32, device=where), s)
