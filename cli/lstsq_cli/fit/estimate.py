"""Coefficients of data in files, with standard errors, and the columns that depend on each other."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import lstsq
from lstsq_cli.errors import UserError
from lstsq_cli.problems import NumpyArray
from lstsq_cli.tables.dataset import Dataset
from lstsq_cli.text import plain


@dataclass(frozen=True)
class Fit:
    """What the data say."""

    files: tuple[str, ...]
    #: The names of the columns of the matrix, N, and of b, K.
    columns: tuple[str, ...]
    target: tuple[str, ...]
    weights: str | None
    left_out: tuple[str, ...]
    #: Rows that were fitted, that missed a cell, and whose weight was zero.
    rows: int
    dropped: int
    weightless: int
    dtype: str
    backend: str
    #: ``(N, K)``. A coefficient that the data do not determine has no standard error, but NaN.
    x: NumpyArray
    errors: NumpyArray
    #: ``(K,)``: sums of squares, with the weights.
    residuals: NumpyArray
    rank: int
    s: NumpyArray
    rcond: float
    #: Groups of columns that depend on each other, by their indices.
    dependent: tuple[tuple[int, ...], ...]

    @property
    def name(self) -> str:
        """What messages and pages call it."""
        return self.files[0] if len(self.files) == 1 else f"{self.files[0]} and {len(self.files) - 1} more"

    @property
    def freedom(self) -> int:
        """Degrees of freedom that are left."""
        return self.rows - self.rank

    @property
    def deviations(self) -> NumpyArray:
        """``(K,)``: the standard deviation of b around the fit, NaN where every row is met."""
        return np.sqrt(self.residuals / self.freedom) if self.freedom else np.full(self.residuals.shape, math.nan)

    @property
    def condition(self) -> float:
        """Largest singular value over the smallest that counts."""
        return float(self.s[0]) / float(self.s[self.rank - 1]) if self.rank else math.inf


def fit(data: Dataset, rcond: float | None, block_rows: int | None, told: Callable[[float, int], None]) -> Fit:
    """Reduce the rows block by block, and solve for all of them.

    Parameters
    ----------
    data : Dataset
        Where the rows are.
    rcond : float, optional
        The cutoff, as of `lstsq.lstsq`.
    block_rows : int, optional
        How many rows are in memory at a time.
    told : callable
        Told now and then which part of the files has been read, from 0 to 1, and how many rows that were.

    Raises
    ------
    UserError
        If the files hold no rows, or something else than finite numbers.
    """
    total: Any = 0
    for a, b in data.blocks(block_rows, lambda part: told(part, data.rows)):
        try:
            total += lstsq.reduce_rows(a, b)
        except lstsq.LinAlgError as error:
            raise UserError(f"{data.name}: {error}") from error
    layout = data.layout
    if not isinstance(total, lstsq.Reduction) or not total.rows:
        raise data.nothing()
    solution: Any = total.solve(rcond)
    x, residuals, rank, s = solution
    if not all(np.isfinite(result).all() for result in (x, residuals)):
        raise UserError(f"{data.name}: the coefficients are beyond the range of {total.dtype}; scale the columns.")
    rank = int(rank)
    freedom = total.rows - rank
    _, singular, right = np.linalg.svd(total.a)
    kept, lost = right[:rank].conj().T, right[rank:].conj().T
    eps, tiny = float(np.finfo(total.dtype).eps), float(np.finfo(total.a.dtype).tiny)
    # Scaled, so that no square is beyond the range.
    largest, smallest = max(singular[0], tiny), max(singular[rank - 1], tiny) if rank else 1.0
    dependent = _dependent(lost, np.linalg.norm(total.a / largest, axis=0), eps)
    # The roots of the diagonal of the inverse of AᴴA.
    spread = np.linalg.norm(kept * (smallest / singular[:rank]), axis=1)[:, None] / smallest
    spread[sorted(i for group in dependent for i in group)] = math.nan
    deviation = np.sqrt(residuals / freedom) if freedom else np.full(residuals.shape, math.nan)
    return Fit(
        data.files,
        layout.columns,
        layout.target,
        data.weights,
        layout.left_out,
        total.rows,
        data.dropped,
        data.weightless,
        total.dtype,
        total.backend,
        x,
        spread * deviation,
        residuals,
        rank,
        s,
        _cutoff(rcond, total),
        dependent,
    )


def to_json(fit: Fit) -> dict[str, Any]:
    """Everything, as what JSON can hold: complex numbers are [real, imaginary], what is not known is null."""
    return {
        "files": list(fit.files),
        "target": list(fit.target),
        "columns": list(fit.columns),
        "weights": fit.weights,
        "left_out": list(fit.left_out),
        "rows": fit.rows,
        "dropped_rows": fit.dropped,
        "rows_of_weight_zero": fit.weightless,
        "dtype": fit.dtype,
        "backend": fit.backend,
        "x": plain(fit.x),
        "standard_errors": plain(fit.errors),
        "residuals": plain(fit.residuals),
        "degrees_of_freedom": fit.freedom,
        "standard_deviation": plain(fit.deviations),
        "rank": fit.rank,
        "s": plain(fit.s),
        "condition": plain(fit.condition),
        "rcond": fit.rcond,
        "dependent_columns": [[fit.columns[i] for i in group] for group in fit.dependent],
    }


def _cutoff(rcond: float | None, total: lstsq.Reduction) -> float:
    zero = np.zeros((), total.dtype)
    shape = total.rows, total.a.shape[1]
    explained = lstsq.explain(np.broadcast_to(zero, shape), np.broadcast_to(zero, shape[:1]), rcond, backend="numpy")
    return float(explained.rcond)


def _dependent(lost: NumpyArray, norms: NumpyArray, eps: float) -> tuple[tuple[int, ...], ...]:
    """Columns that depend on each other, from an orthonormal basis of the null space ``(N, N - rank)``.

    A column takes part if a vector of the null space has it: either in itself, or as what it adds to the sum of columns
    that is zero, which is what counts where columns differ in size. Two columns are in one group if one vector has
    both.
    """
    if not lost.size:
        return ()
    size = np.linalg.norm(lost, axis=1)
    share = size * norms
    involved = np.flatnonzero((size > math.sqrt(eps)) | (share > 100 * math.sqrt(eps) * share.max()))
    basis, size = lost[involved], size[involved]
    together = np.abs(basis @ basis.conj().T) > math.sqrt(eps) * np.outer(size, size)
    np.fill_diagonal(together, True)
    groups = []
    left = np.ones(len(involved), bool)
    while left.any():
        group, grown = np.zeros_like(left), np.eye(len(left), dtype=bool)[np.argmax(left)]
        while (group != grown).any():
            group, grown = grown, together[grown].any(axis=0)
        groups.append(tuple(involved[group].tolist()))
        left &= ~group
    return tuple(groups)
