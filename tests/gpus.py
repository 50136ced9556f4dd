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
