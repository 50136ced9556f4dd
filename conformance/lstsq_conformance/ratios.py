"""How far an answer is from the truth, as ratios that do not depend on scale, shape or condition.

Each is an error divided by what one rounding error in A would cause, so a backward stable solver keeps it near 1. As
in LAPACK's own tests, 30 is the limit, for every backend, dtype and size. Nothing here has a tolerance of its own.

In the denominators, eps is that of the dtype, ``size`` is ``max(M, N)``, and ``gap`` is the distance from the smallest
singular value that counts to the largest that does not: what decides how firmly the range and row space are fixed.

References
----------
E. Anderson et al., LAPACK 3.12, TESTING/LIN: ddrvls.f (the limit), dqrt12.f (`singular_values`), dqrt14.f
(`minimum_norm`), dqrt16.f (`consistent_residual`), dqrt17.f (`optimality`).
A. Bjorck, "Numerical Methods for Least Squares Problems" (1996), section 1.4 (`solution`: the perturbation bounds).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lstsq_conformance.cases import Problem, scaled
from lstsq_conformance.reference import NumpyArray, dagger, eps_of, residual

LIMIT = 30.0


class Answer(NamedTuple):
    """What a backend said, as NumPy arrays."""

    x: NumpyArray
    residuals: NumpyArray
    rank: NumpyArray
    s: NumpyArray


def singular_values(problem: Problem, answer: Answer) -> float:
    """``max |s - sigma| / (sigma_1 size eps)``."""
    truth, s = problem.truth.s, scaled(answer.s, -problem.exponent)
    return _worst(np.abs(s - truth), truth[0] * _size(problem) * eps_of(problem.dtype))


def optimality(problem: Problem, answer: Answer) -> float:
    """``||A_k^H r|| / (||A|| (||r|| + ||A|| ||x||) size eps)``: the residual is orthogonal to the range that counts."""
    a, b = problem.base
    u, s, _, kept, _, _ = problem.truth
    x = _double(answer.x)
    r = residual(a, x, b)
    slope = _norms((s * kept)[:, None] * (dagger(u) @ r))
    return _worst(slope, s[0] * (_norms(r) + s[0] * _norms(x)) * _size(problem) * eps_of(problem.dtype))


def minimum_norm(problem: Problem, answer: Answer) -> float:
    """``||x - V_k V_k^H x|| / (||x|| size eps sigma_1 / gap)``: x lies in the row space that counts."""
    _, s, vh, kept, _, _ = problem.truth
    x = _double(answer.x)
    if not kept.any():
        return 0.0 if not x.any() else np.inf
    outside = x - dagger(vh) @ (kept[:, None] * (vh @ x))
    return _worst(_norms(outside), _norms(x) * _size(problem) * eps_of(problem.dtype) * s[0] / _gap(problem))


def consistent_residual(problem: Problem, answer: Answer) -> float:
    """``||b - A x|| / (||A|| ||x|| size eps)``, of the right-hand sides that lie in the range of A."""
    a, b = (array[:, : problem.consistent] if array is problem.base[1] else array for array in problem.base)
    x = _double(answer.x)[:, : problem.consistent]
    return _worst(_norms(residual(a, x, b)), problem.truth.s[0] * _norms(x) * _size(problem) * eps_of(problem.dtype))


def residuals(problem: Problem, answer: Answer) -> float:
    """``|sqrt(residuals) - ||b - A x||| / ((||A|| ||x|| + ||b||) size eps)``.

    Where the sum of squares leaves the range of the dtype, it must do so as the dtype's numbers do: to inf, or to 0.
    """
    norms = np.sqrt(problem.truth.residuals)
    unit = (problem.truth.s[0] * _norms(problem.truth.x) + _norms(problem.base[1])) * _size(problem)
    unit = unit * eps_of(problem.dtype)
    info = np.finfo(answer.residuals.dtype)
    with np.errstate(over="ignore", under="ignore"):
        lowest, highest = (
            np.ldexp(np.maximum(norms + side * LIMIT * unit, 0.0) ** 2, 2 * problem.exponent) for side in (-1, 1)
        )
        got = answer.residuals.astype(float)
        # Below the normal numbers a library may round to zero.
        low = np.where(lowest > info.max, np.inf, np.where(lowest < info.tiny, 0.0, lowest))
        high = np.where(highest > info.max, np.inf, np.maximum(highest, info.tiny))
        within = (low <= got) & (got <= high)
        error = np.abs(np.ldexp(np.sqrt(got), -problem.exponent) - norms)
    ordinary = np.isfinite(high) & (low > 0)
    return _worst(np.where(ordinary, error, np.where(within, 0.0, np.inf)), np.where(ordinary, unit, 1.0))


def solution(problem: Problem, answer: Answer) -> float:
    """``||x - x*||`` over what a relative error of ``size eps`` in A can do to x."""
    return _forward(problem, answer, _size(problem) * eps_of(problem.dtype))


def double_arithmetic(problem: Problem, answer: Answer) -> float:
    """The same, over what an error of ``size eps64`` in A and one rounding of x to its own dtype can do."""
    return _forward(problem, answer, _size(problem) * eps_of("float64"))


def _forward(problem: Problem, answer: Answer, arithmetic: float) -> float:
    _, s, _, kept, truth, squares = problem.truth
    error = _norms(_double(answer.x) - truth)
    if not kept.any():
        return 0.0 if not error.any() else np.inf
    smallest = s[kept > 0][-1]
    sensitivity = s[0] / _gap(problem) * (_norms(truth) + np.sqrt(squares) / smallest)
    return _worst(error, eps_of(problem.dtype) * _norms(truth) + arithmetic * sensitivity)


def _gap(problem: Problem) -> float:
    s, kept = problem.truth.s, problem.truth.kept
    k = int(kept.sum())
    return float(s[k - 1] - s[k]) if k < len(s) else float(s[k - 1])


def _size(problem: Problem) -> int:
    return int(max(problem.a.shape))


def _double(x: NumpyArray) -> NumpyArray:
    return x.astype(np.result_type(x.dtype, np.float64))


def _norms(columns: NumpyArray) -> NumpyArray:
    return np.asarray(np.linalg.norm(columns, axis=-2))


def _worst(errors: NumpyArray, units: NumpyArray | float) -> float:
    """The largest ratio; no error is 0 even by no unit, and NaN is infinitely wrong."""
    errors, units = np.broadcast_arrays(errors, units)
    ratios = np.where(errors == 0, 0.0, errors / np.where(units > 0, units, np.nan))
    return float(np.nan_to_num(ratios, nan=np.inf, posinf=np.inf).max(initial=0.0))
