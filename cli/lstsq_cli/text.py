"""How numbers are written."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def seconds(value: float) -> str:
    """A time with its unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if value >= size:
            return f"{value / size:.3g} {unit}" if value / size < 1000 else f"{value / size:.0f} {unit}"
    return f"{value / 1e-6:.3g} µs"


def size(value: int | None) -> str:
    """A number of bytes with its unit."""
    if value is None:
        return "–"
    if value < 100_000:
        # Pages, and what else the process does meanwhile, are of this size.
        return "< 0.1 MB"
    return (
        f"{value / 1e6:.1f} MB" if value < 1e8 else f"{value / 1e6:.0f} MB" if value < 1e10 else f"{value / 1e9:.1f} GB"
    )


def small(value: float) -> str:
    """An error: two digits are enough."""
    return "0" if value == 0 else f"{value:.1e}" if math.isfinite(value) else str(value)


def digits(value: float | None) -> str:
    """A number of digits, or that there are none to count."""
    return "–" if value is None else f"{value:.1f}"


def number(value: Any, precision: int = 10) -> str:
    """A real or complex number with this many digits."""
    if isinstance(value, complex):
        return f"{value.real:.{precision}g}{value.imag:+.{precision}g}j"
    return f"{value:.{precision}g}"


def precision(dtype: str) -> int:
    """How many digits of a coefficient are worth showing."""
    return {"float32": 8, "complex64": 5, "complex128": 7}.get(dtype, 10)


def plain(value: Any) -> Any:
    """Arrays as lists, complex numbers as pairs, what is not finite as None."""
    if isinstance(value, np.ndarray):
        return [plain(item) for item in value.tolist()]
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, complex):
        return [plain(value.real), plain(value.imag)]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
