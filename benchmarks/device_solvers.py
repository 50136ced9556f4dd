"""What is timed with ``--device``: ours on the arrays of each library that has it, and that library's own solver.

Each entry puts NumPy data on the device, and its function solves there and waits until the device has finished.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from solvers import Call, NDArray, OnFreshArrays, Prepare, Solver

import lstsq
from lstsq import Backend
from lstsq_cli import peers

#: By the library: the backend that converts, and the name that it knows the library by.
LIBRARIES = {
    "torch": ("torch", None),
    "cupy": ("array_api", "cupy"),
    "jax": ("jax", None),
    "mlx": ("mlx", None),
}

#: Solves for arrays of a library; whether only x is wanted, too.
Solve = Callable[[Any, Any, bool], Any]


def find(kind: str, only: Sequence[str] = ()) -> list[Solver]:
    """Every solver of a library that has a device of this kind here, or those named."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # JAX would keep most of a GPU for itself.
    found: list[Solver] = []
    for library, (name, namespace) in LIBRARIES.items():
        if name not in [info.name for info in lstsq.backends() if info.available]:
            continue
        backend = lstsq.get_backend(name)
        device = backend.devices(namespace).get(kind)
        if device is None:
            continue
        for solver, ours, solve, batches in _SOLVERS[library](kind):
            on_device = _mlx_on_device if library == "mlx" else _on_device
            prepare = on_device(backend, namespace, device, solve, batches)
            found.append(Solver(solver, ours, prepare, backend.to_numpy))
    return [solver for solver in found if not only or solver.name in only]


def described(kind: str) -> str:
    """The name of the device, by torch, CuPy or MLX, if one of them sees it."""
    for library in ("torch", "cupy", "mlx"):
        name, namespace = LIBRARIES[library]
        if kind != "gpu" or kind not in lstsq.get_backend(name).devices(namespace):
            continue
        if library == "torch":
            import torch

            return str(torch.cuda.get_device_name())
        if library == "mlx":
            import mlx.core as mx

            return str(mx.device_info(mx.gpu).get("device_name", kind))
        import cupy

        return str(cupy.cuda.runtime.getDeviceProperties(0)["name"].decode())
    return kind


def _on_device(backend: Backend, namespace: str | None, device: Any, solve: Solve, batches: bool) -> Prepare:
    def prepare(a: NDArray, b: NDArray, x_only: bool) -> Call | None:
        if a.ndim > 2 and not batches:
            return None
        with backend.on_device(device) as put:
            native_a, native_b = (put(backend.from_numpy(array, namespace)) for array in (a, b))

        def call() -> Any:
            with backend.on_device(device):
                return solve(native_a, native_b, x_only)

        return call

    return prepare


def _mlx_on_device(backend: Backend, namespace: str | None, device: Any, solve: Solve, batches: bool) -> Prepare:
    """Arrays that an operation on the device made for each call: what the processor reads moves to its memory."""
    import mlx.core as mx

    def prepare(a: NDArray, b: NDArray, x_only: bool) -> Call | None:
        if a.dtype == np.float64 and device.type != mx.cpu:
            return None  # MLX has it on the processor alone.

        def copies(*arrays: Any) -> tuple[Any, Any]:
            with mx.stream(device):
                made = [array * mx.array(1, array.dtype) for array in arrays]
                mx.eval(*made)
                mx.synchronize()
            return made[0], made[1]

        # Copies of copies: what came from NumPy may lie in the processor's memory.
        native_a, native_b = copies(*(backend.from_numpy(array) for array in (a, b)))

        def on_device(a: Any, b: Any) -> Any:
            with mx.stream(device):
                return solve(a, b, x_only)

        return OnFreshArrays(lambda: copies(native_a, native_b), on_device)

    return prepare


#: Name, whether it is ours, the function, and whether it takes batches.
_Found = Iterator[tuple[str, bool, Solve, bool]]


def _torch(kind: str) -> _Found:
    import torch

    def ours(a: Any, b: Any, x_only: bool) -> Any:
        x = lstsq.lstsq(a, b, singular_values=not x_only).x
        wait()
        return x

    def theirs(driver: str) -> Solve:
        function = peers.find(f"torch.linalg {driver}").load()

        def solve(a: Any, b: Any, x_only: bool) -> Any:
            x = function(a, b, None).x
            wait()
            return x

        return solve

    def wait() -> None:
        if kind == "gpu":
            torch.cuda.synchronize()

    yield "lstsq torch", True, ours, True
    # On a GPU torch has this one alone. Rank and singular values come from gelsd only.
    for driver in ("gels",) if kind == "gpu" else ("gels", "gelsy", "gelsd"):
        yield f"torch {driver}", False, theirs(driver), True


def _cupy(kind: str) -> _Found:
    import cupy

    def ours(a: Any, b: Any, x_only: bool) -> Any:
        x = lstsq.lstsq(a, b, singular_values=not x_only).x
        cupy.cuda.get_current_stream().synchronize()
        return x

    function = peers.find("cupy.linalg").load()

    def theirs(a: Any, b: Any, x_only: bool) -> Any:
        x = function(a, b, None).x
        cupy.cuda.get_current_stream().synchronize()
        return x

    yield "lstsq cupy", True, ours, True
    yield "cupy", False, theirs, False


def _jax(kind: str) -> _Found:
    import jax

    untyped: Any = jax
    untyped.config.update("jax_enable_x64", True)
    function = peers.find("jax.numpy").load()

    def one(a: Any, b: Any) -> Any:
        return tuple(function(a, b, None))

    def theirs(a: Any, b: Any) -> Any:
        return (one if a.ndim == 2 else jax.vmap(one))(a, b)

    def waiting(x_alone: Callable[[Any, Any], Any], everything: Callable[[Any, Any], Any]) -> Solve:
        return lambda a, b, x_only: untyped.block_until_ready(tuple((x_alone if x_only else everything)(a, b)))[0]

    # Compiled for x alone, so that what is not wanted is not computed. All of ours is compiled as it is; compiled once
    # more, 50000 × (8×4) does not return on two cores (docs/limits.md).
    yield "lstsq jax", True, waiting(jax.jit(lambda a, b: lstsq.lstsq(a, b)[:1]), lstsq.lstsq), True
    yield "jax", False, waiting(jax.jit(lambda a, b: theirs(a, b)[:1]), jax.jit(theirs)), True


def _mlx(kind: str) -> _Found:
    import mlx.core as mx

    def ours(a: Any, b: Any, x_only: bool) -> Any:
        result = lstsq.lstsq(a, b)
        mx.eval(*(result[:1] if x_only else result))
        return result.x

    yield "lstsq mlx", True, ours, True  # MLX has no solver of its own.


_SOLVERS: dict[str, Callable[[str], _Found]] = {"torch": _torch, "cupy": _cupy, "jax": _jax, "mlx": _mlx}
