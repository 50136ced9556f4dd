"""A matrix by its thin singular value decomposition, and solutions from it, in the array-API standard's functions.

    A = 2ᵖ U diag(s) Vᴴ,    c = Uᴴ b,    x = 2⁻ᵖ V diag(f) c,    ‖b − A x‖² = ‖b − U c‖² + ‖(1 − f s) c‖²

The filter f is 1/s for each singular value that counts and 0 for the others; with a penalty λ ‖x‖² it is s / (s² + λ).
So a right-hand side costs products with U and V, and a path of penalties costs no more products with U than one does.
Both terms of the residual sum are positive: nothing cancels. A itself is not read again.

References
----------
G. H. Golub and C. F. Van Loan, Matrix Computations (4th ed., 2013), sections 5.5.3 (rank-deficient least squares) and
6.1.4 (ridge regression).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from lstsq._arithmetic import adjoint, exponent, headroom, is_complex, join, largest_exponent, nan, times_power_of_two

#: Any array of any library.
Array = Any


class Factors(NamedTuple):
    """``a = 2**power * u @ diag(s) @ vh``, with k = min(M, N), in the precision that is computed in."""

    #: (..., M, k), orthonormal columns.
    u: Array
    #: (..., k), real, descending; NaN where the matrix is not finite.
    s: Array
    #: (..., k, N), orthonormal rows.
    vh: Array
    #: (..., 1, 1), real, whole numbers: 2 to this is about the largest number of the matrix.
    power: Array


class Filtered(NamedTuple):
    """Solutions for all penalties, side by side: L of them, or 1 where there is no penalty."""

    #: (..., N, L K)
    x: Array
    #: (..., L K), real.
    squares: Array
    #: (...), integer.
    rank: Array
    #: (..., k), real: the singular values of the matrix.
    s: Array


def factorise(xp: Any, a: Array, working: Any, svd: Callable[[Array], tuple[Array, ...]]) -> Factors:
    """Factorise ``a (..., M, N)``, of no size 0, in the dtype `working` by `svd`, which finds thin factors."""
    finite = xp.all(xp.isfinite(a), axis=(-2, -1))
    # Zeros in place of a matrix that is not finite, for which the SVD of some libraries raises or never returns.
    a = xp.astype(xp.where(finite[..., None, None], a, xp.zeros_like(a)), working)
    # A power of two, so that nothing is rounded, and no square of a singular value leaves the range; none is needed for
    # matrices of ordinary size.
    power = exponent(xp, a, (-2, -1))
    power = xp.where(xp.abs(power) > ordinary(xp, power.dtype), power, xp.zeros_like(power))
    u, s, vh = thin_svd(xp, times_power_of_two(xp, a, -power), svd)
    return Factors(u, xp.where(finite[..., None], s, nan(xp, s)), vh, power)


def thin_svd(xp: Any, a: Array, svd: Callable[[Array], tuple[Array, ...]]) -> tuple[Array, Array, Array]:
    """U, s and Vᴴ of ``a (..., M, N)``. A long matrix is reduced by QR first, so that `svd` has a small one."""
    m, n = a.shape[-2:]
    if m < n:
        u, s, vh = thin_svd(xp, adjoint(xp, a), svd)
        return adjoint(xp, vh), s, adjoint(xp, u)
    if m < 2 * n:
        u, s, vh = svd(a)
        return u, s, vh
    q, triangle = xp.linalg.qr(a)
    u, s, vh = svd(triangle)
    return xp.matmul(q, u), s, vh


def adjoint_of(xp: Any, f: Factors) -> Factors:
    """The factors of the adjoint matrix."""
    return Factors(adjoint(xp, f.vh), f.s, adjoint(xp, f.u), f.power)


def kept(f: Factors, rcond: Any) -> Array:
    """Which singular values count, ``(..., k)``. Where the matrix is not finite none does."""
    return f.s > rcond * f.s[..., : min(1, f.s.shape[-1])]


def count(xp: Any, keep: Array) -> Array:
    """How many count, ``(...)``: the rank."""
    return xp.astype(xp.sum(xp.astype(keep, xp.int32), axis=-1), xp.int32)


def singular_values(xp: Any, f: Factors) -> Array:
    """The singular values of the matrix, in the precision of the factors."""
    return times_power_of_two(xp, f.s, f.power[..., 0])


def solve(xp: Any, f: Factors, b: Array, rcond: Any, penalties: Array | None = None) -> Filtered:
    """Solve for ``b (..., M, K)`` with the same batch dimensions as the factors; for each of ``penalties (L,)``."""
    working = xp.result_type(f.u.dtype, b.dtype)
    u, vh = (part if part.dtype == working else xp.astype(part, working) for part in (f.u, f.vh))
    finite = xp.all(xp.isfinite(b), axis=-2)
    # Zeros in place of a right-hand side that is not finite, which would spoil the others.
    b = xp.astype(xp.where(finite[..., None, :], b, xp.zeros_like(b)), working)
    # One power of two for each right-hand side, which is left so small that nothing overflows over a singular value.
    of_b = exponent(xp, b, -2)
    of_b = of_b + headroom(xp, of_b.dtype)
    b = times_power_of_two(xp, b, -of_b)
    c = adjoint(xp, xp.matmul(adjoint(xp, b), u))
    # What no x reaches is the same for all penalties.
    outside = _sums_of_squares(xp, b - xp.matmul(u, c), of_b)

    keep = kept(f, min(rcond, 1.0) if isinstance(rcond, float) else rcond)
    inverse, dropped = _filter(xp, f, keep, rcond, penalties)
    y, inside = (_times_each(xp, weights, c, working) for weights in (inverse, dropped))
    if penalties is not None:
        of_b, outside, finite = (xp.concat([part] * inverse.shape[-1], axis=-1) for part in (of_b, outside, finite))
    x = times_power_of_two(xp, xp.matmul(adjoint(xp, vh), y), of_b - f.power)
    squares = outside + _sums_of_squares(xp, inside, of_b)
    answered = finite & ~xp.isnan(f.s[..., :1])
    # As a factor: the derivative with respect to such a right-hand side is then NaN too, and not 0 without a word.
    real = xp.zeros_like(squares)
    spoilt = xp.where(answered, real + 1, nan(xp, real))
    return Filtered(
        _times_real(xp, x, spoilt[..., None, :]),
        squares * spoilt,
        count(xp, keep),
        singular_values(xp, f),
    )


def solve_ordinary(f: Factors, b: Array, rcond: Any) -> Filtered | None:
    """The answer of `solve` for one matrix whose numbers are there; None where a number is extreme or not finite.

    `b (M, K)` is of the factors' dtype. Of few operations: for one right-hand side they take longer than the products.
    The arrays are of NumPy or of what has its operators and methods.
    """
    u, s, vh, power = f
    values = s.tolist()
    if not (power.item() == 0 and _LEAST <= values[0] <= _MOST):
        return None
    # As rows, and one right-hand side as a vector: BLAS is then asked for what it is fastest at.
    rows = b[:, 0] if b.shape[1] == 1 else b.T
    of_complex = is_complex(u)
    c = (rows.conj() @ u).conj() if of_complex else rows @ u
    left = c @ u.T
    left -= rows
    squares = _sums_of_rows(left, of_complex)
    cutoff = min(rcond, 1.0) * values[0]
    rank = len(values)
    if values[-1] <= cutoff:
        rank = sum(value > cutoff for value in values)
        squares = squares + _sums_of_rows(c[..., rank:], of_complex)
        c, s, vh = c[..., :rank], s[:rank], vh[:rank]
    x = (c / s) @ (vh.conj() if of_complex else vh)
    # About ‖b‖², which tells the size of each right-hand side, and that it is finite.
    sizes = squares + _sums_of_rows(c, of_complex)
    smallest, largest = (sizes.item(),) * 2 if sizes.ndim == 0 else (sizes.min().item(), sizes.max().item())
    if (rank and values[rank - 1] < _LEAST) or not _LEAST**2 <= smallest <= largest <= _MOST**2:
        return None
    if b.shape[1] == 1:
        return Filtered(x[:, None], squares.reshape(1), rank, f.s)
    return Filtered(x.T, squares, rank, f.s)


#: Numbers up to 2^200 and down to 2^-200 are solved as they are: no product or square of such leaves the range.
_MOST, _LEAST = 2.0**200, 2.0**-200


def ordinary(xp: Any, dtype: Any) -> int:
    """The exponents that are, for this dtype, near enough to 0."""
    return largest_exponent(xp, dtype) // 5


def _sums_of_rows(r: Array, of_complex: bool) -> Array:
    """The sum of squares of each row, or of the one vector."""
    if of_complex:
        return (r.real**2 + r.imag**2).sum(-1)
    return r @ r if r.ndim == 1 else (r * r).sum(-1)


def _filter(xp: Any, f: Factors, keep: Array, rcond: Any, penalties: Array | None) -> tuple[Array, Array]:
    """What c is multiplied by in the solution and in the residual, ``(..., k, L)``."""
    s, keep, zero = f.s[..., None], keep[..., None], xp.zeros_like(f.s)[..., None]
    if penalties is None:
        return xp.where(keep, 1 / xp.where(keep, s, zero + 1), zero), xp.where(keep, zero, zero + 1)
    # Of the scaled matrix. A singular value of [A; sqrt(λ) I] counts by the same cutoff.
    penalty = times_power_of_two(xp, xp.astype(penalties, s.dtype) + zero[..., :1, :], -2 * f.power)
    augmented = xp.sqrt(s**2 + penalty)
    counts = xp.where(penalty > 0, augmented > rcond * augmented[..., :1, :], keep) & (s > 0)
    s = xp.where(counts, s, zero + 1)
    inverse = 1 / (s + penalty / s)
    # Without a penalty the quotient is infinite, and nothing of c is left.
    dropped = 1 / (1 + s * (s / penalty))
    return xp.where(counts, inverse, zero), xp.where(counts, dropped, zero + 1)


def _times_each(xp: Any, weights: Array, c: Array, dtype: Any) -> Array:
    """Each of L weights ``(..., k, L)`` times ``c (..., k, K)``, side by side: ``(..., k, L K)``."""
    product = xp.astype(weights, dtype)[..., :, :, None] * c[..., :, None, :]
    return xp.reshape(product, (*c.shape[:-1], weights.shape[-1] * c.shape[-1]))


def _times_real(xp: Any, x: Array, factor: Array) -> Array:
    if not is_complex(x):
        return x * factor
    # Each part for itself: a complex product would make NaN of an infinite part.
    return join(xp, xp.real(x) * factor, xp.imag(x) * factor, x.dtype)


def _sums_of_squares(xp: Any, r: Array, power: Array) -> Array:
    """Of each column of ``2**power * r``, without a square that over- or underflows on the way."""
    size = exponent(xp, r, -2)
    r = times_power_of_two(xp, r, -size)
    squares = xp.sum(xp.real(r) ** 2 + xp.imag(r) ** 2 if is_complex(r) else r**2, axis=-2)
    return times_power_of_two(xp, squares, 2 * (power + size)[..., 0, :])
