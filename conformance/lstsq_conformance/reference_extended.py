"""What the right answer is, to thirty digits: a singular value decomposition whose numbers are pairs of doubles.

`reference` decides with a double precision SVD, whose own errors are those of the solvers under test. This one is for
where that is too coarse: where two singular values straddle the cutoff closely, and for the fuzzer. It is slow for one
problem and quick for a thousand of one shape, since NumPy does each step for all of them.

References
----------
J. Demmel and K. Veselic, "Jacobi's method is more accurate than QR", SIAM J. Matrix Anal. Appl. 13 (1992).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from lstsq_conformance.pairs import (
    Pair,
    add,
    concatenated,
    divide,
    multiply,
    pair,
    product,
    square_root,
    subtract,
    sum_of_squares,
    total,
    transpose,
)
from lstsq_conformance.ranges import joined, parts
from lstsq_conformance.reference import NumpyArray, two_product
from lstsq_conformance.sensitivity import changes, rounding

#: Columns are orthogonal when the cosine of their angle is below this.
_ORTHOGONAL = 1e-28
#: Columns shorter than this, next to the longest, are taken as they are.
_NEGLIGIBLE = 1e-30
_SWEEPS = 30
#: Numbers in one step of the decomposition: what stays in a processor's cache.
_CHUNK = 1 << 15


class Factors(NamedTuple):
    """``a = u @ diag(s) @ v^T``, where the longer of u and v is kept times ``s``, as the method gives it."""

    u: Pair
    s: Pair
    v: Pair
    #: Whether u is the one that is kept times s.
    tall: bool

    def take(self, index: NumpyArray) -> Factors:
        """The factors of some of the problems."""
        return Factors(self.u[index], self.s[index], self.v[index], self.tall)


class ExactTruth(NamedTuple):
    """The answer to one problem of ordinary size, and what rounding may do to it."""

    s: NumpyArray
    rank: int
    x: NumpyArray
    #: What errors whose roundings are of 1 do to each column of x (`sensitivity.changes`), and to a singular value.
    changes: NumpyArray
    rounding: float


def solve(a: NumpyArray, b: NumpyArray, relative_cutoff: float) -> ExactTruth:
    """Solve one problem ``(m, n)``, ``(m, K)`` of ordinary size with this cutoff."""
    matrix, columns = real_form(a)[None], np.concatenate(parts(b), axis=-2)[None]
    f, converged = decompose(matrix)
    if not converged.all():
        raise ArithmeticError("rotations did not make the columns orthogonal")
    s, c = f.s.high, coefficients(f, columns)
    kept = int(np.sum(s > relative_cutoff * s[:, :1]))
    x = solution(f, c, np.array([kept])).high[0]
    size = rounding(matrix, s[:, 0])
    moved, _ = changes(matrix.shape[-2:], s, c.high, columns, beyond(columns, c), kept, size)
    if np.iscomplexobj(a):
        return ExactTruth(s[0, ::2], kept // 2, joined(np.split(x, 2)), moved[0], float(size[0]))
    return ExactTruth(s[0], kept, x, moved[0], float(size[0]))


def real_form(a: NumpyArray) -> NumpyArray:
    """Complex matrices as real ones of twice the size, whose singular values are those of `a`, each twice."""
    if not np.iscomplexobj(a):
        return np.asarray(a, float)
    rows = [np.concatenate([a.real, -a.imag], axis=-1), np.concatenate([a.imag, a.real], axis=-1)]
    return np.concatenate(rows, axis=-2)


def decompose(a: NumpyArray) -> tuple[Factors, NumpyArray]:
    """The singular value decomposition of real matrices ``(B, m, n)``, and for which of them it converged.

    The largest entry of each should be of ordinary size: what is 2**-1000 of it counts as zero.
    """
    return decompose_pairs(pair(a))


def decompose_pairs(a: Pair) -> tuple[Factors, NumpyArray]:
    """The same of matrices whose numbers are pairs."""
    tall = a.high.shape[-2] >= a.high.shape[-1]
    matrices = a if tall else transpose(a)
    count, m, n = matrices.high.shape
    step = max(1, _CHUNK // (n * (m + n)))
    longs, values, shorts, converged = zip(*(_decompose(matrices[i : i + step]) for i in range(0, count, step)))
    long, s, short = (concatenated(pairs, 0) for pairs in (longs, values, shorts))
    u, v = (long, short) if tall else (short, long)
    return Factors(u, s, v, tall), np.concatenate(converged)


def _decompose(a: Pair) -> tuple[Pair, Pair, Pair, NumpyArray]:
    """``(u s, s, v, converged)`` for tall matrices, by rotations of columns that begin where double precision ends."""
    (m, n), count = a.high.shape[-2:], len(a.high)
    v = pair(np.swapaxes(np.linalg.svd(a.high, full_matrices=False)[2] if n > 1 else np.ones((count, 1, 1)), -1, -2))
    # One step of Newton's method makes it orthogonal to full precision.
    v = product(v, subtract(pair(1.5 * np.eye(n)), multiply(pair(0.5), product(transpose(v), v))))
    # Rows are the columns of a v, and behind them those of v: a rotation is then one operation on both.
    work = concatenated([transpose(product(a, v)), transpose(v)], -1)
    # Problems that are done are left alone: some take a few sweeps more than most.
    active = np.arange(count)
    for _ in range(_SWEEPS):
        part = work[active]
        squares = sum_of_squares(part[..., :m])
        longest = squares.high.max(axis=-1)
        turned = np.zeros(len(active), bool)
        for i, j in _rounds(n):
            turned |= _rotate(part, squares, i, j, m, longest)
        work[active] = part
        active = active[turned]
        if not active.size:
            break
    squares = sum_of_squares(work[..., :m])
    order = np.argsort(-squares.high, axis=-1, kind="stable")
    work = work.each(lambda array: np.take_along_axis(array, order[..., None], axis=-2))
    s = square_root(squares.each(lambda array: np.take_along_axis(array, order, axis=-1)))
    return transpose(work[..., :m]), s, transpose(work[..., m:]), ~np.isin(np.arange(count), active)


def _rounds(n: int) -> Iterator[tuple[NumpyArray, NumpyArray]]:
    """Every pair of n columns once, in rounds of pairs that share no column, as in a tournament."""
    players = list(range(n + n % 2))
    for _ in range(len(players) - 1):
        half = len(players) // 2
        pairs = [sorted(both) for both in zip(players[:half], reversed(players[half:])) if max(both) < n]
        yield np.array([i for i, _ in pairs], int), np.array([j for _, j in pairs], int)
        players = [players[0], players[-1], *players[1:-1]]


def _rotate(work: Pair, squares: Pair, i: NumpyArray, j: NumpyArray, m: int, longest: NumpyArray) -> NumpyArray:
    """Make columns i and j orthogonal, in place; for which problems there was something to do."""
    p, q = work[:, i], work[:, j]
    gamma = total(multiply(p[..., :m], q[..., :m]))
    alpha, beta = squares[:, i], squares[:, j]
    # What is subtracted in each round may leave something below zero of a column that is next to nothing.
    shorter, longer = np.maximum(np.sort([alpha.high, beta.high], axis=0), 0.0)
    wanted = np.abs(gamma.high) > _ORTHOGONAL * np.sqrt(shorter) * np.sqrt(longer)
    wanted &= shorter > _NEGLIGIBLE**2 * longest[:, None]
    active = np.asarray(wanted.any(axis=-1))
    if not active.any():
        return active
    # Where nothing is wanted the rotation is by nothing.
    zeta = subtract(beta, alpha).high / (2 * np.where(wanted, gamma.high, 1.0))
    tangent = np.where(wanted, np.where(zeta < 0, -1.0, 1.0) / (np.abs(zeta) + np.hypot(1.0, zeta)), 0.0)
    # The angle need not be exact, but sine and cosine must belong to one.
    secant = square_root(add(pair(1.0), Pair(*two_product(tangent, tangent))))
    cosine = divide(pair(np.ones_like(tangent)), secant)
    sine, shift = multiply(cosine, pair(tangent)), multiply(pair(tangent), gamma)
    squares[:, i], squares[:, j] = subtract(alpha, shift), add(beta, shift)
    c, s = cosine[..., None], sine[..., None]
    work[:, i], work[:, j] = subtract(multiply(c, p), multiply(s, q)), add(multiply(s, p), multiply(c, q))
    return active


def triangle(a: NumpyArray) -> Pair:
    """R of the QR factorisation of one real tall matrix ``(m, n)``: ``(min(m, n), n)``, by reflections of row blocks.

    The singular values and right singular vectors are those of `a`, and of ``[a b]`` its last columns are ``Q^T b``.
    The largest entry should be of ordinary size.

    References
    ----------
    G. H. Golub and C. F. Van Loan, "Matrix Computations", 4th ed. (2013), sections 5.2.2 and 5.2.8.
    """
    m, n = a.shape
    found = pair(np.empty((n, 0)))
    step = max(2 * n, _CHUNK // n)
    for i in range(0, m, step):
        found = _reflected(concatenated([found, pair(np.ascontiguousarray(a[i : i + step].T, float))], -1))
    return transpose(found)


def _reflected(columns: Pair) -> Pair:
    """The columns of R, given those of a matrix ``(n, m)``, as rows."""
    n, m = columns.high.shape
    for j in range(min(n, m)):
        v = columns[j, j:]
        squares = sum_of_squares(v)
        if squares.high == 0:
            continue
        # Of the other sign than the first entry, so that nothing cancels.
        length = square_root(squares)
        length = length.each(np.negative) if v.high[0] > 0 else length
        half = subtract(squares, multiply(length, v[0]))  # Half of v^T v, once the first entry is changed.
        v = concatenated([subtract(v[:1], length.each(np.atleast_1d)), v[1:]], -1)
        rest = columns[j + 1 :, j:]
        along = divide(total(multiply(rest, v)), half)[:, None]
        columns[j + 1 :, j:] = subtract(rest, multiply(along, v))
        columns[j, j:] = pair(np.zeros(m - j))
        columns[j, j] = length
    return columns[:, : min(n, m)]


def coefficients(f: Factors, b: NumpyArray) -> Pair:
    """``u^T b``, and 0 where the singular value is."""
    found = product(transpose(f.u), pair(b))
    return divide(found, _divisor(f)) if f.tall else found


def solution(f: Factors, c: Pair, rank: NumpyArray) -> Pair:
    """The solution with so many singular values, for ``c = u^T b``."""
    kept = np.arange(f.s.high.shape[-1]) < np.asarray(rank)[..., None]
    s = _divisor(f)
    scaled = divide(c, s) if f.tall else divide(divide(c, s), s)
    return product(f.v, scaled.each(lambda part: np.where(kept[..., None], part, 0.0)))


def residual(a: NumpyArray, x: Pair, b: NumpyArray) -> Pair:
    """``b - a x``."""
    return subtract(pair(b), product(pair(a), x))


def beyond(b: NumpyArray, c: Pair) -> NumpyArray:
    """The norm of what of b lies beyond the range of u, for ``c = u^T b``."""
    squares = subtract(sum_of_squares(transpose(pair(b))), sum_of_squares(transpose(c)))
    return np.asarray(np.sqrt(np.maximum(squares.high, 0.0)))


def _divisor(f: Factors) -> Pair:
    zero = f.s.high == 0
    return Pair(np.where(zero, 1.0, f.s.high), np.where(zero, 0.0, f.s.low))[..., None]
