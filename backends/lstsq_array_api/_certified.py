"""The certified way: a Gram matrix in double precision, and a proof that its answer is right, or no answer.

A tall matrix A is reduced to the Gram matrix of its columns, a wide one to that of its rows; G is that matrix with each
column (row) divided by its norm. From the Cholesky triangle L of G come T, about L⁻¹, and P = Tᴴ T, about G⁻¹. The
library's factorisations are not trusted: F = I − P G is computed, and with what rounding can have done to G, P and F

    ρ = ‖F‖_F + trace(P) N (q + 3 N + 10) u        (q: additions behind one entry of G; u = 2⁻⁵³)

bounds ‖I − P G‖ for the exact G, where N is at most 128; beyond, rounding errors are bounded as independent ones, or
‖I − P G‖ is measured with products of A itself (`_probes`). If ρ < 1 then ‖A⁺‖² <= Σ Pᵢᵢ / gᵢᵢ / (1 − ρ), where gᵢᵢ
is the square of the norm of column i; and ‖A‖² is at most the Frobenius norm of the Gram matrix. Where their product
times rcond is below 1, every singular value counts and the rank is full. Iterative refinement with the residual of A
itself contracts by ρ, so that a step leaves at most ρ / (1 − ρ) times itself of the error. A Gram matrix would square
the condition number of a square matrix, which is large if it has many columns: on the CPU such a matrix is factorised
as L U instead (`_square`).

The page "The certificate of the fast default" has the proofs, and the limits of size within which they hold.

References
----------
A. Björck, Numerical Methods for Least Squares Problems (1996), chapters 2 and 6. N. J. Higham, Accuracy and Stability
of Numerical Algorithms (2nd ed., 2002), chapters 3 and 10. Y. Yamamoto, Y. Nakatsukasa, Y. Yanagisawa and T. Fukaya,
Roundoff error analysis of the CholeskyQR2 algorithm, Electron. Trans. Numer. Anal. 44 (2015), 306-326. N. J. Higham and
T. Mary, A new approach to probabilistic rounding error analysis, SIAM J. Sci. Comput. 41 (2019), A2815-A2835.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np

from lstsq._arithmetic import adjoint, is_complex
from lstsq._backend import Array
from lstsq_array_api import _lacking as lacking
from lstsq_array_api._matrix import Matrix, gram_of
from lstsq_array_api._probes import bound_of_square, probes
from lstsq_array_api._values import SINGLE, UNIT, from_gram, of_square

#: The bound that ρ must stay below.
CONTRACTION = 0.1
#: Steps of refinement after which it is given up.
STEPS = 6
#: A square matrix of more columns is better reduced by L U.
SMALL_SQUARE = 64
#: Columns from which rounding errors count as independent: bounds without a probability are too large to be of use.
LARGE = 128
#: A decision about more numbers than this is taken on the device, about fewer on the host, which is sooner done.
ON_HOST = 100_000
#: About more numbers than this it is first taken for all matrices at once, from the extremes of the numbers.
FEW = 2_000


class Bounds(NamedTuple):
    """What is proven of each matrix, ``(1, B)``, or of every one of them, one number each."""

    #: What one correction leaves of the error, as a factor.
    rho: Array
    #: At least ‖A‖ and ‖A⁺‖.
    norm: Array
    inverse: Array
    #: The smallest of the bounds of ‖A‖: whatever may be large where A is large is measured by it.
    least_norm: Array
    #: At most the condition number of A, its columns divided by their norms.
    condition: Array
    #: The smallest and the largest norm of a column (a row, of a wide matrix).
    shortest: Array
    longest: Array
    #: Whether errors are measured in the unknowns of a matrix whose columns have norm 1.
    scaled: bool


class Reduction(NamedTuple):
    """A batch of matrices ready to be solved with."""

    #: From right-hand sides ``(B, M, K)`` to about their solutions ``(B, N, K)``, in units where errors are measured.
    correct: Callable[[Array], Array]
    #: Numbers ``(B, ...)``, and what they prove if each, its matrices last, is between two bounds. They are apart so
    #: that the proof can be on the host, and be one proof for all matrices.
    facts: Sequence[Array]
    bounds: Callable[[Any, Sequence[Array], Sequence[Array]], Bounds]
    #: By what the solutions are multiplied to be in the units of the caller: ``(B, N, 1)``.
    scale: Array | None
    #: The singular values, descending, ``(B, min(M, N))``, of the matrices that are certified.
    singular_values: Callable[[Bounds, Array], Array]


class Certified(NamedTuple):
    """Answers, of which those where `good` is True are proven and the others mean nothing."""

    #: (B, N, K).
    x: Array
    #: (B, K), the sums of squares of ``b - a x``.
    squares: Array
    #: (B,), bool, NumPy's or the library's; or None, if all are.
    good: Array | None
    #: (B, min(M, N)), or None where they are not wanted.
    s: Array | None
    #: (B,), if it is at hand; where `good` it is full.
    rank: Array | None = None


def solve(xp: Any, a: Matrix, b: Array, rcond: float, singular_values: bool, by: str = "gram") -> Certified:
    """Solve for ``a (B, M, N)``, ``b (B, M, K)`` in double precision, `by` the reduction "gram" or, if square, "lu".

    If `a` is of single precision, so are the answers to be; they are still in double here.
    """
    from lstsq_array_api import _square

    (m, n), single = a.shape[-2:], a.single
    reduction = _square.reduce(xp, a) if by == "lu" else _reduce(xp, a)
    size_b = [] if single else [xp.linalg.vector_norm(b, axis=-2, ord=math.inf)]

    def judge(where: Any, low: Sequence[Array], high: Sequence[Array]) -> Judgement:
        facts = len(reduction.facts)
        with np.errstate(all="ignore"):  # What is not certified may be anything.
            bounds = reduction.bounds(where, low[:facts], high[:facts])
            return _judge(bounds, low[facts:], high[facts:], (m, n), rcond, single)

    def unscaled(unknowns: Array) -> Array:
        return unknowns if reduction.scale is None else unknowns * reduction.scale

    def taken(new: Array, old: Array) -> Array:
        # An element that is done stays as it is, whatever its neighbours need.
        return new if open_ is None else xp.where(open_, new, old)

    open_ = previous = good = None
    scaled = reduction.correct(b)
    x = unscaled(scaled)
    r = a.residual(b, x)
    for _ in range(STEPS):
        step = reduction.correct(r)
        before = [_norm(xp, r)] if m < n else []
        x = taken(x + unscaled(step), x)
        r = taken(a.residual(b, x), r)
        scaled = x if reduction.scale is None else taken(scaled + step, scaled)
        residual = _norm(xp, r)
        measured = [_norm(xp, step), _norm(xp, scaled), residual, *before, *size_b]
        where, (bounds, certain, done, step_size) = _decide(xp, [*reduction.facts, *measured], judge)
        if where is None:
            good = None
            break
        more = certain & ~done
        if previous is not None:
            more = more & (step_size <= previous / 2)
        good = where.all(certain & done, axis=0)
        more = where.any(more, axis=0) & ~good
        if not bool(where.any(more)):
            break
        previous = step_size
        open_ = lacking.to_device(xp, more, b)[:, None, None]
    s = None
    if singular_values:
        s = reduction.singular_values(bounds, np.ones(b.shape[0], bool) if good is None else good)
    return Certified(x, residual * residual, good, s)


class Judgement(NamedTuple):
    """What is decided of each matrix, its axis the last, or of every one of them: then there is no such axis."""

    bounds: Bounds
    #: Which matrices are certified, ``(1, B)``, and which of the right-hand sides are solved then, ``(K, B)``.
    certain: Array
    done: Array
    #: The sizes of the last step, ``(K, B)``.
    step: Array


def _judge(
    bounds: Bounds, low: Sequence[Array], high: Sequence[Array], shape: tuple[int, int], rcond: float, single: bool
) -> Judgement:
    """Decide by what was measured, which is between `low` and `high`."""
    (m, n), rho = shape, bounds.rho
    # How much longer than an error of the unknowns the residual may be that it makes.
    reach, least_reach = [math.sqrt(n)] * 2 if bounds.scaled else (bounds.norm, bounds.least_norm)
    # Twice, for the rounding errors of the bounds themselves.
    certain = (rho < CONTRACTION) & (2 * rcond * bounds.norm * bounds.inverse < 1)
    if not single:
        certain = certain & (bounds.shortest >= 2.0**-200) & (bounds.longest <= 2.0**200)
        certain = certain & ((high[-1] == 0) | ((low[-1] >= 2.0**-150) & (high[-1] <= 2.0**150)))
    step, size, residual = high[0], low[1], low[2]
    enough = SINGLE if single else UNIT * (1 + bounds.condition / (8 * math.sqrt(min(m, n))))
    if m >= n:
        left = rho * step
        done = left <= enough * (1 - rho) * (size + residual if m > n else size)
        if not single:
            # And the residual is right: what the error adds to it is nothing beside it or beside its own rounding
            # errors, or it is no more than these.
            own = 8 * UNIT * least_reach * size
            settled = (reach * left <= 2.0**-27 * (1 - rho) * residual) | (reach * left <= (1 - rho) * own)
            done = done & (settled | (high[2] <= own))
        return Judgement(bounds, certain, done, step)
    # A wide matrix: y of x = Aᴴ y may be larger than x by the condition number, and each product loses of it.
    lost = rho + 8 * UNIT * bounds.norm * bounds.inverse
    done = lost * step <= (SINGLE if single else UNIT) * (1 - rho) * size
    if not single:
        only_rounding = high[3] <= 8 * UNIT * bounds.least_norm * size
        done = done | (only_rounding & (rho * step <= enough * (1 - rho) * size))
    return Judgement(bounds, certain, done, step)


def singular_values(xp: Any, a: Matrix, gram: Array, additions: int, good: Array) -> Array:
    """The singular values of tall matrices ``a (B, M, N)`` that are certified, with their Gram matrices."""
    reduction = _reduce(xp, a, (gram, additions))
    facts = xp.concat(reduction.facts, axis=1)
    where, each = _at_hand(xp, facts, [part.shape[1] for part in reduction.facts])
    with np.errstate(all="ignore"):
        bounds = reduction.bounds(where, each, each)
    return reduction.singular_values(bounds, good)


def _reduce(xp: Any, a: Matrix, gram_and_additions: tuple[Array, int] | None = None) -> Reduction:
    """A tall or a wide matrix, by the Gram matrix of its columns or rows."""
    (m, n), wide, single = a.shape[-2:], a.is_wide, a.single
    gram, additions = gram_and_additions or a.gram()
    size = min(m, n)
    squares = _diagonal(xp, gram)  # Of the norms.
    scale = lacking.one_over_root(xp, squares)
    down, across = scale[:, :, None], scale[:, None, :]
    g = gram * down * across
    identity = lacking.identity(xp, g)
    triangle = lacking.cholesky(xp, g)
    t = lacking.inverse_of_triangle(xp, triangle, identity)
    p = lacking.matmul(xp, adjoint(xp, t), t)
    diagonal_p = _diagonal(xp, p)
    error = _rounding(size, additions) * (4 if is_complex(gram) else 1)
    if size > LARGE and 16 * max(m, n) <= size**2:
        # Two passes over A for the probes are less work than P G, and tell what rounding has done to G, too.
        z = probes(xp, g)
        image = down * z
        image = a.times(a.adjoint_times(image)) if wide else a.adjoint_times(a.times(image))
        image = lacking.matmul(xp, p, down * image)
        defect, in_defect = xp.sqrt(bound_of_square(xp, z - image)), 0.0
    else:
        defect, in_defect = _norm_of_matrix(xp, lacking.minus_product(xp, identity, p, g)), error
    facts = [defect, _norm_of_matrix(xp, gram), diagonal_p, squares]
    of_unknowns = p * across
    if wide:
        of_unknowns = of_unknowns * down

    def correct(r: Array) -> Array:
        if wide:
            return a.adjoint_times(lacking.matmul(xp, of_unknowns, r))
        return lacking.matmul(xp, of_unknowns, a.adjoint_times(r))

    def bounds(xp: Any, low: Sequence[Array], high: Sequence[Array]) -> Bounds:
        defect, norm, diagonal_p, squares = high
        rho = defect + xp.sum(diagonal_p, axis=0) * in_defect
        # The square root of what is negative, where rho is beyond 1, is NaN, and so is what is made of it.
        inverse = xp.sqrt(xp.sum(diagonal_p / low[3], axis=0) / (1 - rho))
        norm, least_norm, condition = xp.sqrt(norm), xp.sqrt(low[1]), xp.sqrt(xp.max(low[2], axis=0))
        shortest, longest = xp.sqrt(xp.min(low[3], axis=0)), xp.sqrt(xp.max(squares, axis=0))
        return Bounds(rho, norm, inverse, least_norm, condition, shortest, longest, not wide)

    def singular_values(bounds: Bounds, good: Array) -> Array:
        on_device = lacking.to_device(xp, good, gram)[:, None, None]
        if size > SMALL_SQUARE and (single or max(m, n) >= 2 * size):
            values = from_gram(xp, xp.where(on_device, gram, identity), additions, single)
            if values is not None:
                return values
        # The triangle's, if what rounding has done to the squares is nothing beside the smallest; in double precision,
        # if it is no more than what an orthogonal reduction loses.
        product = lacking.to_host(bounds.norm * bounds.inverse)
        exact = error * product <= SINGLE if single else product <= 8
        l = xp.where(on_device, triangle, identity)
        if not np.all(exact | ~lacking.to_host(good)):
            # CholeskyQR2: the columns of A L⁻ᴴ are almost orthonormal, and a Gram matrix of these loses nothing.
            columns = a.tall() * xp.where(on_device, across, xp.zeros_like(across))
            again, _ = gram_of(xp, lacking.divide(xp, columns, l))
            second = lacking.cholesky(xp, xp.where(on_device, again, identity))
            l = lacking.matmul(xp, l, second)
        norms = xp.where(on_device, 1 / down, xp.ones_like(down))
        return of_square(xp, l * norms, bounds, good, False)

    return Reduction(correct, facts, bounds, None if wide else down, singular_values)


def _rounding(size: int, additions: int) -> float:
    """What rounding does to I − P G at most, but for the factor trace(P)."""
    if size <= LARGE:
        return size * (additions + 3 * size + 10) * UNIT
    # As a sum of independent errors (Higham and Mary 2019).
    return 8 * math.sqrt(size) * (math.sqrt(additions) + 2 * math.sqrt(size)) * UNIT


def _decide(
    xp: Any, numbers: Sequence[Array], judge: Callable[[Any, Sequence[Array], Sequence[Array]], Judgement]
) -> tuple[Any, Judgement]:
    """Judge all matrices at once, by the extremes of their numbers ``(B, ...)``; or each, if not all are solved.

    With the judgement of each come the functions to work on with, and with that of all None.
    """
    together, widths, where = xp.concat(numbers, axis=1), [part.shape[1] for part in numbers], xp
    if math.prod(together.shape) <= FEW:
        together, where = lacking.to_host(together), np
    ends = [reduce(together, axis=0) for reduce in (where.min, where.max)]
    if where is not np:
        ends = list(lacking.to_host(xp.stack(ends)))
    # One number is no array: NumPy computes ten times as fast with it.
    low, high = ([part if part.size > 1 else part[0] for part in _apart(end, widths)] for end in ends)
    judgement = judge(np, low, high)
    if np.all(judgement.certain & judgement.done):
        return None, judgement
    where, each = _at_hand(xp, together, widths)
    return where, judge(where, each, each)


def _at_hand(xp: Any, together: Array, widths: Sequence[int]) -> tuple[Any, list[Array]]:
    """The numbers ``(B, ...)`` that a decision is about, on the host if they are few, and functions to decide with."""
    where = xp
    if math.prod(together.shape) <= ON_HOST:
        together, where = lacking.to_host(together), np
    return where, _apart(together.T, widths)


def _apart(together: Array, widths: Sequence[int]) -> list[Array]:
    """The numbers that stand one after the other."""
    ends = list(accumulate(widths))
    return [together[start:end, ...] for start, end in zip([0, *ends], ends)]


def _diagonal(xp: Any, g: Array) -> Array:
    diagonal = xp.linalg.diagonal(g)
    return xp.real(diagonal) if is_complex(g) else diagonal


def _norm(xp: Any, columns: Array) -> Array:
    """The norms of the columns: ``(B, M, K)`` to ``(B, K)``."""
    return xp.linalg.vector_norm(columns, axis=-2)


def _norm_of_matrix(xp: Any, matrix: Array) -> Array:
    """The Frobenius norms: ``(B, M, N)`` to ``(B, 1)``."""
    return xp.linalg.vector_norm(matrix, axis=(-2, -1))[:, None]
