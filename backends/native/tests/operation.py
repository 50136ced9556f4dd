"""What the native tests share: the operation itself, and a reference in double precision."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import mlx.core as mx
import numpy as np

from lstsq_mlx._native import native

DRIVERS = ("auto", "gelsd", "svd", "qr")
DTYPES = ("float32", "float64", "complex64")


class Answer(NamedTuple):
    x: Any
    residuals: Any
    rank: Any
    s: Any


def to_mlx(array: np.ndarray[Any, Any]) -> mx.array:
    """Keeps float64, which MLX's own conversion does not."""
    return mx.array(array, dtype=getattr(mx, array.dtype.name))


def solve(a: Any, b: Any, rcond: float = 1e-6, driver: str = "qr") -> Answer:
    """The native operation on NumPy arrays, or on MLX arrays as they are."""
    a, b = (to_mlx(array) if isinstance(array, np.ndarray) else array for array in (a, b))
    return Answer(*(np.array(array) for array in native().lstsq(a, b, rcond, driver)))


def reference(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any], rcond: float = 1e-6) -> Answer:
    """NumPy's gelsd in double precision, with the residuals of every right-hand side."""
    wide = np.complex128 if np.iscomplexobj(a) else np.float64
    a, b = a.astype(wide), b.astype(wide)
    x, _, rank, s = np.linalg.lstsq(a, b, rcond)
    return Answer(x, (np.abs(b - a @ x) ** 2).sum(0), rank, s)


def assert_same(got: Iterable[Any], want: Iterable[Any]) -> None:
    """Of the same calculation twice: equal but for the rounding of a BLAS that asks where in memory an array lies."""
    for one, other in zip(got, want):
        atol = 30 * np.finfo(other.dtype).eps * np.nanmax(np.abs(other), initial=0) if other.dtype.kind in "fc" else 0
        np.testing.assert_allclose(one, other, rtol=0, atol=atol)


def run_python(code: str) -> str:
    """What a fresh interpreter prints, whose default device is the processor; it can import `substitute`."""
    import_mlx = "import mlx.core as mx\n"
    code = textwrap.dedent(code).replace(import_mlx, f"{import_mlx}mx.set_default_device(mx.cpu)\n")
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).parent,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
