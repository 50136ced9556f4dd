"""Numbers that are not finite: out before the solver, which they could hold for ever, and NaN in the answer."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


@jax.custom_jvp
def blank(finite: jax.Array, array: jax.Array) -> jax.Array:
    """Zeros in place of what is not `finite`."""
    return jnp.where(finite, array, 0)


@blank.defjvp
def _blank_jvp(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[jax.Array, jax.Array]:
    # The answer there is NaN, and its derivative is let through to be NaN too.
    return blank(*primals), tangents[1]


@jax.custom_jvp
def spoil(good: jax.Array, array: jax.Array) -> jax.Array:
    """NaN in place of what is not `good`. The derivative there is NaN too: zero would look like an answer."""
    return jnp.where(good, array, _nan(array))


@spoil.defjvp
def _spoil_jvp(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[jax.Array, jax.Array]:
    good, array = primals

    def lost(_: Any, tangent: jax.Array) -> jax.Array:
        # Zero stays: what the caller leaves out, by a mask for instance, must not spoil the gradient of what is left.
        return jnp.where(good | (tangent == 0), tangent, _nan(tangent))

    # No system is solved: this is how a function gets a transpose of our own, here itself.
    tangent = lax.custom_linear_solve(lambda t: t, tangents[1], lost, lost)
    # To reverse mode the second term is a constant.
    return spoil(good, array), tangent + jnp.where(good, 0, _nan(array))


def _nan(array: jax.Array) -> jax.Array:
    nan = complex("nan+nanj") if jnp.iscomplexobj(array) else float("nan")
    return jnp.asarray(nan, array.dtype)
