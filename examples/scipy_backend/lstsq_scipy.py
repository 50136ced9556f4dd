"""SciPy's `lstsq` as a complete backend of `lstsq`: ``lstsq(a, b, backend="scipy")``."""

from __future__ import annotations

from typing import Any

import numpy as np

from lstsq import Backend, Capabilities, Solution


class ScipyBackend(Backend):
    """Least squares for NumPy arrays by LAPACK's gelss, which is by the SVD: so it answers to both names."""

    name = "scipy"
    serves = ("numpy",)
    requires = ("scipy",)
    capabilities = Capabilities(
        drivers=("gelss", "svd"),
        default_driver="gelss",
        dtypes=("float32", "float64", "complex64", "complex128"),
        nonfinite="nan",
        solved_in_double=("float32", "complex64"),
    )

    def solve(self, a: Any, b: Any, rcond: float, driver: str) -> Solution:
        """Solve each matrix of the batch in double precision, and round once at the end."""
        dtype, batch, (m, n), k = a.dtype, a.shape[:-2], a.shape[-2:], b.shape[-1]
        x, squares = np.full((*batch, n, k), np.nan, dtype), np.full((*batch, k), np.nan)
        rank, s = np.zeros(batch, int), np.full((*batch, min(m, n)), np.nan)
        double = np.result_type(dtype, np.float64)
        # A matrix that is not finite stays NaN and of rank 0, a column of b that is not finite NaN.
        # What the dtype cannot hold becomes inf or 0.
        with np.errstate(over="ignore", under="ignore"):
            for i in np.ndindex(batch):
                one_a, one_b = a[i].astype(double), b[i].astype(double)
                if np.isfinite(one_a).all():
                    good = np.isfinite(one_b).all(axis=0)
                    one_x, sums, rank[i], s[i] = solve_one(one_a, np.where(good, one_b, 0), rcond)
                    x[i], squares[i] = np.where(good, one_x, np.nan), np.where(good, sums, np.nan)
            real = x.real.dtype
            return Solution(x, squares.astype(real), rank[()], s.astype(real))

    def from_numpy(self, array: Any, namespace: str | None = None) -> Any:
        """NumPy arrays are what it takes."""
        return array


def solve_one(a: Any, b: Any, rcond: float) -> tuple[Any, Any, int, Any]:
    """The solution, the sums of squares, the rank and the singular values for one matrix.

    Not by gelsd, which is faster: where two singular values on either side of the cutoff are close, it mixes their
    vectors.
    """
    from scipy.linalg import lstsq

    exponent_a, exponent_b = exponent(a), exponent(b, axis=0)
    a, b = scaled(a, -exponent_a), scaled(b, -exponent_b)
    # LAPACK takes 0, and 1 or more, to mean eps. By the contract they drop nothing, and everything.
    cond = rcond or np.finfo(float).tiny
    x, _, rank, s = lstsq(a, b, cond=cond, lapack_driver="gelss", check_finite=False)
    if rcond >= 1 or s[0] == 0:
        x, rank = np.zeros_like(x), 0
    squares = (np.abs(b - a @ x) ** 2).sum(axis=0)
    return scaled(x, exponent_b - exponent_a), scaled(squares, 2 * exponent_b), rank, scaled(s, exponent_a)


def exponent(a: Any, axis: int | None = None) -> Any:
    """The power of two next to the largest entry; without it, squares stay in range."""
    return np.frexp(np.maximum(np.abs(a.real), np.abs(a.imag)).max(axis=axis))[1]


def scaled(a: Any, power: Any) -> Any:
    """``a * 2**power``, which rounds nothing; in parts, since of infinity times a complex number NaN may be left."""
    if not np.iscomplexobj(a):
        return np.ldexp(a, power)
    result = np.empty_like(a)
    result.real, result.imag = np.ldexp(a.real, power), np.ldexp(a.imag, power)
    return result
