"""One small problem on the CPU, in NumPy's functions: a call of torch takes several times as long as one of these.

A real matrix with at least as many rows as columns goes the certified way of `lstsq_array_api._certified`: P is about
the inverse of G = AᵀA, whatever LAPACK returns, and F = I − P G. With t = ‖A‖_F², the trace of G,

    ρ = ‖F‖_F + ‖P‖_F t (M + 3 N + 10) u,   ‖A⁺‖² <= ‖P‖_F / (1 − ρ),

and the first solution x = P Aᵀ b errs by at most 2 ρ (‖x‖ + ‖r‖ / √t) / (1 − 2 ρ): by ρ for G, and by ρ for what
rounding does to Aᵀ b. Each step x + P Aᵀ r leaves at most ρ / (1 − ρ) times itself of the error. Where ρ is small
enough, it is known beforehand that no step is needed in single precision, and one in double. The columns are not
scaled: where their norms are very different, ρ is too large. What is not proven is left to others.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
from numpy.linalg import LinAlgError

from lstsq._backend import Solution
from lstsq_array_api._certified import CONTRACTION, STEPS
from lstsq_array_api._values import SINGLE, UNIT

NDArray = np.ndarray[Any, Any]

#: The squares of ‖A‖_F and of the norms of b lie between one over this and this.
RANGE = 2.0**300


@np.errstate(all="ignore")  # What is not proven may be anything.
def certify(a: NDArray, b: NDArray, rcond: float) -> Solution | None:
    """The answer for one real matrix ``a (M, N)``, ``M >= N``, and ``b (M, K)``, if it is proven; `s` is None."""
    (m, n), k, dtype = a.shape, b.shape[1], a.dtype
    if m < n or dtype.kind == "c":
        return None
    single = dtype.char == "f"
    if single:
        a, b = a.astype(np.float64), b.astype(np.float64)
    trace = _squares(a)
    if not (1 / RANGE <= trace <= RANGE and all(1 / RANGE <= square <= RANGE for square in _of_columns(b))):
        return None
    gram = a.T.dot(a)
    try:
        p = np.linalg.inv(gram)
    except LinAlgError:
        return None
    defect = p.dot(gram)
    defect.ravel()[:: n + 1] -= 1
    size_p = math.sqrt(_squares(p))
    rho = math.sqrt(_squares(defect)) + size_p * trace * (m + 3 * n + 10) * UNIT
    if not rho < CONTRACTION or not 2 * rcond * math.sqrt(trace * size_p / (1 - rho)) < 1:
        return None

    x = p.dot(a.T.dot(b))
    r = b - a.dot(x)
    squares = _of_columns(r)
    # How many steps are needed, where that is known.
    known = 0 if single and 2 * rho <= SINGLE * (1 - 2 * rho) else 1 if 4 * rho * rho <= UNIT else None
    before = [math.inf] * k
    for taken in range(STEPS + 1):
        if taken == known:
            break
        step = p.dot(a.T.dot(r))
        x = x + step
        r = b - a.dot(x)
        squares = _of_columns(r)
        if known is None:
            steps, sizes, residuals = (
                [math.sqrt(v) for v in of] for of in (_of_columns(step), _of_columns(x), squares)
            )
            if all(map(partial(_is_done, rho, math.sqrt(trace), (m, n), single), steps, sizes, residuals)):
                break
            if not all(now <= then / 2 for now, then in zip(steps, before)):
                return None
            before = steps
    else:
        return None
    return Solution(x.astype(dtype), np.array(squares, dtype), np.array(n, np.int32), None)


def _is_done(
    rho: float, norm: float, shape: tuple[int, int], single: bool, step: float, size: float, residual: float
) -> bool:
    """Whether what the last step has left of the error is nothing, in x and in the residual."""
    (m, n), left = shape, rho * step / (1 - rho)
    enough = SINGLE if single else UNIT * (1 + 1 / (8 * math.sqrt(n)))
    if not left <= enough * (size + residual / norm if m > n else size):
        return False
    own = 8 * UNIT * norm * size
    return single or residual <= own or norm * left <= max(own, 2.0**-27 * residual)


def _squares(v: NDArray) -> float:
    flat = v.ravel()
    return float(flat.dot(flat))


def _of_columns(v: NDArray) -> list[float]:
    """The sum of squares of each column."""
    if v.shape[1] == 1:
        return [_squares(v)]
    squares: list[float] = np.vecdot(v.T, v.T).tolist()
    return squares
