"""Backends over the NumPy backend, each wrong in one way, which the conformance suite has to catch.

The folder is a distribution in the least form that `importlib.metadata` takes for one: put it on PYTHONPATH.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lstsq import Solution
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
