"""What the right answer is, and how far from it rounding may take a solver that makes no mistake.

The problem is reduced to a small one by QR and decomposed by a singular value decomposition, both in numbers of twice
the digits of a double (`lstsq_conformance.reference_extended`). So the rank is that of the exact matrix, and x has more
digits than any solver gives, at every rank: also at that which another cutoff would leave. Where the problem is too
large for this, it is solved in double precision and refined with residuals of twice the digits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lstsq_cli.problems import NumpyArray
from lstsq_conformance import reference, reference_extended
from lstsq_conformance.pairs import Pair, add, divide, multiply, pair, product, subtract, transpose
from lstsq_conformance.ranges import exponent_of, joined, parts, scaled
from lstsq_conformance.reference_extended import Factors, real_form
from lstsq_conformance.sensitivity import changes, rounding

#: What is decomposed in extended precision: at most so many columns (or rows, of a wide matrix), and so many products.
#: Either takes about twenty seconds at most.
_COLUMNS, _PRODUCTS = 250, 4e8
#: Steps of refinement, and how many numbers are refined, which takes as long.
_STEPS, _REFINED = 4, 4_000_000


@dataclass(frozen=True)
class Solution:
    """The solution with so many singular values, for all right-hand sides."""

    x: NumpyArray
    #: ``‖b - a x‖`` of each right-hand side.
    residuals: NumpyArray
    #: What roundings of 1, in every entry of a and b, do to each column of x, to first order.
    changes: NumpyArray

    @property
    def norms(self) -> NumpyArray:
        """Of the columns of x."""
        return np.asarray(np.linalg.norm(self.x, axis=0))


@dataclass(frozen=True)
class Truth:
    """The answer to one problem."""

    #: How it was found, in words, and where that is not in extended precision, to how many digits in norm.
    method: str
    s: NumpyArray
    #: How many singular values the cutoff leaves.
    rank: int
    _at: Callable[[int], Solution]

    @property
    def solution(self) -> Solution:
        """What the contract asks for."""
        return self.at(self.rank)

    def at(self, rank: int) -> Solution:
        """The solution of minimum norm with this many singular values."""
        return self._at(rank)


def find(a: NumpyArray, b: NumpyArray, cutoff: float) -> Truth:
    """Solve ``(M, N)`` against ``(M, K)``, none of them empty, with this cutoff relative to the largest singular value.

    The numbers are taken as they are in their dtype; x is in double precision.
    """
    of_a, of_b = int(exponent_of(a, (-2, -1))[0, 0]), exponent_of(b, -2)
    base_a, base_b = scaled(a, -of_a), scaled(b, -of_b)
    complex_ = np.iscomplexobj(a) or np.iscomplexobj(b)
    matrix = real_form(base_a.astype(complex)) if complex_ else base_a
    columns = np.concatenate(parts(base_b.astype(complex) if complex_ else base_b), axis=-2)
    found = _extended(matrix, columns, cutoff) or _refined(matrix, columns, cutoff)
    times = 2 if complex_ else 1  # Each singular value is there twice.
    solutions: dict[int, Solution] = {}

    def at(rank: int) -> Solution:
        if rank not in solutions:
            known = found.at(times * rank)
            x = joined(np.split(known.x, 2)) if complex_ else known.x
            solutions[rank] = Solution(
                scaled(x, of_b - of_a), scaled(known.residuals, of_b[0]), scaled(known.changes, of_b[0] - of_a)
            )
        return solutions[rank]

    return Truth(found.method, scaled(found.s[::times], of_a), found.rank // times, at)


def _extended(a: NumpyArray, b: NumpyArray, cutoff: float) -> Truth | None:
    """By pairs throughout; None where that takes too long, or finds no decomposition."""
    m, n = a.shape
    small, large = min(m, n), max(m, n)
    if small > _COLUMNS or large * small * (small + b.shape[1]) > _PRODUCTS:
        return None
    core, c, beyond = _core(a, b)
    f, converged = reference_extended.decompose_pairs(core.each(lambda part: part[None]))
    if not converged.all():
        return None
    s = f.s.high
    size = rounding(a[None], s[:, 0])
    turned = product(transpose(_left(f)), c.each(lambda part: part[None]))

    def at(rank: int) -> Solution:
        x = _solution(f, turned, rank) if m >= n else _shortest(a, b, f, rank)
        left = reference_extended.residual(a, x, b)
        moved, _ = changes((m, n), s, turned.high, b[None], beyond[None], rank, size)
        return Solution(x.high, np.linalg.norm(left.high, axis=0), moved[0])

    rank = int(np.sum(s > cutoff * s[:, :1]))
    return Truth("QR and SVD in pairs of doubles (106 bits)", s[0], rank, at)


def _core(a: NumpyArray, b: NumpyArray) -> tuple[Pair, Pair, NumpyArray]:
    """A square matrix with the singular values of `a`, the right-hand sides for it, and what is left of their norms."""
    m, n = a.shape
    if m < n:
        # Rows of a are columns of its transpose: a^T = Q R, and a = R^T Q^T.
        return transpose(reference_extended.triangle(a.T)), pair(b), np.zeros(b.shape[1])
    r = reference_extended.triangle(np.concatenate([a, b], axis=1))
    return r[:n, :n], r[:n, n:], np.linalg.norm(r.high[n:, n:], axis=0)


def _left(f: Factors) -> Pair:
    """The left singular vectors; those of zeros are zeros."""
    zero = f.s.high == 0
    divisor = Pair(np.where(zero, 1.0, f.s.high), np.where(zero, 0.0, f.s.low))[..., None, :]
    return divide(f.u, divisor)


def _solution(f: Factors, c: Pair, rank: int) -> Pair:
    """``V S^-1 c`` with the singular values that count."""
    return reference_extended.solution(f, c, np.array([rank]))[0]


def _shortest(a: NumpyArray, b: NumpyArray, f: Factors, rank: int) -> Pair:
    """``a^T y`` with ``a a^T y = b`` as far as the singular values that count see b.

    Each step gains what the squares of the singular values have lost to rounding.
    """
    u, s = _left(f)[0], f.s[0]
    kept = np.arange(s.high.shape[-1]) < rank
    squares = multiply(s, s)
    divisor = Pair(np.where(kept, squares.high, 1.0), np.where(kept, squares.low, 0.0))[:, None]
    y, x = pair(np.zeros_like(b)), pair(np.zeros((a.shape[1], b.shape[1])))
    for _ in range(_STEPS):
        c = product(transpose(u), reference_extended.residual(a, x, b)).each(
            lambda part: np.where(kept[:, None], part, 0.0)
        )
        y = add(y, product(u, divide(c, divisor)))
        x = product(pair(np.ascontiguousarray(a.T)), y)
    return x


def _refined(a: NumpyArray, b: NumpyArray, cutoff: float) -> Truth:
    """By the singular value decomposition in double precision, refined if that does not take too long."""
    m, n = a.shape
    u, s, vh = np.linalg.svd(a, full_matrices=False)
    size, c = rounding(a[None], s[None, 0]), u.T @ b
    beyond = np.sqrt(np.maximum(np.sum(b**2, axis=0) - np.sum(c**2, axis=0), 0.0))

    steps = _STEPS if a.size <= _REFINED else 0

    def at(rank: int) -> Solution:
        x, left = _augmented(a, b, u[:, :rank], s[:rank], vh[:rank], steps)
        moved, _ = changes((m, n), s[None], c[None], b[None], beyond[None], rank, size)
        return Solution(x, np.linalg.norm(left, axis=0), moved[0])

    rank = int(np.count_nonzero(s > cutoff * s[0]))
    # The singular vectors are in double precision, and with them what is cut off; where nothing is, x is refined fully.
    fully = rank == n and steps > 0
    digits = 15.0 if fully else -float(np.log10(max(m, n) * 2.0**-52 * s[0] / (s[rank - 1] if rank else s[0])))
    method = "SVD in double precision" + (", refined with residuals of twice the digits" if steps else "")
    return Truth(f"{method}, to {max(digits, 0.0):.0f} digits or more", s, rank, at)


def _augmented(
    a: NumpyArray, b: NumpyArray, u: NumpyArray, s: NumpyArray, vh: NumpyArray, steps: int
) -> tuple[NumpyArray, NumpyArray]:
    """The solution and its residual, refined together in so many steps.

    References
    ----------
    A. Bjorck, "Iterative refinement of linear least squares solutions I", BIT 7 (1967).
    """
    inverse = 1 / s[:, None]
    x = vh.T @ (inverse * (u.T @ b))
    r = b - a @ x
    for _ in range(steps):
        first = subtract(reference_extended.residual(a, pair(x), b), pair(r)).high
        second = reference.residual(a.T, r, np.zeros_like(x))
        along = u.T @ first - inverse * (vh @ second)
        x, r = x + vh.T @ (inverse * along), r + first - u @ along
    return x, r
