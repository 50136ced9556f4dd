"""A matrix factorised once: solutions by its factors, with the derivatives of a solution.

The factors are constants to JAX. What is solved with them has the rules of `_gradient`, which take the factors to spare
a second decomposition: so nothing is decomposed again, neither for a solution nor for a derivative of any order.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero

from lstsq import _factors
from lstsq._backend import Solution
from lstsq._factorization import Factorization
from lstsq._factors import Factors
from lstsq._weighted import Given, Kept
from lstsq_jax import _gradient as g
from lstsq_jax import _reduce  # noqa: F401  A factorisation may hold a reduction, which is a pytree.
from lstsq_jax._factor import Factors as TallFactors
from lstsq_jax._factor import _inverse, adjoint
from lstsq_jax._nonfinite import blank, spoil
from lstsq_jax._place import beside
from lstsq_jax._solve import (
    _canonical,
    _Matrix,
    _over,
    _real,
    _residuals,
    _round_down,
    _solution,
    _working_dtype,
)


@jax.jit
def factorise(a: jax.Array) -> Factors:
    """Factorise ``a (..., M, N)``. See `Backend.factorize`."""

    def svd(a: jax.Array) -> tuple[jax.Array, ...]:
        return tuple(lax.linalg.svd(a, full_matrices=False))

    with jax.default_matmul_precision("highest"):
        factors = _factors.factorise(jnp, lax.stop_gradient(a), _working_dtype(a.dtype), svd)
    # XLA's SVD gives NaN where it does not converge.
    return factors._replace(s=jnp.where(jnp.isnan(factors.s).any(-1, keepdims=True), jnp.nan, factors.s))


def solve(
    a: jax.Array, factors: Factors, b: jax.Array, rcond: float | jax.Array, penalties: jax.Array | None
) -> Solution:
    """Solve for ``b (..., M, K)``. See `Backend.solve_factored`."""
    if isinstance(rcond, (int, float)):
        # Explicitly, since the caller may have forbidden JAX all other transfers.
        rcond = jax.device_put(_round_down(rcond, _working_dtype(a.dtype)), beside(a))
    solution: Solution = _solve(a, factors, b, rcond) if penalties is None else _path(a, factors, b, rcond, penalties)
    return solution


@jax.jit
def _solve(a: jax.Array, factors: Factors, b: jax.Array, rcond: jax.Array) -> Solution:
    working, rcond = jnp.promote_types(factors.u.dtype, b.dtype), _cutoff(a, b, rcond)
    real, tall = _real(working), a.shape[-2] >= a.shape[-1]
    finite = jnp.isfinite(a).all((-2, -1))
    solved = finite & ~jnp.isnan(factors.s).any(-1)
    size = factors.power.astype(np.int32 if real == np.float32 else np.int64)
    scaled_a = _over(blank(finite[..., None, None], a).astype(working), size)
    u, vh = (part.astype(working) for part in (factors.u, factors.vh))
    s = jnp.where(solved[..., None], factors.s, 0)
    keep = (s > rcond * s[..., :1]) & (rcond < 1)
    left, right = (u, adjoint(vh)) if tall else (adjoint(vh), u)
    f = TallFactors(left, s, right, keep, _inverse(s, keep, working))
    matrix = _Matrix(f, scaled_a if tall else adjoint(scaled_a), size, solved & ~jnp.isnan(rcond), None)
    x, scaled, _ = _solution(tall, True, matrix, b.astype(working))
    values = _over(g.singular_values(f, matrix.a)[..., None], -size)[..., 0]
    return Solution(
        x,
        _residuals(tall, matrix, scaled),
        jnp.where(matrix.solved, keep.sum(-1, dtype=jnp.int32), 0),
        spoil(matrix.solved[..., None], values),
    )


@jax.jit
def _path(a: jax.Array, factors: Factors, b: jax.Array, rcond: jax.Array, penalties: jax.Array) -> Solution:
    with jax.default_matmul_precision("highest"):
        found = Solution(*_factors.solve(jnp, factors, b, _cutoff(a, b, rcond), penalties))
    return found._replace(x=_constant_in(a, found.x), residuals=_constant_in(a, found.residuals))


def _cutoff(a: jax.Array, b: jax.Array, rcond: jax.Array) -> jax.Array:
    """As one of the precision that is computed in, from 0 to 1."""
    dtype = jnp.promote_types(a.dtype, b.dtype)
    return _canonical(rcond, dtype, _real(_working_dtype(dtype)))


@jax.custom_jvp
def _constant_in(a: jax.Array, value: jax.Array) -> jax.Array:
    """The value, which has no derivative with respect to `a`."""
    return value


@partial(_constant_in.defjvp, symbolic_zeros=True)
def _refuse_derivative(primals: Any, tangents: Any) -> Any:
    of_a, of_value = (type(tangent) is not SymbolicZero for tangent in tangents)
    if of_a:
        raise TypeError(
            "a transformation of JAX (grad, jvp, vjp ...) asks for the derivative of a path of penalties with respect "
            "to the matrix, which has none here; expected a matrix that is a constant to it. Factorise outside of the "
            "transformation, or solve for each penalty, with lstsq.lstsq(a, b, ridge=penalty)."
        )
    return primals[1], tangents[1] if of_value else jnp.zeros_like(primals[1])


def _flatten(f: Factorization) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    kept = f.weighted
    of_weights = None if kept is None else (kept.a, kept.weights.array)
    return (f.a, f.factors, f.reduction, of_weights), (f.dtype, f.backend, None if kept is None else kept.weights[1:])


def _unflatten(names: tuple[Any, ...], parts: Any) -> Factorization:
    (dtype, backend, known), (a, factors, reduction, of_weights) = names, parts
    kept = None if of_weights is None else Kept(of_weights[0], Given(of_weights[1], *known))
    return Factorization(a, factors, reduction, dtype, backend, kept)


jax.tree_util.register_pytree_node(Factorization, _flatten, _unflatten)
