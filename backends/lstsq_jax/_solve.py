"""From the canonical problem to one that cannot overflow and holds finite numbers only, and back."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from lstsq._backend import Solution
from lstsq_jax import _gradient as g
from lstsq_jax._factor import adjoint, factorise


def solve(a: jax.Array, b: jax.Array, rcond: float) -> Solution:
    """Solve for each matrix of the batch: ``a (..., M, N)``, ``b (..., M, K)``. See `Backend.solve`."""
    solution: Solution = _solve(a, b, _round_down(rcond, _working_dtype(a.dtype)))
    return solution


@jax.jit
def _solve(a: jax.Array, b: jax.Array, rcond: jax.Array) -> Solution:
    dtype, working = a.dtype, _working_dtype(a.dtype)
    # Apart, so that `a` need not be factorised again for each b where b alone is mapped over.
    finite_a, finite_b = jnp.isfinite(a).all((-2, -1)), jnp.isfinite(b).all((-2, -1))
    a = _blank(finite_a, a).astype(working)
    b = _blank(finite_b, b).astype(working)

    # Powers of two, so that nothing is rounded. One for each matrix and one for each right-hand side.
    size_a, size_b = _exponent(a, (-2, -1)), _exponent(b, (-2,))
    real = _real(working)
    a, b = a * _two_to(-size_a, real), b * _two_to(-size_b, real)
    if a.shape[-2] >= a.shape[-1]:
        f = factorise(a, rcond)
        x = g.solve(f, a, b)
        residuals = g.squares(f, a, b, x)
    else:
        a = adjoint(a)
        f = factorise(a, rcond)
        x = g.solve_adjoint(f, a, b)
        residuals = g.squares_adjoint(f, a, b, x)
    s = g.singular_values(f, a)

    # In two steps, as the factor may be beyond the dtype where the product is not.
    half = (size_b - size_a) >> 1
    x = x * _two_to(half, real) * _two_to(size_b - size_a - half, real)
    residuals = residuals * _two_to(size_b, real)[..., 0, :] * _two_to(size_b, real)[..., 0, :]
    s = s * _two_to(size_a, real)[..., 0]
    # XLA's SVD gives NaN where it does not converge.
    solved = finite_a & finite_b & ~jnp.isnan(f.s).any(-1)
    # A factor, and no `where`, makes derivatives NaN too: zero would look like an answer.
    nan = jnp.where(solved, 1, jnp.nan).astype(s.dtype)
    return Solution(
        (x * nan[..., None, None]).astype(dtype),
        (residuals * nan[..., None]).astype(_real(dtype)),
        jnp.where(solved, f.keep.sum(-1, dtype=jnp.int32), 0),
        (s * nan[..., None]).astype(_real(dtype)),
    )


@jax.custom_jvp
def _blank(finite: jax.Array, array: jax.Array) -> jax.Array:
    """Zeros in place of each matrix that is not finite, which the SVD might never return from."""
    return jnp.where(finite[..., None, None], array, 0)


@_blank.defjvp
def _blank_jvp(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[jax.Array, jax.Array]:
    # The answer to such a matrix is NaN, and its derivative is let through to be NaN too.
    return _blank(*primals), tangents[1]


def _exponent(array: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """The power of two just below the largest number along these axes, which are kept; 0 for zeros."""
    array = lax.stop_gradient(array)
    size = jnp.abs(array).max(axes, keepdims=True)
    integer, fraction_bits, bias = _layout(size.dtype)
    exponent = (lax.bitcast_convert_type(size, integer) >> fraction_bits) - bias
    # Not so far that the power of the other sign is no normal number.
    return jnp.where(size == 0, 0, lax.clamp(integer(1 - bias), exponent, integer(bias - 1)))


def _two_to(exponent: jax.Array, dtype: Any) -> jax.Array:
    integer, fraction_bits, bias = _layout(dtype)
    return lax.bitcast_convert_type((exponent + integer(bias)) << fraction_bits, dtype)


def _layout(dtype: Any) -> tuple[Any, int, int]:
    """Of a floating-point number: the integer of its size, the bits of the fraction, and the bias of the exponent."""
    return (np.int32, 23, 127) if dtype == np.float32 else (np.int64, 52, 1023)


def _working_dtype(dtype: Any) -> np.dtype[Any]:
    """Double precision where JAX has it."""
    return np.dtype(jax.dtypes.canonicalize_dtype(np.result_type(dtype, np.float64)))


def _real(dtype: Any) -> np.dtype[Any]:
    return np.empty(0, dtype).real.dtype


def _round_down(rcond: float, dtype: np.dtype[Any]) -> np.floating[Any]:
    """The largest number of this precision up to `rcond`, so that no singular value just above the cutoff is lost."""
    limited = min(rcond, 1.0)  # Everything is zero from 1 on.
    rounded: np.floating[Any] = _real(dtype).type(limited)
    return np.nextafter(rounded, _real(dtype).type(0)) if float(rounded) > limited else rounded
