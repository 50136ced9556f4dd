"""Rows reduced by QR, compiled, where they lie; and what a reduction is to JAX's transformations."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from lstsq import _rows
from lstsq._reduction import Reduction
from lstsq._rows import Rows
from lstsq_jax._qr import qr
from lstsq_jax._solve import _working_dtype


@jax.jit
def reduce_rows(a: jax.Array, b: jax.Array) -> Rows:
    """Reduce ``a (M, N)`` and ``b (M, K)``. See `Backend.reduce_rows`.

    Rows that are spread over devices are reduced where they lie, and only what is left of them travels.
    """
    a, b = _without_derivative(a, b)
    working = _working_dtype(a.dtype)
    # Accelerators would otherwise multiply float32 in TF32 or bfloat16.
    with jax.default_matmul_precision("highest"):
        rows: Rows = _rows.reduce_rows(jnp, a.astype(working), b.astype(working), qr)
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
