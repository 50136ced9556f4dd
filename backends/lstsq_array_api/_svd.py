"""Minimum-norm least squares in the functions of the array-API standard, without a branch on any value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lstsq._arithmetic import adjoint, exponent, headroom, is_complex, nan, times_power_of_two, working_dtype
from lstsq._backend import Array, Solution
from lstsq._factors import thin_svd
from lstsq_array_api import _lacking as lacking

#: The solution, the residual ``b - a x``, which singular values are kept, and these.
Scaled = tuple[Array, Array, Array, Array]


def solve(xp: Any, a: Array, b: Array, rcond: float, solve_scaled: Callable[..., Scaled] | None = None) -> Solution:
    """Solve for each matrix of the batch: ``a (..., M, N)``, ``b (..., M, K)``. See `Backend.solve`.

    `solve_scaled` is another way to solve what is finite and scaled, with the arguments of `solve_scaled_by_svd`.
    """
    dtype = a.dtype
    finite_a, finite_b = xp.all(xp.isfinite(a), axis=(-2, -1)), xp.all(xp.isfinite(b), axis=-2)
    # Zeros in place of a matrix that is not finite, for which the SVD of some libraries raises or never returns, and in
    # place of a right-hand side that is not, which would spoil the others.
    a = xp.where(finite_a[..., None, None], a, xp.zeros_like(a))
    b = xp.where(finite_b[..., None, :], b, xp.zeros_like(b))
    working = working_dtype(xp, a)
    a, b = xp.astype(a, working), xp.astype(b, working)

    # Powers of two, so that nothing is rounded. One for each matrix, each residual and each right-hand side, which is
    # left so small that one over the smallest singular value does not overflow.
    size_a, size_b = exponent(xp, a, (-2, -1)), exponent(xp, b, -2)
    size_b = size_b + headroom(xp, size_b.dtype)
    a, b = times_power_of_two(xp, a, -size_a), times_power_of_two(xp, b, -size_b)
    x, r, keep, s = (solve_scaled or solve_scaled_by_svd)(xp, a, b, rcond)
    size_r = exponent(xp, r, -2)
    r = times_power_of_two(xp, r, -size_r)
    squares = xp.sum(xp.real(r) ** 2 + xp.imag(r) ** 2 if is_complex(r) else r**2, axis=-2)

    x = times_power_of_two(xp, x, size_b - size_a)
    squares = times_power_of_two(xp, squares, 2 * (size_b + size_r)[..., 0, :])
    s = times_power_of_two(xp, s, size_a[..., 0])
    real_out = xp.float32 if dtype in (xp.float32, xp.complex64) else xp.float64
    x, squares, s = xp.astype(x, dtype), xp.astype(squares, real_out), xp.astype(s, real_out)
    answered = finite_a[..., None] & finite_b
    return Solution(
        xp.where(answered[..., None, :], x, nan(xp, x)),
        xp.where(answered, squares, nan(xp, squares)),
        xp.sum(xp.astype(keep, xp.int32), axis=-1, dtype=xp.int32),
        xp.where(finite_a[..., None], s, nan(xp, s)),
    )


def solve_scaled_by_svd(xp: Any, a: Array, b: Array, rcond: float) -> Scaled:
    u, s, vh = thin_svd(xp, a, lambda a: lacking.svd(xp, a))
    keep = s > min(rcond, 1.0) * s[..., :1]  # Everything is zero from 1 on.
    divisor = xp.astype(xp.where(keep, s, xp.ones_like(s)), a.dtype)[..., None]
    mask = xp.astype(keep, a.dtype)[..., None]

    def apply_pinv(rhs: Array) -> Array:
        return xp.matmul(adjoint(xp, vh), mask * xp.matmul(adjoint(xp, u), rhs) / divisor)

    x = apply_pinv(b)
    x = x + apply_pinv(b - xp.matmul(a, x))  # One step of iterative refinement.
    return x, b - xp.matmul(a, x), keep, s
