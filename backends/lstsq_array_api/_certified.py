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

from lstsq._arithmetic import adjoint, is_complex, largest
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
    #: At most the condition number of A, its columns divided by their norms.
    condition: Array
    #: The smallest and the largest norm of a column (a row, of a wide matrix).
    shortest: Array
    longest: Array
    #: Whether errors are measured in the unknowns of a matrix whose columns have norm 1.
    scaled: bool
    #: Where this is of all matrices, the smallest bound of ‖A‖ of one: what may be as large as A allows is held to it.
    least_norm: Array | None = None


class Reduction(NamedTuple):
    """A batch of matrices ready to be solved with."""

    #: From right-hand sides ``(B, M, K)``, or with `of_cross` from ``Aᴴ b``, to about their solutions ``(B, N, K)``, in
    #: the units in which errors are measured.
    step: Callable[[Array], Array]
    of_cross: bool
    #: Numbers ``(B, ...)``, and what they prove, their axes reversed, by the functions of a library: they are apart so
    #: that the proof can be on the host.
    facts: Sequence[Array]
    bounds: Callable[..., Bounds]
    #: By what the solutions are multiplied to be in the units of the caller: ``(B, N, 1)``.
    scale: Array | None
    #: The singular values, descending, ``(B, min(M, N))``, of the matrices that are certified.
    singular_values: Callable[[Bounds, Array], Array]
    #: Whether `bounds` also takes the largest of all facts, and the smallest, for what they prove of all matrices.
    of_all: bool = False


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


def joined(xp: Any, parts: Sequence[Certified]) -> Certified:
    """The answers for the parts of a batch, one after the other, as that for the batch."""
    x, squares = (xp.concat([part[i] for part in parts]) for i in range(2))
    known = [np.ones(part.x.shape[0], bool) if part.good is None else lacking.to_host(part.good) for part in parts]
    good = None if all(part.good is None for part in parts) else np.concatenate(known)
    return Certified(x, squares, good, None if parts[0].s is None else xp.concat([part.s for part in parts]))


def solve(xp: Any, a: Matrix, b: Array, rcond: float, singular_values: bool, by: str = "gram") -> Certified:
    """Solve for ``a (B, M, N)``, ``b (B, M, K)`` in double precision.

    `by` names the reduction; see `_reduction`.

    If `a` is of single precision, so are the answers to be; they are still in double here.
    """
    m, n = a.shape[-2:]
    if by == "gram" and a.single and n < m and n <= LARGE:
        reduction, scaled, x, residual, found = _at_once(xp, a, b, rcond)
    else:
        reduction = _reduction(xp, a, by)
        # What refinement starts from may be in single precision, too.
        multiply = a.adjoint_times_in_single if by == "large in single" else a.adjoint_times
        scaled, residual, found = reduction.step(multiply(b) if reduction.of_cross else b), None, None
    if found is None or found.proven is not None:
        x, residual, found = _refine(xp, a, b, rcond, reduction, scaled, residual, found)
    s = None
    if singular_values:
        good = np.ones(b.shape[0], bool) if found.proven is None else found.proven
        s = reduction.singular_values(_bounds_of_each(xp, reduction), good)
    return Certified(x, residual * residual, found.proven, s)


def _reduction(xp: Any, a: Matrix, by: str) -> Reduction:
    """The reduction of this name: "gram"; "large" for tall matrices of many columns, "lu" for square ones.

    The last two are followed by " in single" where matrices of single precision are factorised as they are.
    """
    from lstsq_array_api import _large, _square

    if by == "gram":
        return _reduce(xp, a)
    in_single = by.endswith(" in single")
    return _large.reduce(xp, a, in_single) if by.startswith("large") else _square.reduce(xp, a, in_single)


def _at_once(xp: Any, a: Matrix, b: Array, rcond: float) -> tuple[Reduction, Array, Array, Array, Judgement]:
    """The first solution for tall matrices of single precision, the norm of its residual, and where it is proven.

    In the unknowns y of A with columns of norm 1 it errs by ρ ‖y‖ and by what rounding does to Aᴴ b and its product
    with P. If as many additions are behind Aᴴ b as behind the Gram matrix, that is at most ρ (‖y‖ + ‖r‖). To spare a
    pass over A, the square of the residual is on a processor ‖b‖² − 2 Re xᴴ Aᴴ b + xᴴ G x. What rounding does to these
    three changes it by less than 4 ρ ‖b‖².
    """
    gram, cross, additions, behind_cross = a.normal_equations(b)
    reduction = _reduce(xp, a, (gram, additions))
    scaled = reduction.step(cross)
    x = scaled * reduction.scale
    if lacking.is_on_cpu(b):
        products = cross + lacking.minus_product(xp, cross, gram, x)
        size_b = _norm(xp, b)
        squares_b = size_b * size_b
        squares = squares_b - _products(xp, x, products)
        residual, measured = xp.sqrt(squares), [squares, squares_b]
    else:
        residual = _norm(xp, a.residual(b, x))
        measured = [residual]
    lost = 1 + max(1.0, behind_cross / additions)

    def is_exact(bounds: Bounds, low: Sequence[Array], high: Sequence[Array]) -> tuple[Array, Array]:
        left = lost * bounds.rho
        exact = (left <= SINGLE * (1 - left)) & (high[0] < math.inf)
        if len(high) > 1:
            exact = exact & (2 * left * high[1] <= SINGLE * low[0])
        return has_full_rank(bounds, rcond), exact

    return reduction, scaled, x, residual, _decide(xp, reduction, measured, is_exact)


def _refine(
    xp: Any,
    a: Matrix,
    b: Array,
    rcond: float,
    reduction: Reduction,
    scaled: Array,
    residual: Array | None,
    found: Any,
) -> tuple[Array, Array, Judgement]:
    """Refine the first solutions, but those that are `found` to be proven, of which the `residual` is known."""
    (m, n), single = a.shape[-2:], a.single
    size_b = [] if single else [xp.max(largest(xp, b), axis=-2)]
    # What is still to be refined, (B, 1, 1); None for all.
    open_ = None if found is None else found.open(xp, b)
    previous = None

    def still(new: Array, old: Array) -> Array:
        """The new numbers of what is to be refined: what is done stays as it is, whatever its neighbours need."""
        if open_ is None:
            return new
        return xp.where(open_ if new.ndim == 3 else open_[:, 0, :], new, old)

    def unscaled(unknowns: Array) -> Array:
        return unknowns if reduction.scale is None else unknowns * reduction.scale

    def decide(by: Callable[..., tuple[Array, Array]], *measured: Array) -> Judgement:
        def of_these(*at_hand: Any) -> tuple[Array, Array]:
            return by(*at_hand, (m, n), rcond, single)

        return _decide(xp, reduction, [*measured, *size_b], of_these, found)

    x = unscaled(scaled)
    r = a.residual(b, x)
    residual = still(_norm(xp, r), residual)
    for _ in range(STEPS):
        cross = a.adjoint_times(r) if reduction.of_cross else r
        step = reduction.step(cross)
        before = [residual] if m < n else []
        change = unscaled(step)
        x = still(x + change, x)
        scaled = x if reduction.scale is None else still(scaled + step, scaled)
        sizes = [_norm(xp, step), _norm(xp, scaled)]
        if m > n and previous is None:
            # The first step is most often so short that the residual keeps its length, which is then not found again.
            moved = [] if reduction.of_all else [_products(xp, change, cross)]
            found = decide(judge_before_residual, *sizes, residual, *moved)
            if found.proven is None:
                break
            open_ = found.open(xp, b)
        r = still(a.residual(b, x), r)
        residual = still(_norm(xp, r), residual)
        found = decide(judge, *sizes, residual, *before)
        if found.proven is None:
            break
        more = found.more
        if previous is not None:
            more = more & (found.measured[0] <= previous / 2)
        more = found.where.any(more, axis=0) & ~found.proven
        if not bool(found.where.any(more)):
            break
        previous = found.measured[0]
        open_ = lacking.to_device(xp, more, b)[:, None, None]
    return x, residual, found


class Judgement(NamedTuple):
    """What is decided of the matrices."""

    #: Which are certified and solved, ``(B,)``, now or before; None for all, and then there is nothing else.
    proven: Any
    #: Functions for the following, which are where the decision was taken.
    where: Any = None
    #: What was measured, ``(K, B)`` each, and which right-hand sides of certified matrices are not solved, ``(K, B)``.
    measured: Sequence[Array] = ()
    more: Any = None
    #: Whether all are certified.
    certain: bool = True

    def open(self, xp: Any, like: Array) -> Array:
        """Those that are not proven, ``(B, 1, 1)``, on the device of `like`."""
        return lacking.to_device(xp, ~self.proven, like)[:, None, None]


def _decide(
    xp: Any,
    reduction: Reduction,
    measured: Sequence[Array],
    judge: Callable[[Bounds, Sequence[Array], Sequence[Array]], tuple[Array, Array]],
    before: Judgement | None = None,
) -> Judgement:
    """Decide by what was `measured`, ``(B, K)`` each: of all matrices at once, or of each if not all are solved.

    `judge` tells which matrices are certified and which right-hand sides are solved, from the least and the largest of
    all numbers; for each matrix these are the same. What was proven `before` stays so, and what was not certified, too.
    """
    count = len(reduction.facts)
    numbers = [*reduction.facts, *measured]
    together, widths, where = xp.concat(numbers, axis=1), [part.shape[1] for part in numbers], xp
    if math.prod(together.shape) <= FEW:
        together, where = lacking.to_host(together), np
    with np.errstate(all="ignore"):  # What is not certified may be anything.
        if reduction.of_all and (before is None or before.certain):
            ends = lacking.to_host(lacking.extremes(where, together))
            # One number is no array: NumPy computes ten times as fast with it.
            low, high = ([part if part.size > 1 else part[0] for part in _apart(end, widths)] for end in ends)
            bounds = reduction.bounds(np, high[:count], low[:count])
            certain, done = judge(bounds, low[count:], high[count:])
            if (certain & done).all():
                return Judgement(None)
        where, each = _at_hand(xp, together, widths, sum(widths[:count]))
        bounds, measured = reduction.bounds(where, each[:count]), each[count:]
        certain, done = judge(bounds, measured, measured)
    solved = where.all(certain & done, axis=0)
    proven = solved if before is None else solved | before.proven
    if bool(where.all(proven)):
        return Judgement(None)
    return Judgement(proven, where, measured, certain & ~done, bool(where.all(certain)))


def _at_hand(xp: Any, together: Array, widths: Sequence[int], facts: int) -> tuple[Any, list[Array]]:
    """The numbers ``(B, ...)`` that a decision is about, on the host if the `facts` are few, and functions for them.

    What was measured does not count: all decisions about a batch are taken in one place.
    """
    if together.shape[0] * facts > ON_HOST:
        return xp, _apart(together.T, widths)
    return np, _apart(np.ascontiguousarray(lacking.to_host(together).T), widths)


def _apart(together: Array, widths: Sequence[int]) -> list[Array]:
    """The numbers that stand one after the other."""
    ends = list(accumulate(widths))
    return [together[start:end, ...] for start, end in zip([0, *ends], ends)]


def judge_before_residual(
    bounds: Bounds, low: Sequence[Array], high: Sequence[Array], shape: tuple[int, int], rcond: float, single: bool
) -> tuple[Array, Array]:
    """Decide by the residual before the step: what is solved has it still, but for rounding.

    Its square has become less by ‖A step‖², but for a part ρ of that. Where stepᴴ Aᴴ r was measured, too, that is this
    square, but for a part ρ; else a bound of it is enough.
    """
    certain, done = judge(bounds, low, high, shape, rcond, single)
    moved = high[3] if len(high) > (3 if single else 4) else shape[1] * high[0] ** 2
    return certain, done & (moved <= (SINGLE if single else UNIT / 2) * low[2] ** 2)


def has_full_rank(bounds: Bounds, rcond: float) -> Array:
    """Which matrices have a proven contraction, and all singular values above the cutoff."""
    # Twice, for the rounding errors of the bounds themselves.
    return (bounds.rho < CONTRACTION) & (2 * rcond * bounds.norm * bounds.inverse < 1)


def judge(
    bounds: Bounds, low: Sequence[Array], high: Sequence[Array], shape: tuple[int, int], rcond: float, single: bool
) -> tuple[Array, Array]:
    """Which matrices are certified, and which right-hand sides are solved, by what lies between `low` and `high`."""
    (m, n), rho = shape, bounds.rho
    # How much longer than an error of the unknowns the residual may be that it makes.
    reach = math.sqrt(n) if bounds.scaled else bounds.norm
    least_norm = bounds.norm if bounds.least_norm is None else bounds.least_norm
    certain = has_full_rank(bounds, rcond)
    if not single:
        certain = certain & (bounds.shortest >= 2.0**-200) & (bounds.longest <= 2.0**200)
        certain = certain & ((high[-1] == 0) | ((low[-1] >= 2.0**-150) & (high[-1] <= 2.0**150)))
    step, size, residual = high[0], low[1], low[2]
    enough = SINGLE if single else UNIT * (1 + bounds.condition / (8 * math.sqrt(min(m, n))))
    if m >= n:
        left = rho * step
        done = left <= enough * (1 - rho) * (
            size + (residual if bounds.scaled else residual / bounds.norm) if m > n else size
        )
        if not single:
            # And the residual is right: what the error adds to it is nothing beside it or beside its own rounding
            # errors, or it is no more than these.
            own = 8 * UNIT * (reach if bounds.scaled else least_norm) * size
            settled = (reach * left <= 2.0**-27 * (1 - rho) * residual) | (reach * left <= (1 - rho) * own)
            done = done & (settled | (high[2] <= own))
        return certain, done
    # A wide matrix: y of x = Aᴴ y may be larger than x by the condition number, and each product loses of it.
    lost = rho + 8 * UNIT * bounds.norm * bounds.inverse
    done = lost * step <= (SINGLE if single else UNIT) * (1 - rho) * size
    if not single:
        only_rounding = high[3] <= 8 * UNIT * least_norm * size
        done = done | (only_rounding & (rho * step <= enough * (1 - rho) * size))
    return certain, done


def singular_values(xp: Any, a: Matrix, gram: Array, additions: int, good: Array) -> Array:
    """The singular values of tall matrices ``a (B, M, N)`` that are certified, with their Gram matrices."""
    reduction = _reduce(xp, a, (gram, additions))
    return reduction.singular_values(_bounds_of_each(xp, reduction), good)


def _bounds_of_each(xp: Any, reduction: Reduction) -> Bounds:
    facts = xp.concat(reduction.facts, axis=1)
    where, each = _at_hand(xp, facts, [part.shape[1] for part in reduction.facts], facts.shape[1])
    with np.errstate(all="ignore"):
        return reduction.bounds(where, each)


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

    def step(r: Array) -> Array:
        y = lacking.matmul(xp, of_unknowns, r)
        return a.adjoint_times(y) if wide else y

    def bounds(xp: Any, facts: Sequence[Array], least: Sequence[Array] | None = None) -> Bounds:
        low = facts if least is None else least
        defect, norm, diagonal_p, squares = facts
        rho = defect + xp.sum(diagonal_p, axis=0) * in_defect
        # The square root of what is negative, where rho is beyond 1, is NaN, and so is what is made of it.
        inverse = xp.sqrt(xp.sum(diagonal_p / low[3], axis=0) / (1 - rho))
        norm, least_norm = xp.sqrt(norm), xp.sqrt(low[1])
        if single:  # No more is asked.
            return Bounds(rho, norm, inverse, None, None, None, not wide, least_norm)
        condition = xp.sqrt(xp.max(low[2], axis=0))
        shortest, longest = xp.sqrt(xp.min(low[3], axis=0)), xp.sqrt(xp.max(squares, axis=0))
        return Bounds(rho, norm, inverse, condition, shortest, longest, not wide, least_norm)

    def singular_values(bounds: Bounds, good: Array) -> Array:
        on_device = lacking.to_device(xp, good, gram)[:, None, None]
        if size > SMALL_SQUARE and (single or max(m, n) >= 2 * size):
            values = from_gram(xp, xp.where(on_device, gram, identity), additions, single)
            if values is not None:
                return values
        # The triangle's, if what rounding has done to the squares is nothing beside the smallest; in double precision,
        # if it is no more than what an orthogonal reduction loses.
        with np.errstate(all="ignore"):  # Of a matrix that is not certified it may be anything.
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

    return Reduction(step, not wide, facts, bounds, None if wide else down, singular_values, of_all=True)


def _rounding(size: int, additions: int) -> float:
    """What rounding does to I − P G at most, but for the factor trace(P)."""
    if size <= LARGE:
        return size * (additions + 3 * size + 10) * UNIT
    # As a sum of independent errors (Higham and Mary 2019).
    return 8 * math.sqrt(size) * (math.sqrt(additions) + 2 * math.sqrt(size)) * UNIT


def _diagonal(xp: Any, g: Array) -> Array:
    diagonal = xp.linalg.diagonal(g)
    return xp.real(diagonal) if is_complex(g) else diagonal


def _products(xp: Any, x: Array, y: Array) -> Array:
    """The real parts of ``xᴴ y`` of the columns: two ``(B, M, K)`` to ``(B, K)``."""
    return xp.sum(xp.real(xp.conj(x) * y) if is_complex(x) else x * y, axis=-2)


def _norm(xp: Any, columns: Array) -> Array:
    """The norms of the columns: ``(B, M, K)`` to ``(B, K)``."""
    return xp.linalg.vector_norm(columns, axis=-2)


def _norm_of_matrix(xp: Any, matrix: Array) -> Array:
    """The Frobenius norms: ``(B, M, N)`` to ``(B, 1)``."""
    return xp.linalg.vector_norm(matrix, axis=(-2, -1))[:, None]
