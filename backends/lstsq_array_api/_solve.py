"""Stands in for the certified drivers: the singular value decomposition, whatever the driver."""

from __future__ import annotations

from typing import Any

from lstsq._backend import Array, Solution
from lstsq_array_api import _svd


def solve(xp: Any, a: Array, b: Array, rcond: float, driver: str, singular_values: bool = True) -> Solution:
    """Solve for each matrix of the batch: ``a (..., M, N)``, ``b (..., M, K)``. See `Backend.solve`."""
    solution = _svd.solve(xp, a, b, rcond)
    return solution if singular_values else solution._replace(s=None)
