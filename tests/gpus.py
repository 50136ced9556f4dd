"""The GPUs of this machine. What needs one is a test only where there is one."""

from __future__ import annotations

import importlib.util
from typing import Any

from lstsq import get_backend


def first_gpu(backend: str, library: str | None = None) -> Any:
    """The first GPU that the library of this backend finds, or None. A library that is not installed finds none."""
    if library is not None and importlib.util.find_spec(library) is None:
        return None
    return get_backend(backend).devices(library).get("gpu")


def mlx_gpu() -> Any:
    """MLX's GPU, if it is one for CUDA: with one of Apple's the processor solves."""
    gpu = first_gpu("mlx", "mlx")
    if gpu is None:
        return None
    from lstsq_mlx._native import native

    return gpu if native().has_cuda() else None
