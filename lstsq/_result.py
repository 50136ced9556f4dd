"""The result of `lstsq.lstsq`."""

from __future__ import annotations

from typing import NamedTuple

from lstsq._backend import Array


class LstsqResult(NamedTuple):
    """Least-squares solution, in NumPy's order: unpacks as ``x, residuals, rank, s``.

    Attributes
    ----------
    x : (..., N) or (..., N, K) array
        Least-squares solution of minimum norm.
    residuals : (..., 1) or (..., K) array, real
        Sum of squares of ``b - a x`` for each right-hand side, whatever the shape and rank of `a`.
    rank : (...) array, integer
        Number of singular values above the cutoff.
    s : (..., min(M, N)) array, real
        Singular values of `a`, descending.
    """

    x: Array
    residuals: Array
    rank: Array
    s: Array
