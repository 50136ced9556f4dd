"""Rows reduced by QR, compiled, on each device that has some; and what a reduction is to JAX's transformations."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AxisType, NamedSharding

from lstsq import _rows
from lstsq._reduction import Reduction
from lstsq._rows import Rows
from lstsq_jax._place import _spec
from lstsq_jax._solve import _working_dtype


def reduce_rows(a: jax.Array, b: jax.Array) -> Rows:
    """Reduce ``a (M, N)`` and ``b (M, K)``. See `Backend.reduce_rows`.

    Rows that are spread over devices are reduced where they lie, and only what is left of them travels. Where JAX
    traces them it does not say where they are, and XLA brings them together.
    """
    axis = _axis_of_rows(a)
    if axis is None:
        rows: Rows = _reduce(a, b)
        return rows
    mesh = a.sharding.mesh  # type: ignore[attr-defined]
    by_rows = NamedSharding(mesh, _spec(axis, None))
    reduced: Rows = _in_shards(mesh, axis)(jax.device_put(a, by_rows), jax.device_put(b, by_rows))
    return reduced


def _axis_of_rows(a: jax.Array) -> Any:
    """The axis of the mesh, or the axes, over which the rows are spread; None where they are not."""
    if isinstance(a, jax.core.Tracer) or not isinstance(a.sharding, NamedSharding) or not hasattr(jax, "shard_map"):
        return None
    spec, kinds = tuple(a.sharding.spec), set(a.sharding.mesh.axis_types)
    return spec[0] if spec and kinds == {AxisType.Auto} and 0 not in a.shape else None


@lru_cache(maxsize=64)
def _in_shards(mesh: Any, axis: Any) -> Any:
    """The function that reduces rows spread over this axis, compiled."""

    def reduce(a: jax.Array, b: jax.Array) -> Rows:
        part = _reduce(a, b)
        whole: Rows = _reduce(*(lax.all_gather(rows, axis, tiled=True) for rows in (part.a, part.b)))
        left = jnp.concatenate([lax.all_gather(part.left, axis), whole.left[None]])
        return whole._replace(left=_rows.norms(jnp, left))

    rows = _spec(axis, None)
    # Every device reduces the same triangles to the same, which JAX cannot know.
    return jax.jit(jax.shard_map(reduce, mesh=mesh, in_specs=(rows, rows), out_specs=_spec(), check_vma=False))


@jax.jit
def _reduce(a: jax.Array, b: jax.Array) -> Rows:
    a, b = _without_derivative(a, b)
    working = _working_dtype(a.dtype)
    # Accelerators would otherwise multiply float32 in TF32 or bfloat16.
    with jax.default_matmul_precision("highest"):
        rows: Rows = _rows.reduce_rows(jnp, a.astype(working), b.astype(working))
    return rows


@jax.custom_jvp
def _without_derivative(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    return a, b


@_without_derivative.defjvp
def _refuse_derivative(primals: Any, tangents: Any) -> Any:
    # JAX's own derivative of the QR factorisation is NaN where columns depend on each other.
    raise TypeError(
        "a transformation of JAX (grad, jvp, vjp ...) asks for the derivative of a reduction of rows, which has none; "
        "expected rows that are constants to it. Solve them in one piece, with lstsq.lstsq, or stop the derivative, "
        "with jax.lax.stop_gradient."
    )


def _flatten(reduction: Reduction) -> tuple[tuple[Any, ...], tuple[str, str]]:
    return (reduction.a, reduction.b, reduction.left, reduction.rows), (reduction.dtype, reduction.backend)


def _unflatten(names: tuple[str, str], parts: Any) -> Reduction:
    a, b, left, rows = parts
    return Reduction(a, b, left, rows, *names)


# The number of rows is one of the leaves, so that a loop over blocks (`jax.lax.scan`) can carry a reduction.
jax.tree_util.register_pytree_node(Reduction, _flatten, _unflatten)
