"""What the right answer is, to thirty digits: a singular value decomposition whose numbers are pairs of doubles.

`reference` decides with a double precision SVD, whose own errors are those of the solvers under test. This one is for
where that is too coarse: where two singular values straddle the cutoff closely, and for the fuzzer. It is slow for one
problem and quick for a thousand of one shape, since NumPy does each step for all of them.

A pair ``(high, low)`` stands for the sum of its parts, ``low`` being at most half a spacing of ``high``: 106 bits. It
is done by hand because `numpy.longdouble` is no wider than double on half of the platforms.

References
----------
T. J. Dekker, "A floating-point technique for extending the available precision", Numer. Math. 18 (1971).
J. Demmel and K. Veselic, "Jacobi's method is more accurate than QR", SIAM J. Matrix Anal. Appl. 13 (1992).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from lstsq_conformance.ranges import joined, parts
from lstsq_conformance.reference import NumpyArray, two_product, two_sum
from lstsq_conformance.sensitivity import changes, rounding

#: Columns are orthogonal when the cosine of their angle is below this.
_ORTHOGONAL = 1e-28
#: Columns shorter than this, next to the longest, are taken as they are.
_NEGLIGIBLE = 1e-30
_SWEEPS = 30
#: Numbers in one step of the decomposition: what stays in a processor's cache.
_CHUNK = 1 << 15


class Pair(NamedTuple):
    """Numbers of twice the precision, as a sum of two arrays."""

    high: NumpyArray
    low: NumpyArray

    def __getitem__(self, index: Any) -> Pair:  # type: ignore[override]
        """The pairs at these places."""
        return Pair(self.high[index], self.low[index])


def pair(array: NumpyArray) -> Pair:
    """The same numbers as pairs."""
    array = np.asarray(array, float)
    return Pair(array, np.zeros_like(array))


def add(p: Pair, q: Pair) -> Pair:
    """``p + q``."""
    total, error = two_sum(p.high, q.high)
    return _normalised(total, error + (p.low + q.low))


def subtract(p: Pair, q: Pair) -> Pair:
    """``p - q``."""
    return add(p, Pair(-q.high, -q.low))


def multiply(p: Pair, q: Pair) -> Pair:
    """``p * q``."""
    product, error = two_product(p.high, q.high)
    return _normalised(product, error + (p.high * q.low + p.low * q.high))


def divide(p: Pair, q: Pair) -> Pair:
    """``p / q``: a quotient in double precision and two corrections."""
    first = p.high / q.high
    rest = subtract(p, multiply(q, pair(first)))
    second = rest.high / q.high
    rest = subtract(rest, multiply(q, pair(second)))
    return add(_normalised(first, second), pair(rest.high / q.high))


def square_root(p: Pair) -> Pair:
    """The square root of numbers that are not negative: a double, and one step of Newton's method."""
    root = np.sqrt(p.high)
    rest = subtract(p, Pair(*two_product(root, root)))
    return _normalised(root, np.divide(rest.high, 2 * root, out=np.zeros_like(root), where=root > 0))


def total(p: Pair) -> Pair:
    """The sum over the last axis, in a tree."""
    while p.high.shape[-1] > 1:
        half = p.high.shape[-1] // 2
        rest = p[..., 2 * half :]
        folded = add(p[..., :half], p[..., half : 2 * half])
        p = Pair(*(np.concatenate(parts, axis=-1) for parts in zip(folded, rest))) if rest.high.shape[-1] else folded
    return p[..., 0]


def product(p: Pair, q: Pair) -> Pair:
    """The product of two stacks of matrices."""
    left, right = p[..., :, 0, None], q[..., 0, None, :]
    result = multiply(left, right)
    for i in range(1, p.high.shape[-1]):
        result = add(result, multiply(p[..., :, i, None], q[..., i, None, :]))
    return result


def transpose(p: Pair) -> Pair:
    """The transposes of a stack of matrices."""
    return Pair(np.swapaxes(p.high, -1, -2), np.swapaxes(p.low, -1, -2))


def _normalised(high: NumpyArray, low: NumpyArray) -> Pair:
    rounded = high + low
    return Pair(rounded, low - (rounded - high))


class Factors(NamedTuple):
    """``a = u @ diag(s) @ v^T``, where the longer of u and v is kept times ``s``, as the method gives it."""

    u: Pair
    s: Pair
    v: Pair
    #: Whether u is the one that is kept times s.
    tall: bool


def decompose(a: NumpyArray) -> tuple[Factors, NumpyArray]:
    """The singular value decomposition of real matrices ``(B, m, n)``, and for which of them it converged.

    The largest entry of each should be of ordinary size: what is 2**-1000 of it counts as zero.
    """
    tall = a.shape[-2] >= a.shape[-1]
    matrices = a if tall else np.swapaxes(a, -1, -2)
    b, m, n = matrices.shape
    step = max(1, _CHUNK // (n * (m + n)))
    parts = [_decompose(matrices[i : i + step]) for i in range(0, b, step)]
    long, s, short = (Pair(*(np.concatenate(arrays) for arrays in zip(*column))) for column in list(zip(*parts))[:3])
    u, v = (long, short) if tall else (short, long)
    return Factors(u, s, v, tall), np.concatenate([part[3] for part in parts])


def _decompose(a: NumpyArray) -> tuple[Pair, Pair, Pair, NumpyArray]:
    """``(u s, s, v, converged)`` for tall matrices, by rotations of columns that begin where double precision ends."""
    m, n = a.shape[-2:]
    v = pair(np.swapaxes(np.linalg.svd(a, full_matrices=False)[2] if n > 1 else np.ones((len(a), 1, 1)), -1, -2))
    # One step of Newton's method makes it orthogonal to full precision.
    half = np.eye(n) * 1.5
    inverse = subtract(pair(half), multiply(pair(np.array(0.5)), product(transpose(v), v)))
    v = product(v, inverse)
    # Rows are the columns of a v, and behind them those of v: a rotation is then one operation on both.
    stacked = [transpose(product(pair(a), v)), transpose(v)]
    work = Pair(*(np.concatenate(arrays, axis=-1) for arrays in zip(*stacked)))
    # Problems that are done are left alone: some take a few sweeps more than most.
    active = np.arange(len(a))
    for _ in range(_SWEEPS):
        part = work[active]
        squares = _squares(part[..., :m])
        longest = squares.high.max(axis=-1)
        turned = np.zeros(len(active), bool)
        for i, j in _rounds(n):
            turned |= _rotate(part, squares, i, j, m, longest)
        for whole, array in zip(work, part):
            whole[active] = array
        active = active[turned]
        if not active.size:
            break
    converged = ~np.isin(np.arange(len(a)), active)
    squares = _squares(work[..., :m])
    order = np.argsort(-squares.high, axis=-1, kind="stable")
    work = Pair(*(np.take_along_axis(array, order[..., None], axis=-2) for array in work))
    s = square_root(Pair(*(np.take_along_axis(array, order, axis=-1) for array in squares)))
    return transpose(work[..., :m]), s, transpose(work[..., m:]), converged


def _squares(rows: Pair) -> Pair:
    return total(multiply(rows, rows))


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
    active = wanted.any(axis=-1)
    if not active.any():
        return active
    # Where nothing is wanted the rotation is by nothing.
    safe = np.where(wanted, gamma.high, 1.0)
    zeta = subtract(beta, alpha).high / (2 * safe)
    tangent = np.where(wanted, np.where(zeta < 0, -1.0, 1.0) / (np.abs(zeta) + np.hypot(1.0, zeta)), 0.0)
    # The angle need not be exact, but sine and cosine must belong to one.
    cosine = divide(
        pair(np.ones_like(tangent)), square_root(add(pair(np.ones(())), Pair(*two_product(tangent, tangent))))
    )
    sine = multiply(cosine, pair(tangent))
    shift = multiply(pair(tangent), gamma)
    for array, new in zip(squares, subtract(alpha, shift)):
        array[:, i] = new
    for array, new in zip(squares, add(beta, shift)):
        array[:, j] = new
    c, s = cosine[..., None], sine[..., None]
    turned_p, turned_q = subtract(multiply(c, p), multiply(s, q)), add(multiply(s, p), multiply(c, q))
    for array, new_p, new_q in zip(work, turned_p, turned_q):
        array[:, i], array[:, j] = new_p, new_q
    return active


def real_form(a: NumpyArray) -> NumpyArray:
    """Complex matrices as real ones of twice the size, whose singular values are those of `a`, each twice."""
    if not np.iscomplexobj(a):
        return np.asarray(a, float)
    return np.concatenate(
        [np.concatenate([a.real, -a.imag], axis=-1), np.concatenate([a.imag, a.real], axis=-1)], axis=-2
    )


def coefficients(f: Factors, b: NumpyArray) -> Pair:
    """``u^T b``, and 0 where the singular value is."""
    found = product(transpose(f.u), pair(b))
    return divide(found, _divisor(f)) if f.tall else found


def solution(f: Factors, c: Pair, rank: NumpyArray) -> Pair:
    """The solution with so many singular values, for ``c = u^T b``."""
    kept = np.arange(f.s.high.shape[-1]) < np.asarray(rank)[..., None]
    s = _divisor(f)
    scaled = divide(c, s)
    if not f.tall:
        scaled = divide(scaled, s)
    return product(f.v, Pair(*(np.where(kept[..., None], part, 0.0) for part in scaled)))


def residual(a: NumpyArray, x: Pair, b: NumpyArray) -> Pair:
    """``b - a x``."""
    return subtract(pair(b), product(pair(a), x))


def beyond(b: NumpyArray, c: Pair) -> NumpyArray:
    """The norm of what of b lies beyond the range of u, for ``c = u^T b``."""
    squares = (total(multiply(part, part)) for part in (transpose(pair(b)), transpose(c)))
    return np.asarray(np.sqrt(np.maximum(subtract(*squares).high, 0.0)))


def _divisor(f: Factors) -> Pair:
    zero = f.s.high == 0
    return Pair(np.where(zero, 1.0, f.s.high), np.where(zero, 0.0, f.s.low))[..., None]


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
    complex_ = np.iscomplexobj(a)
    matrix, columns = real_form(a)[None], np.concatenate(parts(b), axis=-2)[None]
    f, converged = decompose(matrix)
    if not converged.all():
        raise ArithmeticError("rotations did not make the columns orthogonal")
    s, c = f.s.high, coefficients(f, columns)
    kept = int(np.sum(s > relative_cutoff * s[:, :1]))
    x = solution(f, c, np.array([kept])).high[0]
    size = rounding(matrix, s[:, 0])
    moved, _ = changes(matrix.shape[-2:], s, c.high, columns, beyond(columns, c), kept, size)
    if complex_:
        return ExactTruth(s[0, ::2], kept // 2, joined(np.split(x, 2)), moved[0], float(size[0]))
    return ExactTruth(s[0], kept, x, moved[0], float(size[0]))
