"""The QR factorisation of one matrix, which XLA would first bring together on every device: here the rows stay.

Each device factorises its own rows, the triangles go to all devices, and each factorises them to one.

References
----------
J. Demmel, L. Grigori, M. Hoemmen and J. Langou, Communication-optimal parallel and sequential QR and LU factorizations,
SIAM J. Sci. Comput. 34 (2012), A206-A239, section 2.
"""

from __future__ import annotations

from typing import Any

import jax
from jax import lax
from jax.custom_batching import custom_vmap
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding

from lstsq_jax._place import _spec


def qr(a: jax.Array, partition: bool = True) -> tuple[jax.Array, jax.Array]:
    """Q (..., M, K) and R (..., K, N) with ``K = min(M, N)``. Without derivatives.

    Without `partition` XLA brings the rows together.
    """
    if a.ndim == 2 and partition and jax.device_count() > 1:
        q, r = _where_it_lies(a)
        return q, r
    return _plain(a)


def _plain(a: jax.Array) -> tuple[jax.Array, jax.Array]:
    q, r = lax.linalg.qr(a, full_matrices=False)
    return q, r


@custom_vmap
def _where_it_lies(a: jax.Array) -> tuple[jax.Array, jax.Array]:
    q, r = _partitioned(a)
    return q, r


@_where_it_lies.def_vmap
def _mapped(_: int, batched: list[bool], a: jax.Array) -> Any:
    # Of a batch XLA takes the matrices apart by itself.
    return _plain(a), (True, True)


_partitioned = custom_partitioning(_plain)  # type: ignore[no-untyped-call]


def _partition(mesh: Any, operands: Any, results: Any) -> Any:
    """What runs on each device, and where its operand and its results lie."""
    (a,) = operands
    spec = tuple(a.sharding.spec) if isinstance(a.sharding, NamedSharding) else ()
    axis = spec[0] if spec else None
    parts = 1
    for name in (axis,) if isinstance(axis, str) else axis or ():
        parts *= mesh.shape[name]
    if parts == 1 or a.shape[0] % parts:
        everywhere = NamedSharding(mesh, _spec())
        return mesh, _plain, (everywhere, everywhere), (everywhere,)

    def factorise(rows: jax.Array) -> tuple[jax.Array, jax.Array]:
        q, r = _plain(rows)
        whole, r = _plain(lax.all_gather(r, axis, tiled=True))
        own = lax.dynamic_slice_in_dim(whole, lax.axis_index(axis) * q.shape[1], q.shape[1])
        return lax.dot(q, own, precision=lax.Precision.HIGHEST), r

    by_rows = NamedSharding(mesh, _spec(axis, None))
    return mesh, factorise, (by_rows, NamedSharding(mesh, _spec())), (by_rows,)


_partitioned.def_partition(_partition, sharding_rule="m n -> m k, i j")  # type: ignore[no-untyped-call]
