"""Rows reduced by LAPACK's QR factorisation, so many at a time that they stay in the cache."""

from __future__ import annotations

from typing import Any

import numpy as np

from lstsq import _rows
from lstsq._backend import require_finite
from lstsq._rows import Rows

NDArray = np.ndarray[Any, Any]

#: Numbers of a chunk.
CHUNK = 2**15


# A number beyond the range becomes inf, which is told at the end.
@np.errstate(over="ignore", under="ignore", invalid="ignore")
def reduce_rows(a: NDArray, b: NDArray) -> Rows:
    """Reduce ``a (M, N)`` and ``b (M, K)``. See `Backend.reduce_rows`.

    Each chunk is reduced together with what is left of the chunks before it (Golub, Plemmons and Sameh 1988, "Parallel
    block schemes for large-scale least-squares computations"). Only a chunk is ever copied.
    """
    (m, n), k = a.shape, b.shape[1]
    double = np.result_type(a.dtype.newbyteorder("="), np.float64)
    size = max(CHUNK // max(n + k, 1), 4 * n)
    kept = _rows.reduce_rows(np, np.empty((0, n), double), np.empty((0, k), double))
    for first in range(0, m, size):
        of_a, of_b = (array[first : first + size] for array in (a, b))
        chunk = _rows.reduce_rows(
            np, np.concatenate([kept.a, of_a], dtype=double), np.concatenate([kept.b, of_b], dtype=double)
        )
        kept = chunk._replace(left=_rows.norms(np, np.stack([kept.left, chunk.left])))
    require_finite(kept, a)
    return kept
