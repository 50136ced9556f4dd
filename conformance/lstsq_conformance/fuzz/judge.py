"""Right or wrong: answers to a group of problems against the decomposition in extended precision.

Each number is an error over what rounding may do, as in `ratios`, and the limit is the same. Three things differ. The
truth has thirty digits. The denominator for x is not one bound for every A of this size and condition, but what errors
of this size do to this x: where the cutoff lies between two singular values that are close, the first says nothing.
And where rounding leaves the rank open, an answer is judged by the rank that it states.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lstsq_conformance import reference_extended as extended
from lstsq_conformance.fuzz.problems import Group
from lstsq_conformance.pairs import add, pair
from lstsq_conformance.ranges import brought_back, exponent_of, joined, parts, root_brought_back, scaled
from lstsq_conformance.ratios import LIMIT, Answer
from lstsq_conformance.reference import NumpyArray, cutoff, eps_of, real_of
from lstsq_conformance.sensitivity import changes, rounding

#: Up to so many singular values there is time for extended precision.
_EXACT = 48


class Verdict(NamedTuple):
    """One ratio for each problem of the group and each thing that may be wrong; beyond the limit it is."""

    raised: NumpyArray
    nonfinite: NumpyArray
    rank: NumpyArray
    x: NumpyArray
    residuals: NumpyArray
    s: NumpyArray

    def wrong(self) -> NumpyArray:
        """Which problems were not answered right in any way."""
        return np.asarray(np.max(self, axis=0) > LIMIT)

    def worst(self, i: int) -> tuple[str, float]:
        """The first thing that is wrong about this problem, and its ratio."""
        return next((name, float(ratios[i])) for name, ratios in self._asdict().items() if ratios[i] > LIMIT)


class Judge:
    """The truth about one group of problems."""

    def __init__(self, group: Group):
        self.group = group
        self.dtype = group.dtype
        self.size = max(group.a.shape[-2:])
        self.complex = self.dtype.startswith("complex")
        self.finite_a = np.asarray(np.isfinite(group.a).all(axis=(-2, -1)))
        self.finite_b = np.asarray(np.isfinite(group.b).all(axis=-2))
        a = np.where(self.finite_a[:, None, None], group.a, 0)
        b = np.where(self.finite_b[:, None, :], group.b, 0)
        # Of all entries of A at once, and of each right-hand side.
        self.exponent_a, a = _to_ordinary_size(a, (-2, -1))
        self.exponent_b, b = _to_ordinary_size(b, (-2,))
        self.a, self.b = extended.real_form(a), _stacked(b)
        self.exact = min(self.a.shape[-2:]) <= _EXACT
        self.factors, self.converged = extended.decompose(self.a) if self.exact else _in_double(self.a)
        self.c = extended.coefficients(self.factors, self.b)
        self.rounding = rounding(self.a, self.factors.s.high[:, 0])
        step = 2 if self.complex else 1
        self.s = self.factors.s.high[:, ::step]
        self.relative = cutoff(group.rcond, self.dtype, *group.a.shape[-2:])

    def ranks(self, eps: float) -> tuple[NumpyArray, NumpyArray]:
        """The least and the most that the rank may be, where singular values have errors of some eps."""
        largest = self.s[:, :1]
        if self.relative >= 1:
            none = np.zeros(len(self.s), int)
            return none, none
        doubt = self._doubt(eps)
        edge = self.relative * largest
        return np.sum(self.s > edge + doubt, axis=-1), np.sum((self.s > edge - doubt) & (largest > 0), axis=-1)

    def _doubt(self, eps: float) -> NumpyArray:
        """How far off a singular value may be."""
        if self.exact:
            # In what the errors of the large ones have in common, no rounding is to the other side.
            return np.asarray(eps * (16 * self.rounding[:, None] + 8 * min(self.relative, 1.0) * self.s[:, :1]))
        return np.asarray(eps * 4 * self.size * self.s[:, :1])

    def __call__(self, answer: Answer, in_double: bool) -> Verdict:
        """The ratios. `in_double`: whether single precision is claimed to be solved in double."""
        size, _, k = self.group.b.shape
        eps = eps_of("float64") if in_double else eps_of(self.dtype)
        low, high = self.ranks(eps)
        rank = np.asarray(answer.rank).astype(int)
        known = self.finite_a & self.converged
        wrong_rank = np.where(known & ((rank < low) | (rank > high)), np.inf, 0.0)
        x, residuals = np.zeros((size, k)), np.zeros((size, k))
        for value in np.unique(rank[known & (wrong_rank == 0)]):
            chosen = np.flatnonzero(known & (wrong_rank == 0) & (rank == value))
            x[chosen], residuals[chosen] = self._columns(chosen, int(value), answer, eps)
        s = self._singular_values(answer.s)
        columns = self.finite_b & known[:, None]
        return Verdict(
            np.zeros(size),
            self._nonfinite(answer),
            wrong_rank,
            np.where(columns, x, 0.0).max(axis=-1),
            np.where(columns, residuals, 0.0).max(axis=-1),
            np.where(known, s, 0.0),
        )

    def _nonfinite(self, answer: Answer) -> NumpyArray:
        """All NaN and rank 0 where A is not finite, NaN in its own columns where b is not, and nowhere else."""
        lost = np.isnan(answer.x).all(axis=(-2, -1)) & np.isnan(answer.residuals).all(axis=-1)
        lost &= np.isnan(answer.s).all(axis=-1) & (answer.rank == 0)
        columns = np.isnan(answer.x).all(axis=-2) & np.isnan(answer.residuals)
        # A complex number may be infinite and NaN in its parts: it is infinite.
        numbers = ~(np.isnan(answer.x) & ~np.isinf(answer.x)).any(axis=-2) & ~np.isnan(answer.residuals)
        right = np.where(self.finite_a, np.where(self.finite_b, numbers, columns).all(axis=-1), lost)
        return np.where(right, 0.0, np.inf)

    def _singular_values(self, s: NumpyArray) -> NumpyArray:
        unit = self.s[:, :1] * self.size * eps_of(self.dtype)
        found = brought_back(s, self.s, self.exponent_a[:, 0], LIMIT * unit, self.dtype)
        return np.asarray(_ratio(np.abs(found - self.s), unit).max(axis=-1))

    def _columns(self, chosen: NumpyArray, rank: int, answer: Answer, eps: float) -> tuple[NumpyArray, NumpyArray]:
        """Ratios of x and of the residuals of these problems, all of this rank."""
        kept = rank * (2 if self.complex else 1)
        exact, r = self._solved(chosen, kept)
        of_x, of_r, of_b = (np.linalg.norm(array, axis=-2) for array in (exact, r, self.b[chosen]))
        moved_x, moved_r = self._moved(chosen, kept, of_x, of_r, of_b, eps)
        precision, largest = eps_of(self.dtype), self.s[chosen, :1]
        powers_b = self.exponent_b[chosen]
        powers_x = powers_b - self.exponent_a[chosen]

        unit = precision * of_x + eps * moved_x
        truth = joined(np.split(exact, 2, axis=-2)) if self.complex else exact
        found = brought_back(answer.x[chosen], truth, powers_x, LIMIT * unit[:, None, :], self.dtype)
        x = _ratio(np.linalg.norm(found - truth, axis=-2), unit)

        unit = precision * self.size * (largest * of_x + of_b) + eps * moved_r
        # Where x is below the normal numbers, the residual may be that of the truth or that of what is left of it.
        tiny = scaled(np.full_like(of_x, np.finfo(real_of(self.dtype)).tiny), -powers_x[:, 0])
        unit += largest * np.minimum(np.sqrt(self.a.shape[-1]) * tiny, of_x) / LIMIT
        found = root_brought_back(answer.residuals[chosen], of_r, powers_b[:, 0], LIMIT * unit, self.dtype)
        return x, _ratio(np.abs(found - of_r), unit)

    def _solved(self, chosen: NumpyArray, kept: int) -> tuple[NumpyArray, NumpyArray]:
        """The solution with so many singular values, real and imaginary parts under each other, and the residual."""
        factors, a, b, ranks = self.factors.take(chosen), self.a[chosen], self.b[chosen], np.full(len(chosen), kept)
        x = extended.solution(factors, self.c[chosen], ranks)
        r = extended.residual(a, x, b)
        if not self.exact:
            # A step of refinement.
            x = add(x, extended.solution(factors, extended.coefficients(factors, r.high), ranks))
            r = extended.residual(a, x, b)
        return x.high, r.high

    def _moved(
        self, chosen: NumpyArray, kept: int, of_x: NumpyArray, of_r: NumpyArray, of_b: NumpyArray, eps: float
    ) -> tuple[NumpyArray, NumpyArray]:
        """What errors whose roundings are of 1 do to x and to the residual."""
        s, c, b = self.factors.s.high[chosen], self.c[chosen], self.b[chosen]
        if kept == 0:
            return np.zeros_like(of_x), np.zeros_like(of_r)
        if self.exact:
            beyond = extended.beyond(b, c)
            moved = changes(self.a.shape[-2:], s, c.high, b, beyond, kept, self.rounding[chosen])
        else:
            # The bound for every A of this size and condition: see `ratios.solution`.
            gap = s[:, kept - 1, None] - (s[:, kept, None] if kept < s.shape[-1] else 0.0)
            with np.errstate(divide="ignore", invalid="ignore"):
                turned = self.size * s[:, :1] / gap
                x, r = turned * (of_x + of_r / s[:, kept - 1, None]), turned * of_b * (kept < s.shape[-1])
            moved = np.nan_to_num(x, nan=np.inf), np.nan_to_num(r, nan=np.inf)
        # Of singular values that rounding leaves open, nothing is known but that the rank may count them.
        open_ = s[:, kept - 1] <= self._doubt(eps)[chosen, 0]
        return np.where(open_[:, None], np.inf, moved[0]), np.where(open_[:, None], np.inf, moved[1])


def _in_double(a: NumpyArray) -> tuple[extended.Factors, NumpyArray]:
    """The factors in double precision, for matrices that are too large for more."""
    u, s, vh = np.linalg.svd(a, full_matrices=False)
    v, tall = np.swapaxes(vh, -1, -2), a.shape[-2] >= a.shape[-1]
    scaled_u, scaled_v = (u * s[:, None, :], v) if tall else (u, v * s[:, None, :])
    return extended.Factors(pair(scaled_u), pair(s), pair(scaled_v), tall), np.ones(len(a), bool)


def _to_ordinary_size(array: NumpyArray, axes: tuple[int, ...]) -> tuple[NumpyArray, NumpyArray]:
    """The exponent of the largest entry along these axes, which are kept, and the array without it."""
    exponent = exponent_of(array, axes)
    return exponent, scaled(array, -exponent)


def _stacked(b: NumpyArray) -> NumpyArray:
    """Real and imaginary parts under each other, as doubles."""
    return np.concatenate(parts(b), axis=-2)


def _ratio(error: NumpyArray, unit: NumpyArray) -> NumpyArray:
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratio = np.where(error == 0, 0.0, error / unit)
    return np.where(np.isnan(ratio), np.where(np.isinf(unit), 0.0, np.inf), ratio)
