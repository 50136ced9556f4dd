"""`numpy.linalg.lstsq` over a batch, with this library's cutoff and residuals."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.linalg import LinAlgError

from lstsq._backend import Solution

NDArray = np.ndarray[Any, Any]


def solve(a: NDArray, b: NDArray, rcond: float) -> Solution:
    """Solve for each matrix of the batch: ``a (..., M, N)``, ``b (..., M, K)``. See `Backend.solve`."""
    a, b = np.asarray(a), np.asarray(b)
    _check_finite("a", a)
    _check_finite("b", b)
    batch, (m, n), k = a.shape[:-2], a.shape[-2:], b.shape[-1]
    dtype = a.dtype.newbyteorder("=")
    real = np.empty(0, dtype).real.dtype
    double = np.result_type(dtype, np.float64)
    x = np.empty((*batch, n, k), dtype)
    residuals = np.empty((*batch, k), real)
    rank = np.empty(batch, np.int32)
    s = np.empty((*batch, min(m, n)), real)
    # A number beyond the range of its dtype becomes inf or 0, and needs no warning besides.
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        # Converting inside the loop holds one matrix in double, and never the whole batch.
        for i in np.ndindex(batch):
            x[i], residuals[i], rank[i], s[i] = _solve_one(np.asarray(a[i], double), np.asarray(b[i], double), rcond)
    return Solution(x, residuals, rank[()], s)


def _solve_one(a: NDArray, b: NDArray, rcond: float) -> tuple[NDArray, NDArray, int, NDArray]:
    try:
        x, _, lapack_rank, s = np.linalg.lstsq(a, b, rcond)
        rank = _rank(s, rcond)
        # LAPACK takes any rcond outside (0, 1) to mean eps, and compares after scaling by a number that may round.
        # Its solution stands where it kept the singular values that the contract keeps.
        agreed = rank == lapack_rank
    except LinAlgError:  # Divide and conquer did not converge.
        agreed = False
    if not agreed:
        x, rank, s = _solve_by_svd(a, b, rcond)
    return x, _sums_of_squares(a, b, x), rank, s


def _solve_by_svd(a: NDArray, b: NDArray, rcond: float) -> tuple[NDArray, int, NDArray]:
    u, s, vh = np.linalg.svd(a, full_matrices=False)
    rank = _rank(s, rcond)
    x = vh[:rank].conj().T @ ((u[:, :rank].conj().T @ b) / s[:rank, None])
    return x, rank, s


def _sums_of_squares(a: NDArray, b: NDArray, x: NDArray) -> NDArray:
    r = b - a @ x
    squares: NDArray = np.vecdot(r.T, r.T).real
    if not np.isfinite(squares).all():
        # Products of huge numbers may overflow to inf - inf where their difference is far smaller.
        down = 2.0**-1000
        r = b * down - (a * down) @ x
        squares = np.vecdot(r.T, r.T).real / down / down
    return squares


def _rank(s: NDArray, rcond: float) -> int:
    # As a Python float: inf times zero is then a NaN, above which nothing is, and not a warning.
    cutoff = rcond * float(s[0])
    return int(np.count_nonzero(s > cutoff))


def _check_finite(name: str, array: NDArray) -> None:
    finite = np.isfinite(array)
    if finite.all():
        return
    place = tuple(int(i) for i in np.argwhere(~finite)[0])
    raise LinAlgError(
        f"{name} holds {array[place]} at index {place}; expected finite numbers, since least squares has no answer "
        f"otherwise. Drop or replace these rows: numpy.isfinite({name}) finds them."
    )
