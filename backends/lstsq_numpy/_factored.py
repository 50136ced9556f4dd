"""Solutions by the factors of a matrix, for one right-hand side in hardly more time than its products take."""

from __future__ import annotations

from typing import Any

import numpy as np

from lstsq import _factors
from lstsq._backend import Solution
from lstsq._factors import Factors

NDArray = np.ndarray[Any, Any]


def solve(factors: Factors, b: NDArray, rcond: float) -> Solution | None:
    """Solve for one matrix and ``b (M, K)``; None where numbers are extreme, or for a batch. See `solve_factored`."""
    u = factors.u
    if u.ndim != 2:
        return None
    if b.dtype is not u.dtype:
        if b.dtype.kind == "c" != u.dtype.kind:
            return None
        b = b.astype(u.dtype)
    found = _factors.solve_ordinary(factors, b, rcond)
    return None if found is None else Solution(found.x, found.squares, np.int32(found.rank), found.s.copy())
