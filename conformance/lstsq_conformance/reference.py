"""What the right answer is: truncated least squares by an SVD in double precision, written for clarity.

Independent of the code under test on purpose: the cutoff rule is stated here a second time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

NumpyArray = np.ndarray[Any, Any]


class Truth(NamedTuple):
    """The factors of A and the solution, of one problem or of a batch of them, in double precision."""

    u: NumpyArray
    s: NumpyArray
    vh: NumpyArray
    #: 1.0 for each singular value that counts and 0.0 for each that is cut off.
    kept: NumpyArray
    x: NumpyArray
    residuals: NumpyArray


def eps_of(dtype: str) -> float:
    """The spacing of the numbers of this dtype next to 1."""
    return float(np.finfo(dtype).eps)


def real_of(dtype: str) -> str:
    """The dtype of the real parts."""
    return str(np.empty(0, dtype).real.dtype)


def cutoff(rcond: float | None, dtype: str, m: int, n: int) -> float:
    """The contract's cutoff, relative to the largest singular value."""
    eps = eps_of(dtype)
    if rcond is None:
        return eps * max(m, n) if real_of(dtype) == "float64" else eps * min(max(m, n), 16)
    # LAPACK's machine precision is half the spacing of the numbers.
    return eps / 2 if rcond < 0 else rcond


def solve(a: NumpyArray, b: NumpyArray, relative_cutoff: float) -> Truth:
    """Solve ``(..., M, N)`` against ``(..., M, K)`` with this numeric cutoff.

    The solution is refined once with the residual in twice the precision, so that it is a reference for float64 too.
    """
    double = np.result_type(a.dtype, b.dtype, np.float64)
    a, b = a.astype(double), b.astype(double)
    factors = np.linalg.svd(a, full_matrices=False)
    s = factors[1]
    return _solve(a, b, factors, (s > relative_cutoff * s[..., :1]).astype(float))


def solve_at_rank(a: NumpyArray, b: NumpyArray, rank: int) -> Truth:
    """Solve with exactly this many singular values: what is differentiable wherever the next one is smaller."""
    factors = np.linalg.svd(a, full_matrices=False)
    s = factors[1]
    return _solve(a, b, factors, np.broadcast_to((np.arange(s.shape[-1]) < rank).astype(float), s.shape))


def _solve(a: NumpyArray, b: NumpyArray, factors: tuple[NumpyArray, ...], kept: NumpyArray) -> Truth:
    u, s, vh = factors
    inverse = kept / np.where(kept > 0, s, 1)

    def pseudo_solve(rhs: NumpyArray) -> NumpyArray:
        return np.asarray(dagger(vh) @ (inverse[..., None] * (dagger(u) @ rhs)))

    x = pseudo_solve(b)
    x = x + pseudo_solve(residual(a, x, b))
    return Truth(u, s, vh, kept, x, np.sum(np.abs(residual(a, x, b)) ** 2, axis=-2))


def dagger(a: NumpyArray) -> NumpyArray:
    """The conjugate transpose."""
    return np.asarray(np.conj(np.swapaxes(a, -1, -2)))


def residual(a: NumpyArray, x: NumpyArray, b: NumpyArray) -> NumpyArray:
    """``b - a @ x``, as if computed in twice the working precision and rounded once.

    Products and sums are split into value and rounding error, and the errors are summed beside the values. The terms
    are added in pairs, which takes few steps and keeps the errors small. Done by hand because `numpy.longdouble` is no
    wider than double on half of the platforms.

    References
    ----------
    T. Ogita, S. M. Rump and S. Oishi, "Accurate sum and dot product", SIAM J. Sci. Comput. 26 (2005), algorithm 5.3.
    """
    if np.iscomplexobj(a) or np.iscomplexobj(x) or np.iscomplexobj(b):
        wide = np.concatenate([a.real, -a.imag], axis=-1)
        tall = np.concatenate([a.imag, a.real], axis=-1)
        parts = np.concatenate([x.real, x.imag], axis=-2)
        return np.asarray(residual(wide, parts, b.real) + 1j * residual(tall, parts, b.imag))
    product, lost = two_product(-a[..., :, :, None], x[..., None, :, :])
    first = np.broadcast_to(b[..., None, :], (*product.shape[:-2], 1, product.shape[-1]))
    terms, error = np.concatenate([first, product], axis=-2), lost.sum(axis=-2)
    while terms.shape[-2] > 1:
        half = terms.shape[-2] // 2
        total, more = two_sum(terms[..., :half, :], terms[..., half : 2 * half, :])
        terms, error = np.concatenate([total, terms[..., 2 * half :, :]], axis=-2), error + more.sum(axis=-2)
    return np.asarray(terms[..., 0, :] + error)


def two_sum(p: NumpyArray, q: NumpyArray) -> tuple[NumpyArray, NumpyArray]:
    """The sum rounded, and what was lost."""
    total = p + q
    virtual = total - p
    return total, (p - (total - virtual)) + (q - virtual)


def two_product(p: NumpyArray, q: NumpyArray) -> tuple[NumpyArray, NumpyArray]:
    """The product rounded, and what was lost."""
    product = p * q
    p_high, p_low = split(p)
    q_high, q_low = split(q)
    return product, p_low * q_low - (((product - p_high * q_high) - p_low * q_high) - p_high * q_low)


def split(p: NumpyArray) -> tuple[NumpyArray, NumpyArray]:
    """Two halves of the digits, whose products are exact."""
    scaled = p * (2.0**27 + 1)
    high = scaled - (scaled - p)
    return high, p - high


#: Central differences of sixth order: f'(0) is the sum of weight * f(step * h) / h.
_STENCIL = ((1, 3 / 4), (2, -3 / 20), (3, 1 / 60), (-1, -3 / 4), (-2, 3 / 20), (-3, -1 / 60))


def gradient(f: Callable[[NumpyArray], NumpyArray], at: NumpyArray, h: float) -> NumpyArray:
    """Derivatives of the real `f` with respect to the entries of `at`, by central differences of sixth order.

    `f` maps a stack ``(S, *at.shape)`` to ``(S, ...)``; the result is ``(*at.shape, ...)``. For complex `at` it is the
    derivative with respect to the real part plus i times that with respect to the imaginary part.
    """
    units = np.eye(at.size).reshape(at.size, *at.shape)
    real = directional(f, at, units, h)
    total = real + 1j * directional(f, at, 1j * units, h) if np.iscomplexobj(at) else real
    return total.reshape(*at.shape, *total.shape[1:])


def directional(f: Callable[[NumpyArray], NumpyArray], at: NumpyArray, along: NumpyArray, h: float) -> NumpyArray:
    """Derivatives of `f` at `at` (one point, or S of them) along each of the directions ``along (S, *shape)``."""
    values = f(np.concatenate([at + step * h * along for step, _ in _STENCIL]))
    values = values.reshape(len(_STENCIL), len(along), *values.shape[1:])
    return np.asarray(np.tensordot([weight / h for _, weight in _STENCIL], values, axes=1))
