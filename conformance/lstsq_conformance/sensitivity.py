"""What rounding does to one given problem: the changes of x and of the residual to first order, for a stack of them.

The bounds in `ratios` hold for every A of a size and condition. They say nothing where the cutoff lies between two
singular values that are close, whereas the solution of most such problems is fixed to many digits: a mixture of the two
singular vectors changes it by what b has of them, and no more. This is what these numbers say.

Everything here is real; a complex problem is first written with real numbers (`reference_extended.real_form`).

References
----------
G. H. Golub and V. Pereyra, "The differentiation of pseudo-inverses and nonlinear least squares problems whose variables
separate", SIAM J. Numer. Anal. 10 (1973).
"""

from __future__ import annotations

import numpy as np

from lstsq_conformance.reference import NumpyArray


def rounding(a: NumpyArray, largest: NumpyArray) -> NumpyArray:
    """How large the entries of an error in A are, written in the singular vectors of A, where each rounding is of 1.

    For matrices ``(B, m, n)`` with these largest singular values. An entry of A is rounded about once in each of the
    ``max(m, n)`` steps of a factorisation, to one side as often as to the other. Where single rows or columns are
    larger than the rest, their errors may gather in few singular vectors, and the largest singular value is the bound.
    """
    mean = np.sqrt(np.mean(a**2, axis=(-2, -1)))
    rows, columns = np.sqrt(np.mean(a**2, axis=-1)), np.sqrt(np.mean(a**2, axis=-2))
    spread = np.maximum(rows.max(axis=-1), columns.max(axis=-1)) <= 4 * mean
    return np.where(spread, np.minimum(np.sqrt(max(a.shape[-2:])) * mean, largest), largest)


def changes(
    shape: tuple[int, int], s: NumpyArray, c: NumpyArray, b: NumpyArray, beyond: NumpyArray, kept: int, size: NumpyArray
) -> tuple[NumpyArray, NumpyArray]:
    """Of x and of the residual, ``(B, K)`` each, for errors of A and b whose roundings are of 1.

    Parameters
    ----------
    shape : (int, int)
        That of the matrices.
    s : (B, P) array
        Singular values.
    c : (B, P, K) array
        ``u^T b``.
    b : (B, m, K) array
        Right-hand sides.
    beyond : (B, K) array
        The norm of what of b lies beyond the range of ``u``.
    kept : int
        How many singular values count.
    size : (B,) array
        `rounding` of A.

    Notes
    -----
    Entry (i, j) of the error turns the singular vectors i and j towards each other, by its size over ``s_i - s_j``.
    Where i counts and j does not, x takes on a part of what was cut off and loses one of its own. Within what counts it
    changes x by ``size ||x|| / s_i``, and what of b lies beyond the range of A comes in by ``1 / s_i**2``. All these
    are independent, so that their squares are added.
    """
    m, n = shape
    if kept == 0:
        return np.zeros_like(c[:, 0]), np.zeros_like(c[:, 0])

    def weighted(weights: NumpyArray, columns: NumpyArray) -> NumpyArray:
        return np.asarray(np.einsum("bj,bjk->bk", weights, columns**2))

    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        inside, outside = s[:, :kept], s[:, kept:]
        y, cut_off = c[:, :kept] / inside[..., None], c[:, kept:]
        turn = 1 / (inside[:, :, None] - outside[:, None, :]) ** 2
        x = np.sum(y**2, axis=1) * np.sum(1 / inside**2, axis=1)[:, None]
        x += beyond**2 * np.sum(1 / inside**4, axis=1)[:, None]
        x += weighted(np.sum(turn / inside[..., None] ** 2, axis=1), cut_off) + weighted(np.sum(turn, axis=2), y)
        if n > m:
            x += weighted(1 / inside**2, y)
        residual = weighted(np.sum(turn, axis=1), cut_off) + weighted(np.sum(turn, axis=2), c[:, :kept])
        # The error of b itself.
        of_b = np.sum(b**2, axis=-2) * np.sum(1 / inside**2, axis=1)[:, None]
        changes_x = np.sqrt(size[:, None] ** 2 * x + of_b)
        changes_residual = size[:, None] * np.sqrt(residual)
    return np.nan_to_num(changes_x, nan=np.inf), np.nan_to_num(changes_residual, nan=np.inf)
