"""The driver ``native``: the compiled core of ``lstsq-native``, which XLA calls with the arrays where they lie.

One custom call solves a batch. Where `jax.vmap` maps over `b` alone, its right-hand sides stand side by side, and each
matrix is factorised once.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_batching import custom_vmap

from lstsq._backend import Solution

#: XLA's name of the call; of another platform than the CPU it says that nobody has registered it.
TARGET = "lstsq_native_cpu"


def obstacle() -> str | None:
    """Why this driver cannot run here, as a sentence, or None. The first call makes the driver known to XLA.

    Of an array that is traced only JAX's default device says where it will be.
    """
    default = jax.config.jax_default_device  # type: ignore[attr-defined]
    platform = getattr(default, "platform", default) or jax.default_backend()
    if platform != "cpu":
        return (
            f"the driver native of the jax backend solves on the CPU, and JAX's default device is a {platform}; name "
            'the driver svd, or solve inside of `with jax.default_device(jax.devices("cpu")[0])`'
        )
    return _missing()


@cache
def _missing() -> str | None:
    try:
        from lstsq_native._xla import handler

        jax.ffi.register_ffi_target(TARGET, handler(), platform="cpu")
    except ModuleNotFoundError:
        return (
            "the driver native of the jax backend is in lstsq-native, which is not installed; from a clone of the "
            "project, run `pip install . ./backends/native`, or name the driver svd"
        )
    except Exception as error:
        return f"the driver native of the jax backend cannot run: {error}; or name the driver svd"
    return None


def solve(a: jax.Array, b: jax.Array, rcond: jax.Array, singular_values: bool) -> Solution:
    """Solve for each matrix of the batch: ``a (..., M, N)``, ``b (..., M, K)``, ``rcond ()``.

    To JAX the answers are constants. Without `singular_values` `s` is None.
    """
    a, b, rcond = lax.stop_gradient((a, b, rcond))
    x, residuals, rank, *s = _solver(singular_values)(a, b, rcond.reshape((1,) * (a.ndim - 2)))
    return Solution(x, residuals, rank, *(s or [None]))


@cache
def _solver(singular_values: bool) -> custom_vmap:
    """The call with three results or four, where batch dimensions of 1 repeat; and how it is mapped."""

    @custom_vmap
    def solver(a: jax.Array, b: jax.Array, rcond: jax.Array) -> tuple[jax.Array, ...]:
        (m, n), k = a.shape[-2:], b.shape[-1]
        batch = jnp.broadcast_shapes(a.shape[:-2], b.shape[:-2], rcond.shape)
        real = np.empty(0, a.dtype).real.dtype
        shapes = [
            ((*batch, n, k), a.dtype),
            ((*batch, k), real),
            (batch, np.int32),
            ((*batch, jax.core.min_dim(m, n)), real),
        ][: 4 if singular_values else 3]
        results = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in shapes]  # type: ignore[no-untyped-call]
        return tuple(jax.ffi.ffi_call(TARGET, results)(a, b, rcond))

    @solver.def_vmap
    def _(size: int, mapped: list[bool], *operands: jax.Array) -> tuple[Any, Any]:
        if mapped != [False, True, False]:
            results = solver(*(array if yes else array[None] for array, yes in zip(operands, mapped)))
            return results, (True,) * len(results)
        a, b, rcond = operands
        columns = jnp.moveaxis(b, 0, -2)
        x, residuals, *others = solver(a, columns.reshape(*columns.shape[:-2], -1), rcond)
        x, residuals = (
            jnp.moveaxis(array.reshape(*array.shape[:-1], *columns.shape[-2:]), -2, 0) for array in (x, residuals)
        )
        return (x, residuals, *others), (True, True, *(False for _ in others))

    return solver
