"""The singular value decomposition that a solution and all its derivatives are made from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from lstsq_jax._qr import qr


class Factors(NamedTuple):
    """``A = U diag(s) Vᴴ`` for a matrix with at least as many rows as columns, and which singular values are kept."""

    u: jax.Array
    """(..., M, N), orthonormal columns."""
    s: jax.Array
    """(..., N), real, descending."""
    v: jax.Array
    """(..., N, N), unitary: it spans the null space too."""
    keep: jax.Array
    """(..., N), bool."""
    inverse: jax.Array
    """(..., N), of the matrix's dtype: one over each singular value that is kept, zero for the others."""


def factorise(a: jax.Array, rcond: jax.Array, smallest: int, partition: bool) -> Factors:
    """Decompose ``a (..., M, N)`` with ``M >= N``. To JAX the factors are constants: `_gradient` has the rules.

    No more than the `smallest` largest singular values are kept. `partition` is for `qr`.
    """
    a = lax.stop_gradient(a)
    m, n = a.shape[-2:]
    if known(lambda: m >= 2 * n) is not False:  # The SVD then works on N x N matrices.
        q, triangle = qr(a, partition)
        u, s, vh = lax.linalg.svd(triangle, full_matrices=False)
        u = matmul(q, u)
    else:
        u, s, vh = lax.linalg.svd(a, full_matrices=False)
    # At a cutoff of 1 everything is zero. On GPUs equal singular values need not be rounded alike, nor descend.
    keep = (s > rcond * s[..., :1]) & (rcond < 1)
    if smallest != n:
        keep &= jnp.arange(n) < smallest
    return Factors(u, s, adjoint(vh), keep, _inverse(s, keep, a.dtype))


def with_rank(f: Factors, rank: jax.Array) -> Factors:
    """The factors with the `rank (...)` largest singular values kept."""
    keep = lax.broadcasted_iota(rank.dtype, f.s.shape, f.s.ndim - 1) < rank[..., None]
    return f._replace(keep=keep, inverse=_inverse(f.s, keep, f.u.dtype))


def _inverse(s: jax.Array, keep: jax.Array, dtype: Any) -> jax.Array:
    return (1 / jnp.where(keep, s, jnp.inf)).astype(dtype)


def known(comparison: Callable[[], bool]) -> bool | None:
    """A comparison of sizes, or None where they are symbolic (`jax.export`) and it may come out either way."""
    try:
        return comparison()
    except Exception:  # InconclusiveDimensionOperation, whose place differs between JAX's releases.
        return None


def matmul(a: jax.Array, b: jax.Array) -> jax.Array:
    """``a @ b`` in full precision: accelerators would otherwise multiply float32 in TF32 or bfloat16."""
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)


def adjoint(a: jax.Array) -> jax.Array:
    """The conjugate transpose."""
    return a.mT.conj()
