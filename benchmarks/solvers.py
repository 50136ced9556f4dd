"""What is timed: ours, driver by driver, and every existing solver that is installed.

Each entry turns NumPy data into a function that solves and waits for the answer. Conversion is not timed.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

NDArray = np.ndarray[Any, Any]
Call = Callable[[], Any]
#: Builds the timed call from a, b and whether only x is wanted; None where this solver cannot take the problem.
Prepare = Callable[[NDArray, NDArray, bool], "Call | None"]


@dataclass(frozen=True)
class Solver:
    """One row of the table."""

    name: str
    ours: bool
    prepare: Prepare
    to_numpy: Callable[[Any], NDArray] = np.asarray


def installed(only: Sequence[str] = ()) -> list[Solver]:
    """Every solver that can run here, or those named."""
    found = [*_ours_on_mlx(), *_ours_on_numpy(), _numpy(), *_scipy(), *_jax(), *_torch()]
    return [solver for solver in found if not only or solver.name in only]


def small_calls() -> dict[str, Call]:
    """The smallest operation of MLX, and one small solve, both evaluated; empty where MLX is not installed."""
    if not _has("lstsq_mlx"):
        return {}
    import mlx.core as mx

    from lstsq import lstsq

    generator = np.random.default_rng(0)
    one = mx.array(1.0, dtype=mx.float64)
    a, b = (mx.array(generator.standard_normal(shape), dtype=mx.float64) for shape in ((4, 3), 4))
    return {
        "smallest MLX operation": lambda: mx.eval(mx.add(one, one, stream=mx.cpu)),
        "4×3 solve in float64": lambda: mx.eval(lstsq(a, b).x),
    }


def _has(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _ours_on_mlx() -> list[Solver]:
    if not _has("lstsq_mlx"):
        return []
    import mlx.core as mx

    from lstsq import get_backend, lstsq

    backend = get_backend("mlx")

    def with_driver(driver: str) -> Prepare:
        def prepare(a: NDArray, b: NDArray, x_only: bool) -> Call | None:
            if a.dtype.name not in backend.capabilities.dtypes:
                return None
            native_a, native_b = backend.from_numpy(a), backend.from_numpy(b)

            def call() -> Any:
                result = lstsq(native_a, native_b, driver=driver)
                mx.eval(*(result[:1] if x_only else result))
                return result.x

            return call

        return prepare

    claims = backend.capabilities
    drivers = (claims.default_driver, *(d for d in claims.drivers if d != claims.default_driver))
    return [Solver(f"lstsq mlx {driver}", True, with_driver(driver), backend.to_numpy) for driver in drivers]


def _ours_on_numpy() -> list[Solver]:
    """Where only x is wanted, the singular values are left out."""
    from lstsq import backends, lstsq

    def with_backend(backend: str) -> Prepare:
        def prepare(a: NDArray, b: NDArray, x_only: bool) -> Call | None:
            return lambda: lstsq(a, b, singular_values=not x_only, backend=backend).x

        return prepare

    names = [info.name for info in backends() if "numpy" in info.serves and info.available]
    return [Solver(f"lstsq {name}", True, with_backend(name)) for name in names]


def _looped(solve: Callable[[NDArray, NDArray], NDArray], gives_all: bool = True) -> Prepare:
    def prepare(a: NDArray, b: NDArray, x_only: bool) -> Call | None:
        if not (x_only or gives_all):
            return None
        if a.ndim == 2:
            return lambda: solve(a, b)
        return lambda: np.stack([solve(one_a, one_b) for one_a, one_b in zip(a, b)])

    return prepare


def _numpy() -> Solver:
    return Solver("numpy", False, _looped(lambda a, b: np.linalg.lstsq(a, b)[0]))


def _scipy() -> list[Solver]:
    if not _has("scipy"):
        return []
    from scipy.linalg import lstsq

    def solve_with(driver: str) -> Prepare:
        return _looped(lambda a, b: lstsq(a, b, lapack_driver=driver, check_finite=False)[0], driver == "gelsd")

    return [Solver(f"scipy {driver}", False, solve_with(driver)) for driver in ("gelsd", "gelsy")]


def _jax() -> list[Solver]:
    if not _has("jax"):
        return []
    import jax
    import jax.numpy as jnp

    untyped: Any = jax
    untyped.config.update("jax_enable_x64", True)

    def prepare(a: NDArray, b: NDArray, x_only: bool) -> Call | None:
        def solve(a: Any, b: Any) -> Any:
            result = jnp.linalg.lstsq(a, b)
            return result[:1] if x_only else result

        compiled = jax.jit(solve if a.ndim == 2 else jax.vmap(solve))
        native_a, native_b = jnp.asarray(a), jnp.asarray(b)
        return lambda: untyped.block_until_ready(compiled(native_a, native_b))[0]

    return [Solver("jax", False, prepare)]


def _torch() -> list[Solver]:
    if not _has("torch"):
        return []
    import torch

    def prepare_with(driver: str) -> Prepare:
        def prepare(a: NDArray, b: NDArray, x_only: bool) -> Call | None:
            if not x_only and driver != "gelsd":
                return None  # The other drivers find no singular values.
            native_a, native_b = torch.from_numpy(a), torch.from_numpy(b)
            return lambda: torch.linalg.lstsq(native_a, native_b, driver=driver).solution

        return prepare

    return [Solver(f"torch {driver}", False, prepare_with(driver)) for driver in ("gels", "gelsy", "gelsd")]
