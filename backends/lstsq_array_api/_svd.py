"""Minimum-norm least squares in the functions of the array-API standard, without a branch on any value."""

from __future__ import annotations

import math
from typing import Any

import array_api_compat

from lstsq._backend import Array, Solution


def solve(xp: Any, a: Array, b: Array, rcond: float) -> Solution:
    """Solve for each matrix of the batch: ``a (..., M, N)``, ``b (..., M, K)``. See `Backend.solve`."""
    dtype = a.dtype
    finite = xp.all(xp.isfinite(a), axis=(-2, -1)) & xp.all(xp.isfinite(b), axis=(-2, -1))
    # Zeros in place of a matrix that is not finite, for which the SVD of some libraries raises or never returns.
    a = xp.where(finite[..., None, None], a, xp.zeros_like(a))
    b = xp.where(finite[..., None, None], b, xp.zeros_like(b))
    working = _working_dtype(xp, a)
    a, b = xp.astype(a, working), xp.astype(b, working)

    # Powers of two, so that nothing is rounded. One for each matrix and one for each right-hand side.
    size_a, size_b = _exponent(xp, a, (-2, -1)), _exponent(xp, b, -2)
    a, b = _times_power_of_two(xp, a, -size_a), _times_power_of_two(xp, b, -size_b)
    x, r, keep, s = _solve_scaled(xp, a, b, rcond)
    squares = xp.sum(xp.real(r) ** 2 + xp.imag(r) ** 2 if _is_complex(xp, r) else r**2, axis=-2)

    real = s.dtype
    x = _times_power_of_two(xp, x, size_b - size_a)
    squares = _times_power_of_two(xp, squares, 2 * size_b[..., 0, :])
    s = _times_power_of_two(xp, s, size_a[..., 0])
    nan = xp.where(finite, xp.zeros_like(size_a[..., 0, 0]), xp.asarray(math.nan, dtype=real, device=_device(a)))
    rank = xp.sum(xp.astype(keep, xp.int32), axis=-1, dtype=xp.int32)
    real_out = xp.float32 if dtype in (xp.float32, xp.complex64) else xp.float64
    return Solution(
        xp.astype(x + xp.astype(nan, x.dtype)[..., None, None], dtype),
        xp.astype(squares + nan[..., None], real_out),
        rank,
        xp.astype(s + nan[..., None], real_out),
    )


def _solve_scaled(xp: Any, a: Array, b: Array, rcond: float) -> tuple[Array, Array, Array, Array]:
    """The solution, the residual ``b - a x``, which singular values are kept, and these."""
    wide = a.shape[-2] < a.shape[-1]
    u, s, vh = _thin_svd(xp, _adjoint(xp, a) if wide else a)
    if wide:
        u, vh = _adjoint(xp, vh), _adjoint(xp, u)
    keep = s > min(rcond, 1.0) * s[..., :1]  # Everything is zero from 1 on.
    divisor = xp.astype(xp.where(keep, s, xp.ones_like(s)), a.dtype)[..., None]
    mask = xp.astype(keep, a.dtype)[..., None]

    def apply_pinv(rhs: Array) -> Array:
        return xp.matmul(_adjoint(xp, vh), mask * xp.matmul(_adjoint(xp, u), rhs) / divisor)

    x = apply_pinv(b)
    x = x + apply_pinv(b - xp.matmul(a, x))  # One step of iterative refinement.
    return x, b - xp.matmul(a, x), keep, s


def _thin_svd(xp: Any, a: Array) -> tuple[Array, Array, Array]:
    m, n = a.shape[-2:]
    if m < 2 * n:
        u, s, vh = xp.linalg.svd(a, full_matrices=False)
        return u, s, vh
    q, triangle = xp.linalg.qr(a, mode="reduced")  # The SVD then works on N x N matrices.
    u, s, vh = xp.linalg.svd(triangle, full_matrices=False)
    return xp.matmul(q, u), s, vh


def _adjoint(xp: Any, a: Array) -> Array:
    transposed = xp.linalg.matrix_transpose(a)
    return xp.conj(transposed) if _is_complex(xp, a) else transposed


def _exponent(xp: Any, a: Array, axis: int | tuple[int, ...]) -> Array:
    """The power of two just below the largest number along these axes, which are kept; 0 for zeros."""
    size = xp.maximum(xp.abs(xp.real(a)), xp.abs(xp.imag(a))) if _is_complex(xp, a) else xp.abs(a)
    largest = xp.max(size, axis=axis, keepdims=True)
    return xp.floor(xp.log2(xp.where(largest > 0, largest, xp.ones_like(largest))))


def _times_power_of_two(xp: Any, a: Array, exponent: Array) -> Array:
    # In two steps, as the factor may be beyond the dtype where the product is not.
    limit = math.floor(math.log2(float(xp.finfo(exponent.dtype).max))) - 1
    half = xp.floor(exponent / 2)
    for part in (half, exponent - half):
        factor = xp.pow(xp.full_like(part, 2.0), xp.clip(part, -limit, limit))
        a = a * xp.astype(factor, a.dtype)
    return a


def _working_dtype(xp: Any, a: Array) -> Any:
    """Double precision where the device has it."""
    double = "complex128" if _is_complex(xp, a) else "float64"
    return xp.__array_namespace_info__().dtypes(device=_device(a)).get(double, a.dtype)


def _is_complex(xp: Any, a: Array) -> bool:
    return bool(xp.isdtype(a.dtype, "complex floating"))


def _device(a: Array) -> Any:
    return array_api_compat.device(a)
