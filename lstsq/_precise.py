"""Arithmetic on the arrays of any library that is as precise as the backends' own: double inside, at any scale."""

from __future__ import annotations

from typing import Any

from lstsq._arithmetic import largest, largest_exponent, times_power_of_two
from lstsq._backend import Array, Backend


def working_dtype(home: Backend, xp: Any, array: Array, dtype: str) -> str:
    """The dtype to compute in for results of this `dtype`: double precision where the device of `array` has it."""
    double = "complex128" if dtype.startswith("complex") else "float64"
    return double if double in _dtypes(home, xp, array) else dtype


def _dtypes(home: Backend, xp: Any, array: Array) -> Any:
    info, device = xp.__array_namespace_info__(), home.device(array)
    return info.dtypes() if device is None else info.dtypes(device=device)


def residual(home: Backend, xp: Any, a: Array, x: Array, b: Array, dtype: str) -> Array:
    """``b - a x``, for ``a (..., M, N)``, ``x (..., N, K)`` and ``b (..., M, K)``, in double where the library has it.

    The result is of the dtype computed in; where a library has float64 and no complex128, as MLX, it is complex64.
    """
    working = working_dtype(home, xp, a, dtype)
    if working == "complex64" and "float64" in _dtypes(home, xp, a):
        (a_re, a_im), (x_re, x_im), (b_re, b_im) = (
            [xp.astype(part, xp.float64) for part in (xp.real(array), xp.imag(array))]
            for array in (xp.astype(array, xp.complex64) for array in (a, x, b))
        )
        parts = xp.concat([x_re, x_im], axis=-2)
        real = b_re - home.matmul(xp.concat([a_re, -a_im], axis=-1), parts)
        imaginary = b_im - home.matmul(xp.concat([a_im, a_re], axis=-1), parts)
        return xp.astype(xp.astype(real, xp.float32), xp.complex64) + 1j * xp.astype(imaginary, xp.float32)
    a, x, b = (xp.astype(array, getattr(xp, working)) for array in (a, x, b))
    if working != dtype or 0 in (*a.shape, *x.shape, *b.shape):
        # Products of single precision are far from the ends of the range of double.
        return b - home.matmul(a, x)
    # The power of two of each column of the result: neither a product nor a sum of products then leaves the range.
    of_a, of_x, of_b = exponent(xp, a, (-2, -1)), exponent(xp, x, -2), exponent(xp, b, -2)
    size = xp.maximum(of_a + of_x, of_b)
    product = home.matmul(times_power_of_two(xp, a, -of_a), times_power_of_two(xp, x, of_a - size))
    return times_power_of_two(xp, times_power_of_two(xp, b, -size) - product, size)


def exponent(xp: Any, a: Array, axis: int | tuple[int, ...]) -> Array:
    """The power of two at the largest number along these axes, which are kept; 0 where that is an ordinary number.

    What is ordinary is then multiplied by 1, which changes nothing and has no derivative.
    """
    size = xp.max(largest(xp, a), axis=axis, keepdims=True)
    known = (size > 0) & xp.isfinite(size)
    found = xp.floor(xp.log2(xp.where(known, size, xp.ones_like(size))))
    return xp.where(xp.abs(found) > largest_exponent(xp, found.dtype) // 5, found, xp.zeros_like(found))
