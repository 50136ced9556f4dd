"""Minimum-norm least squares in the functions of the array-API standard, without a branch on any value."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import array_api_compat

from lstsq._backend import Array, Solution

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
    working = _working_dtype(xp, a)
    a, b = xp.astype(a, working), xp.astype(b, working)

    # Powers of two, so that nothing is rounded. One for each matrix, each residual and each right-hand side, which is
    # left so small that one over the smallest singular value does not overflow.
    size_a, size_b = _exponent(xp, a, (-2, -1)), _exponent(xp, b, -2)
    size_b = size_b + _headroom(xp, size_b.dtype)
    a, b = _times_power_of_two(xp, a, -size_a), _times_power_of_two(xp, b, -size_b)
    x, r, keep, s = (solve_scaled or solve_scaled_by_svd)(xp, a, b, rcond)
    size_r = _exponent(xp, r, -2)
    r = _times_power_of_two(xp, r, -size_r)
    squares = xp.sum(xp.real(r) ** 2 + xp.imag(r) ** 2 if _is_complex(xp, r) else r**2, axis=-2)

    x = _times_power_of_two(xp, x, size_b - size_a)
    squares = _times_power_of_two(xp, squares, 2 * (size_b + size_r)[..., 0, :])
    s = _times_power_of_two(xp, s, size_a[..., 0])
    real_out = xp.float32 if dtype in (xp.float32, xp.complex64) else xp.float64
    x, squares, s = xp.astype(x, dtype), xp.astype(squares, real_out), xp.astype(s, real_out)
    answered = finite_a[..., None] & finite_b
    return Solution(
        xp.where(answered[..., None, :], x, _nan(xp, x)),
        xp.where(answered, squares, _nan(xp, squares)),
        xp.sum(xp.astype(keep, xp.int32), axis=-1, dtype=xp.int32),
        xp.where(finite_a[..., None], s, _nan(xp, s)),
    )


def solve_scaled_by_svd(xp: Any, a: Array, b: Array, rcond: float) -> Scaled:
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
    if _is_complex(xp, a):
        # Each part for itself: a complex product would make NaN of an infinite part.
        real, imaginary = (_times_power_of_two(xp, part, exponent) for part in (xp.real(a), xp.imag(a)))
        return _complex(xp, real, imaginary, a.dtype)
    # In three steps, as the factor may be beyond the dtype where the product is not.
    limit = _largest_exponent(xp, exponent.dtype)
    third = xp.floor(exponent / 3)
    for part in (third, third, exponent - 2 * third):
        a = a * xp.pow(xp.full_like(part, 2.0), xp.clip(part, -limit, limit))
    return a


def _complex(xp: Any, real: Array, imaginary: Array, dtype: Any) -> Array:
    """The complex numbers of these parts, infinite ones too: infinity times i would be NaN, and a sum is not."""
    largest = float(xp.finfo(imaginary.dtype).max)
    bounded = xp.clip(imaginary, -largest, largest)
    beyond = xp.where(xp.isinf(imaginary), bounded, xp.zeros_like(bounded))  # Twice the largest number is infinite.
    return xp.astype(real, dtype) + 1j * xp.astype(bounded, dtype) + 1j * xp.astype(beyond, dtype)


def _nan(xp: Any, like: Array) -> Array:
    """NaN, in both parts of a complex number."""
    nan = xp.full_like(xp.real(like) if _is_complex(xp, like) else like, math.nan)
    return _complex(xp, nan, nan, like.dtype) if _is_complex(xp, like) else nan


def _largest_exponent(xp: Any, dtype: Any) -> int:
    """Two to plus and minus this many are normal numbers of this dtype."""
    return math.floor(math.log2(float(xp.finfo(dtype).max))) - 2


def _headroom(xp: Any, dtype: Any) -> float:
    """By how many powers of two the smallest subnormal number is farther from 1 than the largest number, and more."""
    return _largest_exponent(xp, dtype) // 5


def _working_dtype(xp: Any, a: Array) -> Any:
    """Double precision where the device has it."""
    double = "complex128" if _is_complex(xp, a) else "float64"
    return xp.__array_namespace_info__().dtypes(device=_device(a)).get(double, a.dtype)


def _is_complex(xp: Any, a: Array) -> bool:
    return bool(xp.isdtype(a.dtype, "complex floating"))


def _device(a: Array) -> Any:
    return array_api_compat.device(a)
