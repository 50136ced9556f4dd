"""Backends over the NumPy backend, each wrong in one way, which the conformance suite has to catch.

The folder is a distribution in the least form that `importlib.metadata` takes for one: put it on PYTHONPATH.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from lstsq import Factors, Solution
from lstsq_numpy import NumpyBackend


class Honest(NumpyBackend):
    """Nothing wrong: what is caught elsewhere is caught for its fault, not for its being planted."""

    name = "planted-honest"


class RcondIgnored(NumpyBackend):
    name = "planted-rcond-ignored"

    def solve(self, a: Any, b: Any, rcond: float, driver: str) -> Solution:
        return super().solve(a, b, 1e-15, driver)


class CutoffStrict(NumpyBackend):
    """A singular value is zero iff s < rcond * s_max, where the contract says <=."""

    name = "planted-cutoff-strict"

    def solve(self, a: Any, b: Any, rcond: float, driver: str) -> Solution:
        return super().solve(a, b, float(np.nextafter(rcond, 0)), driver)


class NoMinimumNorm(NumpyBackend):
    """A least-squares solution, but with something of the null space in it."""

    name = "planted-no-minimum-norm"

    def solve(self, a: Any, b: Any, rcond: float, driver: str) -> Solution:
        solution = super().solve(a, b, rcond, driver)
        vh = np.linalg.svd(a, full_matrices=True)[2]
        outside = np.arange(a.shape[-1]) >= np.asarray(solution.rank)[..., None]
        added = np.sum(np.conj(vh) * outside[..., None], axis=-2)
        return solution._replace(x=(solution.x + added[..., None]).astype(a.dtype))


class ResidualsNotSquared(NumpyBackend):
    name = "planted-residuals-not-squared"

    def solve(self, a: Any, b: Any, rcond: float, driver: str) -> Solution:
        solution = super().solve(a, b, rcond, driver)
        return solution._replace(residuals=np.sqrt(solution.residuals))


class ResidualsOfTheWrongSide(NumpyBackend):
    name = "planted-residuals-of-the-wrong-side"

    def solve(self, a: Any, b: Any, rcond: float, driver: str) -> Solution:
        solution = super().solve(a, b, rcond, driver)
        return solution._replace(residuals=np.roll(solution.residuals, 1, axis=-1))


class BatchLeaks(NumpyBackend):
    """The rank found for one element limits the next, as where LAPACK's in-and-out arguments are not set again."""

    name = "planted-batch-leaks"

    def solve(self, a: Any, b: Any, rcond: float, driver: str) -> Solution:
        solution = super().solve(a, b, rcond, driver)
        if a.ndim == 2:
            return solution
        x, rank = solution.x.copy(), solution.rank.copy()
        previous = None
        for i in np.ndindex(a.shape[:-2]):
            if previous is not None and solution.rank[previous] < solution.rank[i]:
                rank[i] = solution.rank[previous]
                u, s, vh = np.linalg.svd(a[i], full_matrices=False)
                k = int(rank[i])
                x[i] = vh[:k].conj().T @ ((u[:, :k].conj().T @ b[i]) / s[:k, None])
            previous = i
        return solution._replace(x=x, rank=rank)


class SinglePrecision(NumpyBackend):
    """Claims to solve float32 in double, and does not."""

    name = "planted-single-precision"

    def solve(self, a: Any, b: Any, rcond: float, driver: str) -> Solution:
        solution = super().solve(a, b, rcond, driver)
        if a.dtype not in ("float32", "complex64"):
            return solution
        u, s, vh = np.linalg.svd(a, full_matrices=False)
        kept = s > np.float32(rcond) * s[..., :1]
        inverse = np.where(kept, 1 / np.where(kept, s, 1), 0).astype(s.dtype)
        x = np.conj(np.swapaxes(vh, -1, -2)) @ (inverse[..., None] * (np.conj(np.swapaxes(u, -1, -2)) @ b))
        return solution._replace(x=x.astype(a.dtype))


class ConjugationForgotten(NumpyBackend):
    """Solves with the transpose where the adjoint belongs."""

    name = "planted-conjugation-forgotten"

    def solve(self, a: Any, b: Any, rcond: float, driver: str) -> Solution:
        solution = super().solve(a, b, rcond, driver)
        u, s, vh = np.linalg.svd(a, full_matrices=False)
        kept = np.arange(s.shape[-1]) < np.asarray(solution.rank)[..., None]
        inverse = np.where(kept, 1 / np.where(kept, s, 1), 0)
        x = np.conj(np.swapaxes(vh, -1, -2)) @ (inverse[..., None] * (np.swapaxes(u, -1, -2) @ b))
        return solution._replace(x=x.astype(a.dtype))


class NanSwallowed(NumpyBackend):
    name = "planted-nan-swallowed"

    def solve(self, a: Any, b: Any, rcond: float, driver: str) -> Solution:
        return super().solve(np.nan_to_num(a), np.nan_to_num(b), rcond, driver)


class Unsorted(NumpyBackend):
    name = "planted-s-unsorted"

    def solve(self, a: Any, b: Any, rcond: float, driver: str) -> Solution:
        solution = super().solve(a, b, rcond, driver)
        return solution._replace(s=solution.s[..., ::-1].copy())


class RankOffAtTie(NumpyBackend):
    """The solution treats a tie as zero, and the reported rank counts it."""

    name = "planted-rank-off-at-tie"

    def solve(self, a: Any, b: Any, rcond: float, driver: str) -> Solution:
        solution = super().solve(a, b, rcond, driver)
        s = solution.s.astype(float)
        counted = np.sum((s >= rcond * s[..., :1]) & (s > 0), axis=-1)
        return solution._replace(rank=counted.astype(np.int32)[()])


class FloatRank(NumpyBackend):
    """The rank is a float."""

    name = "planted-float-rank"

    def solve(self, a: Any, b: Any, rcond: float, driver: str) -> Solution:
        solution = super().solve(a, b, rcond, driver)
        return solution._replace(rank=np.asarray(solution.rank, float)[()])


class WritesToItsInput(NumpyBackend):
    """Leaves its workspace in the caller's matrix, where it can."""

    name = "planted-writes-to-its-input"

    def solve(self, a: Any, b: Any, rcond: float, driver: str) -> Solution:
        solution = super().solve(a, b, rcond, driver)
        a[...] = 0
        return solution


class NanColumnSpreads(NumpyBackend):
    """One right-hand side that is not finite takes the others with it."""

    name = "planted-nan-column-spreads"

    def solve(self, a: Any, b: Any, rcond: float, driver: str) -> Solution:
        solution = super().solve(a, b, rcond, driver)
        lost = np.where(np.isfinite(b).all(axis=(-2, -1)), 0, np.nan)
        return solution._replace(
            x=(solution.x + lost[..., None, None]).astype(a.dtype),
            residuals=(solution.residuals + lost[..., None]).astype(solution.residuals.dtype),
        )


class NanColumnSwallowed(NumpyBackend):
    """A right-hand side that is not finite gets a solution of numbers."""

    name = "planted-nan-column-swallowed"

    def solve(self, a: Any, b: Any, rcond: float, driver: str) -> Solution:
        return super().solve(a, np.where(np.isfinite(b), b, 0), rcond, driver)


class NanColumnTakesTheRank(NumpyBackend):
    """Rank and singular values are lost with a right-hand side, as if the matrix were not finite."""

    name = "planted-nan-column-takes-the-rank"

    def solve(self, a: Any, b: Any, rcond: float, driver: str) -> Solution:
        solution = super().solve(a, b, rcond, driver)
        finite = np.isfinite(b).all(axis=(-2, -1))
        s = np.where(finite[..., None], solution.s, np.nan)
        return solution._replace(rank=np.where(finite, solution.rank, 0)[()], s=s.astype(solution.s.dtype))


class NegativeIsTheSpacing(NumpyBackend):
    """A negative cutoff means the spacing of the numbers, 2**-52, and not LAPACK's 2**-53."""

    name = "planted-negative-is-the-spacing"

    def solve(self, a: Any, b: Any, rcond: float, driver: str) -> Solution:
        eps = float(np.finfo(a.dtype).eps)
        return super().solve(a, b, eps if rcond == eps / 2 else rcond, driver)


class ScaleOfBShared(NumpyBackend):
    """All right-hand sides are scaled by the largest, next to which small ones vanish."""

    name = "planted-scale-of-b-shared"

    def solve(self, a: Any, b: Any, rcond: float, driver: str) -> Solution:
        largest = np.abs(b).max(axis=(-2, -1), keepdims=True)
        tiny = np.finfo(np.float64).tiny / np.finfo(np.float64).eps
        return super().solve(a, np.where(np.abs(b) > tiny * largest, b, 0), rcond, driver)


class SquaresUnderflow(NumpyBackend):
    """Certifies full rank from squares that may be zero: ``0 <= 0`` takes any matrix of small numbers for sound."""

    name = "planted-squares-underflow"

    def solve(self, a: Any, b: Any, rcond: float, driver: str) -> Solution:
        with np.errstate(under="ignore"):
            sure = (np.linalg.norm(a.astype(np.result_type(a, float)) ** 4, axis=(-2, -1)) == 0).all()
        return super().solve(a, b, 0.0 if sure else rcond, driver)


class SloppyAtTheCutoff(NumpyBackend):
    """Backward stable, by the bounds for any matrix, and off wherever the cutoff lies between close singular values."""

    name = "planted-sloppy-at-the-cutoff"

    def solve(self, a: Any, b: Any, rcond: float, driver: str) -> Solution:
        solution = super().solve(a, b, rcond, driver)
        if a.ndim != 2:
            return solution
        noise = np.random.default_rng(0).standard_normal(a.shape) / np.sqrt(min(a.shape))
        u, s, vh = np.linalg.svd(a + 30 * np.finfo(float).eps * solution.s[0] * noise, full_matrices=False)
        k = int(solution.rank)
        return solution._replace(x=(vh[:k].conj().T @ ((u[:, :k].conj().T @ b) / s[:k, None])).astype(a.dtype))


class NeighbourOverflows(NumpyBackend):
    """Where one sum of squares overflows, all are computed from smaller numbers, and the small ones are lost."""

    name = "planted-neighbour-overflows"

    def solve(self, a: Any, b: Any, rcond: float, driver: str) -> Solution:
        solution = super().solve(a, b, rcond, driver)
        overflow = np.isinf(solution.residuals)
        return solution._replace(
            residuals=np.where(overflow.any(axis=-1, keepdims=True) & ~overflow, 0, solution.residuals)
        )


class NoSvd(NumpyBackend):
    """Has no driver of the name that every backend has."""

    name = "planted-no-svd"
    capabilities = dataclasses.replace(NumpyBackend.capabilities, drivers=("gelsd",), default_driver="gelsd")


class RankGuessedWithoutS(NumpyBackend):
    """Without the singular values every matrix is taken to have full rank."""

    name = "planted-rank-guessed-without-s"

    def solve_without_s(self, a: Any, b: Any, rcond: float, driver: str) -> Solution:
        solution = super().solve(a, b, rcond, driver)
        return solution._replace(rank=np.full_like(solution.rank, min(a.shape[-2:])), s=None)


class ProductInSingle(NumpyBackend):
    """Multiplies in less than the precision of the arrays, as a setting of a library may allow."""

    name = "planted-product-in-single"

    def matmul(self, a: Any, b: Any) -> Any:
        return super().matmul(a.astype(np.float32), b.astype(np.float32)).astype(a.dtype)


class RankNotKnown(NumpyBackend):
    """Takes arrays with numbers for traced ones."""

    name = "planted-rank-not-known"

    def known(self, array: Any) -> None:
        return None


class FactorsForgetTheCutoff(NumpyBackend):
    """A further right-hand side is solved with the cutoff of the first."""

    name = "planted-factors-forget-the-cutoff"

    def solve_factored(self, a: Any, factors: Factors, b: Any, rcond: float, penalties: Any = None) -> Solution:
        return super().solve_factored(a, factors, b, 1e-12, penalties)


class FactorsInSingle(NumpyBackend):
    """The factors are rounded to the precision of the matrix."""

    name = "planted-factors-in-single"

    def factorize(self, a: Any) -> Factors:
        real = np.empty(0, a.dtype).real.dtype
        u, s, vh, power = super().factorize(a)
        rounded = u.astype(a.dtype), s.astype(real), vh.astype(a.dtype)
        return Factors(*(part.astype(np.result_type(part, np.float64)) for part in rounded), power)


class PenaltyInTheResiduals(NumpyBackend):
    """The sums of squares along a path of penalties contain the penalty."""

    name = "planted-penalty-in-the-residuals"

    def solve_factored(self, a: Any, factors: Factors, b: Any, rcond: float, penalties: Any = None) -> Solution:
        solution = super().solve_factored(a, factors, b, rcond, penalties)
        if penalties is None:
            return solution
        added = np.repeat(penalties, b.shape[-1]) * np.sum(np.abs(solution.x) ** 2, axis=-2)
        return solution._replace(residuals=solution.residuals + added)
