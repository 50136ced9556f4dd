"""How far an answer is from the truth, as ratios that do not depend on scale, shape or condition.

Each is an error divided by what one rounding error in A would cause, so a backward stable solver keeps it near 1. As
in LAPACK's own tests, 30 is the limit, for every backend, dtype and size. Nothing here has a tolerance of its own.

In the denominators, eps is that of the dtype, ``size`` is ``max(M, N)``, and ``gap`` is the distance from the smallest
singular value that counts to the largest that does not: what decides how firmly the range and row space are fixed.

Everything is measured on the problem at ordinary size, A and each right-hand side being scaled by powers of two, and so
is the answer. What the dtype cannot hold is not wrong (`ranges`).

References
----------
E. Anderson et al., LAPACK 3.12, TESTING/LIN: ddrvls.f (the limit), dqrt12.f (`singular_values`), dqrt14.f
(`minimum_norm`), dqrt16.f (`consistent_residual`), dqrt17.f (`optimality`).
A. Bjorck, "Numerical Methods for Least Squares Problems" (1996), section 1.4 (`solution`: the perturbation bounds).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lstsq_conformance.cases import Problem
from lstsq_conformance.ranges import brought_back, root_brought_back, scaled
from lstsq_conformance.reference import NumpyArray, dagger, eps_of, real_of, residual

LIMIT = 30.0


class Answer(NamedTuple):
    """What a backend said, as NumPy arrays."""

    x: NumpyArray
    residuals: NumpyArray
    rank: NumpyArray
    s: NumpyArray


def singular_values(problem: Problem, answer: Answer) -> float:
    """``max |s - sigma| / (sigma_1 size eps)``."""
    truth = problem.truth.s
    unit = truth[0] * _size(problem) * eps_of(problem.dtype)
    s = brought_back(answer.s, truth, problem.exponent, LIMIT * unit, problem.dtype)
    return _worst(np.abs(s - truth), unit)


def optimality(problem: Problem, answer: Answer) -> float:
    """``||A_k^H r|| / (||A|| (||r|| + ||A|| ||x||) size eps)``: the residual is orthogonal to the range that counts."""
    a, b = problem.base
    u, s, _, kept, _, _ = problem.truth
    x = _solution(problem, answer)
    r = residual(a, x, b)
    slope = _norms((s * kept)[:, None] * (dagger(u) @ r))
    return _worst(slope, s[0] * (_norms(r) + s[0] * _norms(x)) * _size(problem) * eps_of(problem.dtype))


def minimum_norm(problem: Problem, answer: Answer) -> float:
    """``||x - V_k V_k^H x|| / (||x|| size eps sigma_1 / gap)``: x lies in the row space that counts."""
    _, s, vh, kept, _, _ = problem.truth
    x = _solution(problem, answer)
    if not kept.any():
        return 0.0 if not x.any() else np.inf
    outside = x - dagger(vh) @ (kept[:, None] * (vh @ x))
    return _worst(_norms(outside), _norms(x) * _size(problem) * eps_of(problem.dtype) * s[0] / _gap(problem))


def consistent_residual(problem: Problem, answer: Answer) -> float:
    """``||b - A x|| / (||A|| ||x|| size eps)``, of the right-hand sides that lie in the range of A."""
    a, b = (array[:, : problem.consistent] if array is problem.base[1] else array for array in problem.base)
    x = _solution(problem, answer)[:, : problem.consistent]
    return _worst(_norms(residual(a, x, b)), problem.truth.s[0] * _norms(x) * _size(problem) * eps_of(problem.dtype))


def residuals(problem: Problem, answer: Answer) -> float:
    """``|sqrt(residuals) - ||b - A x||| / ((||A|| ||x|| + ||b||) size eps)``."""
    norms, lengths, x = np.sqrt(problem.truth.residuals), _norms(problem.base[1]), _norms(problem.truth.x)
    largest = problem.truth.s[0]
    unit = (largest * x + lengths) * _size(problem) * eps_of(problem.dtype)
    # Where x is below the normal numbers, the residual may be that of the truth, or of what is left of x.
    lost = scaled(np.full_like(x, np.finfo(real_of(problem.dtype)).tiny), -problem.powers)
    unit = unit + largest * np.minimum(np.sqrt(problem.a.shape[1]) * lost, x) / LIMIT
    got = root_brought_back(answer.residuals, norms, problem.exponents, LIMIT * unit, problem.dtype)
    return _worst(np.abs(got - norms), unit)


def solution(problem: Problem, answer: Answer) -> float:
    """``||x - x*||`` over what a relative error of ``size eps`` in A can do to x."""
    return _forward(problem, answer, _size(problem) * eps_of(problem.dtype))


def double_arithmetic(problem: Problem, answer: Answer) -> float:
    """The same, over what an error of ``size eps64`` in A and one rounding of x to its own dtype can do."""
    return _forward(problem, answer, _size(problem) * eps_of("float64"))


def _forward(problem: Problem, answer: Answer, arithmetic: float) -> float:
    return _error_of(problem, answer, problem.truth.x, _change(problem, arithmetic))


def _change(problem: Problem, arithmetic: float) -> NumpyArray:
    """What one rounding of x and errors in A of this size can do to x, for any A of this condition."""
    _, s, _, kept, x, squares = problem.truth
    unit = eps_of(problem.dtype) * _norms(x)
    if not kept.any():
        return unit
    sensitivity = s[0] / _gap(problem) * (_norms(x) + np.sqrt(squares) / s[kept > 0][-1])
    return np.asarray(unit + arithmetic * sensitivity)


def close_to_cutoff(problem: Problem, answer: Answer) -> float:
    """``||x - x*||`` over what rounding errors do to this very x, to first order, and not to any of its condition.

    For problems whose entries are all of one size. See `sensitivity`.
    """
    eps, (_, _, x, changes, _) = eps_of(problem.dtype), problem.exact
    return _error_of(problem, answer, x, eps * (_norms(x) + changes))


def _error_of(problem: Problem, answer: Answer, truth: NumpyArray, unit: NumpyArray) -> float:
    x = brought_back(answer.x, truth, problem.powers, LIMIT * unit, problem.dtype)
    return _worst(_norms(x - truth), unit)


def _solution(problem: Problem, answer: Answer) -> NumpyArray:
    """The solution at ordinary size; what the dtype cannot hold is taken from the truth."""
    slack = LIMIT * _change(problem, _size(problem) * eps_of(problem.dtype))
    return brought_back(answer.x, problem.truth.x, problem.powers, slack, problem.dtype)


def _gap(problem: Problem) -> float:
    s, kept = problem.truth.s, problem.truth.kept
    k = int(kept.sum())
    return float(s[k - 1] - s[k]) if k < len(s) else float(s[k - 1])


def _size(problem: Problem) -> int:
    return int(max(problem.a.shape))


def _norms(columns: NumpyArray) -> NumpyArray:
    return np.asarray(np.linalg.norm(columns, axis=-2))


def _worst(errors: NumpyArray, units: NumpyArray | float) -> float:
    """The largest ratio; no error is 0 even by no unit, and NaN is infinitely wrong."""
    errors, units = np.broadcast_arrays(errors, units)
    ratios = np.where(errors == 0, 0.0, errors / np.where(units > 0, units, np.nan))
    return float(np.nan_to_num(ratios, nan=np.inf, posinf=np.inf).max(initial=0.0))
