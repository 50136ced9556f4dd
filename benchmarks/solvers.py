"""What is timed: ours, driver by driver, and every existing solver that is installed.

Each entry turns NumPy data into a function that solves and waits for the answer. Conversion is not timed.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import lstsq
from lstsq_cli import peers
from lstsq_cli.peers import Function, Peer

NDArray = np.ndarray[Any, Any]
Call = Callable[[], Any]
#: Builds the timed call from a, b and whether only x is wanted; None where this solver cannot take the problem.
Prepare = Callable[[NDArray, NDArray, bool], "Call | None"]


class OnFreshArrays:
    """A call whose arrays are made anew before it, which takes none of its time.

    For a solver that may leave its arrays somewhere else than it found them: the next call would have it easier.
    """

    def __init__(self, make: Callable[[], tuple[Any, Any]], solve: Callable[[Any, Any], Any]):
        self._make, self._solve = make, solve

    def renew(self) -> None:
        """Make the arrays of the next call."""
        self._arrays = self._make()

    def __call__(self) -> Any:
        """Solve what `renew` made."""
        return self._solve(*self._arrays)


@dataclass(frozen=True)
class Solver:
    """One row of the table."""

    name: str
    ours: bool
    prepare: Prepare
    to_numpy: Callable[[Any], NDArray] = np.asarray


def installed(only: Sequence[str] = ()) -> list[Solver]:
    """Every solver that can run here, or those named."""
    found = [*_ours_on_mlx(), *_ours_on_numpy(), *_peers()]
    return [solver for solver in found if not only or solver.name in only]


def small_calls() -> dict[str, Call]:
    """The smallest operation of MLX, and one small solve, both evaluated; empty where MLX is not installed."""
    if not _has("lstsq_mlx"):
        return {}
    import mlx.core as mx

    generator = np.random.default_rng(0)
    one = mx.array(1.0, dtype=mx.float64)
    a, b = (mx.array(generator.standard_normal(shape), dtype=mx.float64) for shape in ((4, 3), 4))
    return {
        "smallest MLX operation": lambda: mx.eval(mx.add(one, one, stream=mx.cpu)),
        "4×3 solve in float64": lambda: mx.eval(lstsq.lstsq(a, b).x),
    }


def _has(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _ours_on_mlx() -> list[Solver]:
    if not _has("lstsq_mlx"):
        return []
    import mlx.core as mx

    backend = lstsq.get_backend("mlx")

    def with_driver(driver: str) -> Prepare:
        def prepare(a: NDArray, b: NDArray, x_only: bool) -> Call | None:
            if a.dtype.name not in backend.capabilities.dtypes:
                return None
            native_a, native_b = backend.from_numpy(a), backend.from_numpy(b)

            def call() -> Any:
                result = lstsq.lstsq(native_a, native_b, driver=driver)
                mx.eval(*(result[:1] if x_only else result))
                return result.x

            return call

        return prepare

    claims = backend.capabilities
    drivers = (claims.default_driver, *(d for d in claims.drivers if d != claims.default_driver))
    return [Solver(f"lstsq mlx {driver}", True, with_driver(driver), backend.to_numpy) for driver in drivers]


def _ours_on_numpy() -> list[Solver]:
    """Where only x is wanted, the singular values are left out."""

    def with_backend(backend: str) -> Prepare:
        def prepare(a: NDArray, b: NDArray, x_only: bool) -> Call | None:
            return lambda: lstsq.lstsq(a, b, singular_values=not x_only, backend=backend).x

        return prepare

    names = [info.name for info in lstsq.backends() if "numpy" in info.serves and info.available]
    return [Solver(f"lstsq {name}", True, with_backend(name)) for name in names]


def _peers() -> list[Solver]:
    """The functions that people use today, through the adapters of the command line."""
    # Not all that are installed: those that are quoted, on the processor.
    return [
        Solver(peer.name, False, _prepare_with(peer), lstsq.get_backend(peer.host).to_numpy)
        for peer in peers.installed()
        if peer.requires in ("numpy", "scipy", "jax", "torch") and peer.method != "gelss"
    ]


def _prepare_with(peer: Peer) -> Prepare:
    # SciPy is not timed while it looks for NaN, which no other does.
    solve = peers.scipy_with(peer.method, check_finite=False) if peer.requires == "scipy" else peer.load()

    def prepare(a: NDArray, b: NDArray, x_only: bool) -> Call | None:
        if not x_only and len(peer.gives) < len(peers.EVERYTHING):
            return None
        if peer.requires == "jax":
            return _compiled(solve, a, b, x_only)
        if a.ndim > 2 and not (peer.batches and peer.requires == "torch"):
            return lambda: np.stack([solve(one_a, one_b, None).x for one_a, one_b in zip(a, b)])
        backend = lstsq.get_backend(peer.host)
        native_a, native_b = backend.from_numpy(a), backend.from_numpy(b)
        return lambda: solve(native_a, native_b, None).x

    return prepare


def _compiled(solve: Function, a: NDArray, b: NDArray, x_only: bool) -> Call:
    """JAX's function, mapped over a batch, and compiled for x alone where only that is wanted."""
    import jax
    import jax.numpy as jnp

    untyped: Any = jax
    untyped.config.update("jax_enable_x64", True)

    def chosen(a: Any, b: Any) -> Any:
        result = solve(a, b, None)
        return result[:1] if x_only else result

    compiled = jax.jit(chosen if a.ndim == 2 else jax.vmap(chosen))
    native_a, native_b = jnp.asarray(a), jnp.asarray(b)
    return lambda: untyped.block_until_ready(compiled(native_a, native_b))[0]
