"""Arrays on several devices: where a new one goes beside them, and how to compute with those of explicit sharding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import zip_longest
from typing import Any, cast

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding


def beside(array: jax.Array) -> Sharding | None:
    """Where a small array belongs that is to meet `array`: on each of its devices. None leaves that to JAX."""
    if isinstance(array, jax.core.Tracer):
        return None
    sharding = array.sharding
    if isinstance(sharding, NamedSharding):
        return NamedSharding(sharding.mesh, _spec())
    # Beside an array that nobody has put on a device nobody puts one, either: JAX may still move both.
    return sharding if isinstance(sharding, SingleDeviceSharding) and array.committed else None


def require_cpu(**operands: jax.Array) -> None:
    """Refuse arrays on other devices than the CPU; of what is traced nobody knows before it is compiled.

    Raises
    ------
    TypeError
        The message names the device.
    """
    for name, array in operands.items():
        devices = set() if isinstance(array, jax.core.Tracer) else array.devices()
        elsewhere = sorted(str(device) for device in devices if device.platform != "cpu")
        if elsewhere:
            raise TypeError(
                f"{name} is on {elsewhere[0]}; the driver native of the jax backend takes arrays on the CPU. Name the "
                'driver svd, or move them with jax.device_put(array, jax.devices("cpu")[0]).'
            )


def may_partition(a: jax.Array, b: jax.Array) -> bool:
    """Whether JAX can compile a function that says itself how it is partitioned (JAX 0.10).

    On GPUs not where a mesh of explicit axes is in force (`jax.set_mesh`): what lowers the parts then names shardings,
    which have no meaning inside of a part ("No registered implementation for custom call to Sharding").
    """
    in_force = not jax.sharding.get_abstract_mesh().empty
    return not (in_force and (_is_explicit(a) or _is_explicit(b)) and jax.default_backend() != "cpu")


def in_auto_axes(solve: Callable[..., Any], a: jax.Array, b: jax.Array, *others: jax.Array) -> Any:
    """``solve(a, b, *others)``, whose result is a NamedTuple in the order of `Solution`, with XLA free to shard inside.

    Where the axes of a mesh are explicit, shardings are part of types. Not all of JAX keeps to them: its QR, batched
    products of arrays of two shardings and reshapes that join axes raise errors. The results are sharded as the batch,
    the columns of `a` and the right-hand sides are.
    """
    explicit = [_is_explicit(array) for array in (a, b, *others)]
    if not any(explicit):
        return solve(a, b, *others)
    # Not at the top: JAX 0.6 has explicit axes as an experiment, in another place.
    from jax.sharding import auto_axes, reshard

    if not any(explicit[:2]):
        move = cast(Callable[..., jax.Array], reshard)
        return solve(a, b, *(move(array, _spec()) if yes else array for array, yes in zip(others, explicit[2:])))
    like = a if explicit[0] else b
    place = beside(like)
    arrays = [
        array if yes or place is None else jax.device_put(array, place) for array, yes in zip((a, b, *others), explicit)
    ]
    kind: list[type[tuple[jax.Array, ...]]] = []

    def call(*arrays: jax.Array) -> tuple[jax.Array, ...]:
        result = solve(*arrays)
        if not isinstance(result, tuple) or len(result) != len(out):
            raise TypeError(
                "arrays whose sharding is explicit are not reduced (lstsq.reduce_rows) nor factorised "
                "(lstsq.factorize), nor is their residual found (lstsq.residual); expected a mesh whose axes are of "
                "the type Auto. Make it with jax.make_mesh(..., axis_types=(AxisType.Auto, ...)), or call lstsq.lstsq, "
                "which takes both."
            )
        kind.append(type(result))
        return tuple(result)

    out = tuple(NamedSharding(_mesh(like), spec) for spec in _specs(a, b))
    results = auto_axes(call, out_sharding=out)(*arrays)
    return kind[0](*results)


def _mesh(array: jax.Array) -> Any:
    return jax.typeof(array).sharding.mesh


def _is_explicit(array: jax.Array) -> bool:
    return AxisType.Explicit in _mesh(array).axis_types


def _specs(a: jax.Array, b: jax.Array) -> Iterator[PartitionSpec]:
    """Of x, residuals, rank and s."""
    if 0 in (*a.shape, *b.shape):  # Sharded arrays without elements cannot be read (JAX 0.10).
        yield from [_spec()] * 4
        return
    of_a, of_b = (tuple(jax.typeof(array).sharding.spec) for array in (a, b))
    batch_a, (batch_b, columns) = of_a[:-2], (of_b[:-2], of_b[-1:]) if b.ndim > 1 else ((), ())
    batch = [p or q for p, q in zip_longest(reversed(batch_a), reversed(batch_b))][::-1]
    free = columns or (None,)
    yield _spec(*batch, of_a[-1], *columns)
    yield _spec(*batch, *free)
    yield _spec(*batch)
    yield _spec(*batch, None)


def _spec(*entries: Any) -> PartitionSpec:
    """No axis of the mesh shards two axes of an array: the first keeps it."""
    seen: set[str] = set()
    kept = []
    for entry in entries:
        names = {entry} if isinstance(entry, str) else set(entry or ())
        kept.append(None if names & seen else entry)
        seen |= names
    return PartitionSpec(*kept)  # type: ignore[no-untyped-call]
