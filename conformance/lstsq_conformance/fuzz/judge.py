"""Right or wrong: answers to a group of problems against the decomposition in extended precision.

Each number is an error over what rounding may do, as in `ratios`, and the limit is the same. Three things differ. The
truth has thirty digits. The denominator for x is not one bound for every A of this size and condition, but what errors
of this size do to this x: where the cutoff lies between two singular values that are close, the first says nothing.
And where rounding leaves the rank open, an answer is judged by the rank that it states.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from lstsq_conformance import reference_extended as extended
from lstsq_conformance.fuzz.problems import Group
from lstsq_conformance.ratios import LIMIT, Answer
from lstsq_conformance.reference import NumpyArray, cutoff, eps_of, real_of

#: Up to so many singular values there is time for extended precision.
_EXACT = 48
#: What is judged, in the order in which it is reported.
KINDS = ("nonfinite", "rank", "x", "residuals", "s")


class Verdict(NamedTuple):
    """One ratio for each problem of the group and each kind; beyond the limit is wrong."""

    nonfinite: NumpyArray
    rank: NumpyArray
    x: NumpyArray
    residuals: NumpyArray
    s: NumpyArray

    def wrong(self) -> NumpyArray:
        """Which problems were not answered right in any way."""
        return np.asarray(np.max(self, axis=0) > LIMIT)


class Judge:
    """The truth about one group of problems."""

    def __init__(self, group: Group):
        self.group = group
        self.dtype = group.dtype
        self.complex = self.dtype.startswith("complex")
        self.finite_a = np.isfinite(group.a).all(axis=(-2, -1))
        self.finite_b = np.isfinite(group.b).all(axis=-2)
        a = np.where(self.finite_a[:, None, None], group.a, 0)
        b = np.where(self.finite_b[:, None, :], group.b, 0)
        self.exponent_a, a = _to_ordinary_size(a, (-2, -1))
        self.exponent_b, b = _to_ordinary_size(b, (-2,))
        self.a, self.b = extended.real_form(a), _stacked(b)
        self.exact = min(self.a.shape[-2:]) <= _EXACT
        self.factors, self.converged = extended.decompose(self.a) if self.exact else _in_double(self.a)
        self.c = extended.coefficients(self.factors, self.b)
        self.rounding = _rounding(self.a, self.factors.s.high[:, 0])[:, None]
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
        return 16 * eps * self.rounding if self.exact else 4 * max(self.group.a.shape[-2:]) * eps * self.s[:, :1]

    def __call__(self, answer: Answer, in_double: bool) -> Verdict:
        """The ratios. `in_double`: whether single precision is claimed to be solved in double."""
        size, k = self.group.b.shape[0], self.group.b.shape[-1]
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
            self._nonfinite(answer),
            wrong_rank,
            np.where(columns, x, 0.0).max(axis=-1),
            np.where(columns, residuals, 0.0).max(axis=-1),
            np.where(known, s, 0.0),
        )

    def _nonfinite(self, answer: Answer) -> NumpyArray:
        """All NaN and rank 0 where A is not finite, NaN in its own columns where b is not."""
        lost = np.isnan(answer.x).all(axis=(-2, -1)) & np.isnan(answer.residuals).all(axis=-1)
        lost &= np.isnan(answer.s).all(axis=-1) & (answer.rank == 0)
        columns = np.isnan(answer.x).all(axis=-2) & np.isnan(answer.residuals)
        right = np.where(self.finite_a, (columns | self.finite_b).all(axis=-1), lost)
        return np.where(right, 0.0, np.inf)

    def _singular_values(self, s: NumpyArray) -> NumpyArray:
        unit = self.s[:, :1] * max(self.group.a.shape[-2:]) * eps_of(self.dtype)
        error = _error(s, self.s, self.exponent_a[:, 0], unit, self.dtype)
        return _ratio(error, unit).max(axis=-1)

    def _columns(
        self, chosen: NumpyArray, rank: int, answer: Answer, eps: float
    ) -> tuple[NumpyArray, NumpyArray]:
        """Ratios of x and of the residuals of these problems, all of this rank."""
        kept = rank * (2 if self.complex else 1)
        factors = self._factors(chosen)
        a, b, c = self.a[chosen], self.b[chosen], extended.Pair(*(part[chosen] for part in self.c))
        ranks = np.full(len(chosen), kept)
        exact = extended.solution(factors, c, ranks)
        r = extended.residual(a, exact, b).high
        if not self.exact:
            # A step of refinement.
            step = extended.solution(factors, extended.coefficients(factors, r), ranks)
            exact = extended.add(exact, step)
            r = extended.residual(a, exact, b).high
        truth, norms, lengths = exact.high, np.linalg.norm(exact.high, axis=-2), np.linalg.norm(b, axis=-2)
        largest = self.s[chosen, :1]
        if self.exact:
            moved_x, moved_r = _sensitivity(a, b, factors.s.high, c.high, kept, norms, self.rounding[chosen])
        else:
            moved_x, moved_r = _bound(factors.s.high, kept, norms, np.linalg.norm(r, axis=-2), lengths)
            moved_x, moved_r = (max(self.group.a.shape[-2:]) * moved for moved in (moved_x, moved_r))
        if kept:
            # Of singular values that rounding leaves open, nothing is known but that the rank may count them.
            open_ = factors.s.high[:, kept - 1] <= self._doubt(eps)[chosen, 0]
            moved_x, moved_r = (np.where(open_[:, None], np.inf, moved) for moved in (moved_x, moved_r))
        precision = eps_of(self.dtype)
        exponent_b, exponent_a = self.exponent_b[chosen], self.exponent_a[chosen]

        unit = precision * norms + eps * moved_x
        powers = exponent_b - exponent_a
        got = _stacked(answer.x[chosen])
        error = _error(got, truth, powers, unit[:, None, :], self.dtype, self.complex)
        x = _ratio(np.linalg.norm(error, axis=-2), unit)

        size = max(self.group.a.shape[-2:])
        unit = precision * size * (largest * norms + lengths) + eps * moved_r
        # Where x is below the normal numbers, the residual may be that of the truth or that of what is left of it.
        lost = np.sqrt(a.shape[-1]) * _ldexp(np.full_like(norms, np.finfo(real_of(self.dtype)).tiny), -powers[:, 0])
        unit += largest * np.minimum(lost, norms) / LIMIT
        residuals = _residual_ratio(
            answer.residuals[chosen], np.linalg.norm(r, axis=-2), exponent_b[:, 0], unit, self.dtype
        )
        return x, residuals

    def _factors(self, chosen: NumpyArray) -> extended.Factors:
        u, s, v = (extended.Pair(*(part[chosen] for part in whole)) for whole in self.factors[:3])
        return extended.Factors(u, s, v, self.factors.tall)


def _in_double(a: NumpyArray) -> tuple[extended.Factors, NumpyArray]:
    """The factors in double precision, for matrices that are too large for more."""
    u, s, vh = np.linalg.svd(a, full_matrices=False)
    v, tall = np.swapaxes(vh, -1, -2), a.shape[-2] >= a.shape[-1]
    long, short = (u, v) if tall else (v, u)
    pairs = extended.pair(long * s[:, None, :]), extended.pair(short)
    u, v = pairs if tall else pairs[::-1]
    return extended.Factors(u, extended.pair(s), v, tall), np.ones(len(a), bool)


def _rounding(a: NumpyArray, largest: NumpyArray) -> NumpyArray:
    """What each entry of an error in A may be, written in the singular vectors of A, where each rounding is of 1.

    An entry of A is rounded once in each of the ``max(m, n)`` steps of a factorisation, to one side as often as to the
    other. Where single rows or columns are larger than the rest, their errors may gather in few singular vectors.
    """
    mean = np.sqrt(np.mean(a**2, axis=(-2, -1)))
    rows, columns = np.sqrt(np.mean(a**2, axis=-1)), np.sqrt(np.mean(a**2, axis=-2))
    spread = np.maximum(rows.max(axis=-1), columns.max(axis=-1)) <= 4 * mean
    return np.where(spread, np.minimum(np.sqrt(max(a.shape[-2:])) * mean, largest), largest)


def _bound(
    s: NumpyArray, kept: int, norms: NumpyArray, r: NumpyArray, lengths: NumpyArray
) -> tuple[NumpyArray, NumpyArray]:
    """The same as `_sensitivity` as one bound for every A of this size and condition: see `ratios.solution`."""
    if kept == 0:
        return np.zeros_like(norms), np.zeros_like(norms)
    smallest, largest = s[:, kept - 1, None], s[:, :1]
    gap = smallest - s[:, kept, None] if kept < s.shape[-1] else smallest
    with np.errstate(divide="ignore", invalid="ignore"):
        x = np.nan_to_num(largest / gap * (norms + r / smallest), nan=np.inf)
        turned = largest / gap * lengths if kept < s.shape[-1] else np.zeros_like(lengths)
        return x, np.nan_to_num(turned, nan=np.inf)


def _sensitivity(
    a: NumpyArray, b: NumpyArray, s: NumpyArray, c: NumpyArray, kept: int, norms: NumpyArray, size: NumpyArray
) -> tuple[NumpyArray, NumpyArray]:
    """What an error in A does to x and to the residual, to first order.

    Written in the singular vectors of A, the error has entries of `size`. Entry (i, j) turns the singular vectors i and
    j towards each other by ``size / (s_i - s_j)``: where i counts and j does not, x takes on a part of what was cut
    off, and loses one of its own.
    """
    m, n = a.shape[-2:]
    if kept == 0:
        nothing = np.zeros_like(norms)
        return nothing, nothing
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        inside, outside = s[:, :kept, None], s[:, None, kept:]
        y = c[:, :kept] / inside
        beyond = np.maximum(np.sum(b**2, axis=-2) - np.sum(c**2, axis=-2), 0.0) if m > n else np.zeros_like(norms)
        squares = np.sum((norms[:, None, :] / inside) ** 2, axis=1) + np.sum((1 / inside**2) ** 2, axis=1) * beyond
        apart = 1 / (inside - outside)
        squares += _sums((apart / inside) ** 2, c[:, kept:] ** 2)
        squares += _sums(np.swapaxes(apart, -1, -2) ** 2, y**2)
        if n > m:
            squares += np.sum((y / inside) ** 2, axis=1)
        # The error of b itself.
        squares += np.sum(b**2, axis=-2) * np.sum(1 / inside**2, axis=1) / size**2
        turned = _sums(apart**2, c[:, kept:] ** 2) + _sums(np.swapaxes(apart, -1, -2) ** 2, c[:, :kept] ** 2)
        return size * np.sqrt(np.nan_to_num(squares, nan=np.inf)), size * np.sqrt(np.nan_to_num(turned, nan=np.inf))


def _sums(factors: NumpyArray, squares: NumpyArray) -> NumpyArray:
    """The sum over i and j of ``factors[:, i, j] * squares[:, j, :]``."""
    if factors.shape[-1] == 0:
        return np.zeros((len(factors), squares.shape[-1]))
    return np.sum(np.sum(factors, axis=1)[:, :, None] * squares, axis=1)


def _to_ordinary_size(array: NumpyArray, axes: tuple[int, ...]) -> tuple[NumpyArray, NumpyArray]:
    """The exponent of the largest entry along these axes, and the array without it, in double precision."""
    parts = [np.asarray(part, float) for part in (array.real, array.imag)] if np.iscomplexobj(array) else [array]
    largest = np.max([np.abs(part).max(axis=axes, keepdims=True) for part in parts], axis=0)
    exponent = np.where(largest > 0, np.frexp(np.asarray(largest, float))[1], 0)
    with np.errstate(under="ignore"):
        scaled = [_ldexp(np.asarray(part, float), -exponent) for part in parts]
    # The axis of rows is gone, that of right-hand sides or one of length 1 stays.
    return exponent.reshape(len(array), -1)[:, None, :], scaled[0] + 1j * scaled[1] if len(scaled) > 1 else scaled[0]


def _stacked(b: NumpyArray) -> NumpyArray:
    """Real and imaginary parts under each other, as doubles."""
    if np.iscomplexobj(b):
        return np.concatenate([b.real, b.imag], axis=-2).astype(float)
    return np.asarray(b, float)


def _ldexp(array: NumpyArray, exponent: NumpyArray) -> NumpyArray:
    """``array * 2**exponent``, also where the power alone is out of range."""
    half = exponent // 2
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return np.asarray(np.ldexp(np.ldexp(array, half), exponent - half))


def _error(
    got: NumpyArray, truth: NumpyArray, powers: NumpyArray, unit: NumpyArray, dtype: str, complex_: bool = False
) -> NumpyArray:
    """``|got * 2**-powers - truth|``, and 0 where the dtype cannot hold the truth and `got` says so.

    What is too large is to be inf, and what is below the normal numbers may be anything between 0 and these.
    """
    info = np.finfo(real_of(dtype))
    got = np.asarray(got, float)
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.abs(_ldexp(got, -powers) - truth)
        size = np.abs(truth)
        # Of the sign of the truth, or of that which rounding allows.
        beyond = _ldexp(truth * np.sign(got) + LIMIT * unit, powers) > info.max
        infinite = np.isinf(got) & beyond
        if complex_:
            # A complex number is infinite if a part of it is, whatever the other says.
            real, imaginary = np.split(infinite, 2, axis=-2)
            infinite = np.tile(real | imaginary, (2, 1))
        too_small = (_ldexp(np.maximum(size - LIMIT * unit, 0), powers) < info.tiny) & (np.abs(got) <= info.tiny)
    error = np.where(np.isnan(error), np.inf, error)
    return np.where(infinite | too_small, 0.0, error)


def _residual_ratio(got: NumpyArray, norms: NumpyArray, powers: NumpyArray, unit: NumpyArray, dtype: str) -> NumpyArray:
    info = np.finfo(real_of(dtype))
    got = np.asarray(got, float)
    lowest, highest = (np.maximum(norms + side * LIMIT * unit, 0.0) for side in (-1, 1))
    low, high = (_ldexp(end**2, 2 * powers) for end in (lowest, highest))
    with np.errstate(invalid="ignore"):
        excused = ((high > info.max) & np.isposinf(got)) | ((low < info.tiny) & (got >= 0) & (got <= info.tiny))
        error = np.abs(_ldexp(np.sqrt(got), -powers) - norms)
    return np.where(excused, 0.0, _ratio(error, unit))


def _ratio(error: NumpyArray, unit: NumpyArray) -> NumpyArray:
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratio = np.where(error == 0, 0.0, error / unit)
    return np.where(np.isnan(ratio), np.where(np.isinf(unit), 0.0, np.inf), ratio)
