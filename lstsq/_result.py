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
    s : (..., min(M, N)) array, real, or None
        Singular values of `a`, descending; None with ``singular_values=False``.
    solution, singular_values
        `x` and `s` by the names that `torch.linalg.lstsq` gives them.

    Examples
    --------
    >>> import numpy as np
    >>> from lstsq import lstsq
    >>> result = lstsq(np.diag([2.0, 1.0]), np.array([2.0, 3.0]))
    >>> result.solution.round(9).tolist(), result.singular_values.round(9).tolist()
    ([1.0, 3.0], [2.0, 1.0])
    """

    x: Array
    residuals: Array
    rank: Array
    s: Array | None

    @property
    def solution(self) -> Array:
        """`x`, by torch's name."""
        return self.x

    @property
    def singular_values(self) -> Array | None:
        """`s`, by torch's name."""
        return self.s
