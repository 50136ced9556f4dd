"""From the canonical problem to one that cannot overflow and holds finite numbers only, and back."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from lstsq._backend import Solution
from lstsq._contract import EPS, SINGLE_PRECISION_GROWTH
from lstsq_jax import _gradient as g
from lstsq_jax import _native as native
from lstsq_jax._factor import Factors, adjoint, factorise, known, matmul, with_rank
from lstsq_jax._nonfinite import blank, spoil
from lstsq_jax._place import beside, in_auto_axes, may_partition, require_cpu


class _Matrix(NamedTuple):
    """A matrix of the batch in a form that cannot overflow."""

    f: Factors
    a: jax.Array
    """(..., M, N) with ``M >= N``: a wide matrix is its adjoint here. Scaled, and zero where it is not finite."""
    size: jax.Array
    """(..., 1, 1), integer: the power of two that `a` was divided by."""
    solved: jax.Array
    """(...), bool: the matrix is finite, and its decomposition was found."""
    given: tuple[jax.Array, jax.Array] | None
    """For the driver native: the matrix as it was given, and the cutoff."""


def solve(
    a: jax.Array, b: jax.Array, rcond: float | jax.Array | None, driver: str, *, singular_values: bool = True
) -> Solution:
    """Solve for each matrix of the batch: ``a (..., M, N)``, ``b (..., M, K)``. See `Backend.solve`."""
    if driver == "native":
        require_cpu(a=a, b=b)
    if rcond is None:
        cutoff = _default_cutoff(a)
    elif isinstance(rcond, (int, float)):
        # Explicitly, since the caller may have forbidden JAX all other transfers.
        cutoff = jax.device_put(_round_down(rcond, _working_dtype(a.dtype)), beside(a))
    else:
        cutoff = rcond
    how = driver, singular_values, may_partition(a, b)
    solution: Solution = in_auto_axes(partial(_solve, *how), a, b, cutoff)
    return solution


@partial(jax.jit, static_argnums=(0, 1, 2))
def _solve(
    driver: str, singular_values: bool, partition: bool, a: jax.Array, b: jax.Array, rcond: jax.Array
) -> Solution:
    dtype, working = a.dtype, _working_dtype(a.dtype)
    real = _real(working)
    rcond = _canonical(rcond, dtype, real)
    given = (lax.stop_gradient(a), rcond) if driver == "native" else None
    b = b.astype(working)
    smallest = jax.core.min_dim(*a.shape[-2:])
    tall = known(lambda: a.shape[-2] >= a.shape[-1])
    if tall is None:  # Sizes are symbolic. With rows of zeros below it is tall, and has the same solutions.
        n = a.shape[-1]
        a, b, tall = _stack(a, _zeros(a, n)), _stack(b, _zeros(b, n)), True

    # Apart from b, so that `a` need not be factorised again for each b where b alone is mapped over.
    finite = jnp.isfinite(a).all((-2, -1))
    a = blank(finite[..., None, None], a).astype(working)
    # Powers of two, so that nothing is rounded. One for each matrix and one for each right-hand side.
    size = _exponent(a, (-2, -1))
    a = _times(a, _two_to(-size, real))
    a = a if tall else adjoint(a)
    f = factorise(a, rcond, smallest, partition)
    # XLA's SVD gives NaN where it does not converge.
    solved = finite & ~jnp.isnan(f.s).any(-1) & ~jnp.isnan(rcond)
    matrix = _Matrix(f, a, size, solved, given)

    x, scaled, found = _solution(tall, singular_values, matrix, b)
    residuals = _residuals(tall, _as_found(matrix, found), scaled)
    s = spoil(solved[..., None], g.singular_values(f, a)[..., :smallest] * _two_to(size, real)[..., 0])
    solution = Solution(
        x.astype(dtype),
        residuals.astype(_real(dtype)),
        jnp.where(solved, f.keep.sum(-1, dtype=jnp.int32), 0),
        s.astype(_real(dtype)),
    )
    if found is None:
        return solution
    return Solution(
        solution.x,
        _differentiated_as(solution.residuals, found.residuals),
        found.rank,
        None if found.s is None else _differentiated_as(solution.s, found.s),
    )


class _Found(NamedTuple):
    """What the core has found besides x."""

    residuals: jax.Array
    rank: jax.Array
    s: jax.Array | None

    def as_rows(self, b: jax.Array) -> jax.Array:
        """All of it in rows as long as those of `b`."""
        columns = [self.rank[..., None, None]] if self.s is None else [self.rank[..., None, None], self.s[..., None]]
        repeated = [jnp.broadcast_to(column, (*column.shape[:-1], b.shape[-1])) for column in columns]
        return jnp.concatenate([part.astype(b.dtype) for part in (self.residuals[..., None, :], *repeated)], axis=-2)

    @classmethod
    def from_rows(cls, rows: jax.Array, dtype: Any, singular_values: bool) -> _Found:
        """The inverse of `as_rows`; `dtype` is a real one."""
        rows = rows.real.astype(dtype)
        s = rows[..., 2:, 0] if singular_values else None
        return cls(rows[..., 0, :], rows[..., 1, 0].astype(jnp.int32), s)


def _by_the_core(a: jax.Array, rcond: jax.Array, b: jax.Array, singular_values: bool) -> tuple[jax.Array, _Found]:
    x, residuals, rank, s = native.solve(a, b.astype(a.dtype), rcond, singular_values)
    return x.astype(b.dtype), _Found(residuals, rank, s)


def _as_found(matrix: _Matrix, found: _Found | None) -> _Matrix:
    """The matrix with the rank that the core has found: derivatives are those of this branch."""
    return matrix if found is None else matrix._replace(f=with_rank(matrix.f, found.rank))


@jax.custom_jvp
def _differentiated_as(model: jax.Array, value: jax.Array) -> jax.Array:
    """The value, a constant, with the derivatives of the model. XLA computes the model only for those."""
    return value


@_differentiated_as.defjvp
def _differentiated_as_jvp(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[jax.Array, jax.Array]:
    return _differentiated_as(*primals), tangents[0]


class _Scaled(NamedTuple):
    """Right-hand sides in a form that cannot overflow, and their solutions."""

    b: jax.Array
    x: jax.Array
    size: jax.Array
    """(..., 1, K), integer: the power of two that each column of `b` was divided by."""
    good: jax.Array
    """(..., K), bool: which columns have an answer."""


# To JAX, x is a linear function of `b`, though each column is scaled by a power of two of its own. We say so by a
# linear system that x is part of the solution of, [1, -P; 0, 1] [x; b] = [0; b], with our own ways to solve it and its
# transpose: P' y is the complex conjugate of the solution of the adjoint problem for the conjugate of y. What is found
# on the way stands in rows between x and b, of which the equations say nothing. (JAX has a place for such outputs, but
# maps them over tangents that they do not depend on, and then finds no Hessian.)
@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _solution(
    tall: bool, singular_values: bool, matrix: _Matrix, b: jax.Array
) -> tuple[jax.Array, _Scaled, _Found | None]:
    n, m = matrix.a.shape[-1 if tall else -2], b.shape[-2]

    def solve(b: jax.Array) -> tuple[jax.Array, jax.Array]:
        x, scaled = _by_scaling(tall, matrix, b)
        if matrix.given is None:
            return x, scaled.x
        a, rcond = matrix.given
        x, found = _by_the_core(a, rcond, b[..., : a.shape[-2], :], singular_values)
        return x, _stack(scaled.x, found.as_rows(b))

    def system(rows: jax.Array) -> jax.Array:
        p = g.pinv(matrix.f, matrix.a)
        x = rows[..., :n, :] - _over(matmul(p if tall else adjoint(p), rows[..., -m:, :]), matrix.size)
        return _stack(x, rows[..., n:, :])

    def solution(_: Any, rows: jax.Array) -> jax.Array:
        b = rows[..., -m:, :]
        x, between = solve(b)
        return _stack(_stack(rows[..., :n, :] + x, between), b)

    def solution_of_transpose(_: Any, rows: jax.Array) -> jax.Array:
        y = rows[..., :n, :]
        if matrix.given is None:
            x = _by_scaling(not tall, matrix, y.conj())[0].conj()
        else:
            a, rcond = matrix.given
            x, _ = _by_the_core(a.mT, rcond, y, singular_values=False)
            x = _stack(x, _zeros(x, m - a.shape[-2]))  # There are rows of zeros below it.
        return _stack(rows[..., :-m, :], rows[..., -m:, :] + x)

    between = jax.eval_shape(solve, b)[1].shape[-2]
    rows = lax.custom_linear_solve(system, _stack(_zeros(b, n + between), b), solution, solution_of_transpose)
    found = (
        None
        if matrix.given is None
        else _Found.from_rows(rows[..., 2 * n : -m, :], _real(matrix.given[0].dtype), singular_values)
    )
    _, scaled = _by_scaling(tall, matrix, b)
    return rows[..., :n, :], scaled._replace(x=rows[..., n : 2 * n, :]), found


@_solution.defjvp
def _solution_jvp(
    tall: bool, singular_values: bool, primals: tuple[_Matrix, jax.Array], tangents: tuple[_Matrix, jax.Array]
) -> Any:
    (matrix, b), (d_matrix, db) = primals, tangents
    # From the function itself: inside `vmap` JAX wants the mapped axis of the values in the same place as there.
    values = _solution(tall, singular_values, matrix, b)
    found = values[-1]
    matrix = _as_found(matrix, found)
    _, tangent = jax.jvp(
        lambda a, b: (*_by_scaling(tall, matrix._replace(a=a), b), found), (matrix.a, b), (d_matrix.a, db)
    )
    return values, tangent


def _by_scaling(tall: bool, matrix: _Matrix, b: jax.Array) -> tuple[jax.Array, _Scaled]:
    finite = jnp.isfinite(b).all(-2)
    b = blank(finite[..., None, :], b)
    size = _exponent(b, (-2,))
    b = _times(b, _two_to(-size, _real(b.dtype)))
    x = (g.solve if tall else g.solve_adjoint)(matrix.f, matrix.a, b)
    good = matrix.solved[..., None] & finite
    return spoil(good[..., None, :], _over(x, matrix.size - size)), _Scaled(b, x, size, good)


def _residuals(tall: bool, matrix: _Matrix, scaled: _Scaled) -> jax.Array:
    squares = (g.squares if tall else g.squares_adjoint)(matrix.f, matrix.a, scaled.b, scaled.x)
    factor = _two_to(scaled.size, squares.dtype)[..., 0, :]
    return spoil(scaled.good, squares * factor * factor)


def _over(array: jax.Array, size: jax.Array) -> jax.Array:
    """In two steps, as the power of two may be beyond the dtype where the quotient is not."""
    real = _real(array.dtype)
    half = -size >> 1
    return _times(_times(array, _two_to(half, real)), _two_to(-size - half, real))


def _times(array: jax.Array, factor: jax.Array) -> jax.Array:
    """Times a real power of two. The real and the imaginary part apart: infinity times zero would be NaN."""
    if not jnp.iscomplexobj(array):
        return array * factor
    return lax.complex(array.real * factor, array.imag * factor)


def _stack(top: jax.Array, bottom: jax.Array) -> jax.Array:
    return jnp.concatenate([top, bottom], axis=-2)


def _zeros(like: jax.Array, rows: int) -> jax.Array:
    return jnp.zeros((*like.shape[:-2], rows, like.shape[-1]), like.dtype)


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


def _canonical(rcond: jax.Array, dtype: Any, real: np.dtype[Any]) -> jax.Array:
    """A cutoff of any real dtype and value as one of this dtype, from 0 to 1 (or NaN)."""
    rcond = lax.convert_element_type(lax.stop_gradient(rcond), real)
    return jnp.minimum(jnp.where(rcond < 0, EPS[np.dtype(dtype).name] / 2, rcond), 1)


def _default_cutoff(a: jax.Array) -> jax.Array:
    """The contract's default for a matrix whose sizes are symbolic."""
    growth = jnp.asarray(jax.core.max_dim(*a.shape[-2:]))
    single = a.dtype in (np.float32, np.complex64)
    growth = jnp.minimum(growth, SINGLE_PRECISION_GROWTH) if single else growth
    return EPS[a.dtype.name] * growth.astype(_real(a.dtype))
