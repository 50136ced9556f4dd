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


class Bounds(NamedTuple):
    """What is proven of each matrix, ``(B, 1)``."""

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


class Reduction(NamedTuple):
    """A batch of matrices ready to be solved with."""

    #: From right-hand sides ``(B, M, K)``, or with `of_cross` from ``Aᴴ b``, to about their solutions ``(B, N, K)``.
    step: Callable[[Array], Array]
    of_cross: bool
    #: Numbers ``(B, 1)``, and what they prove. They are apart so that the proof can be on the host.
    facts: Sequence[Array]
    bounds: Callable[[Any, Sequence[Array]], Bounds]
    #: By what the unknowns are multiplied before their errors are measured: ``(B, N, 1)``.
    weight: Array | None
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
    (m, n), single = a.shape[-2:], a.single
    # The elements that are proven, (B,), and those that are still to be refined, (B, 1, 1); None for all of them.
    proven, open_, previous = False, None, None
    residual = None
    if by == "gram" and single and n < m and n <= LARGE:
        reduction, x, residual, where, bounds, proven = _at_once(xp, a, b, rcond)
        if bool(where.all(proven)):
            s = reduction.singular_values(bounds, proven) if singular_values else None
            return Certified(x, residual**2, None, s)
        open_ = lacking.to_device(xp, ~proven, b)[:, None, None]
    else:
        reduction = _reduction(xp, a, by)
        # What refinement starts from may be in single precision, too.
        multiply = a.adjoint_times_in_single if by == "large in single" else a.adjoint_times
        x = reduction.step(multiply(b) if reduction.of_cross else b)
    size_b = [] if single else [xp.max(largest(xp, b), axis=-2)]

    def look(*measured: Array) -> tuple[Any, Bounds, Sequence[Array], Array, Array]:
        where, facts, measured_at_hand = _at_hand(xp, reduction.facts, [*measured, *size_b])
        with np.errstate(all="ignore"):  # What is not certified may be anything.
            bounds = reduction.bounds(where, facts)
            return where, bounds, measured_at_hand, *judge(where, bounds, measured_at_hand, (m, n), rcond, single)

    def still(new: Array, old: Array) -> Array:
        """The new numbers of what is to be refined: what is done stays as it is, whatever its neighbours need."""
        if open_ is None:
            return new
        return xp.where(open_ if new.ndim == 3 else open_[:, 0, :], new, old)

    r = b - a.times(x)
    residual = still(_norm(xp, r), residual)
    for _ in range(STEPS):
        cross = a.adjoint_times(r) if reduction.of_cross else r
        step = reduction.step(cross)
        before = [residual] if m < n else []
        x = still(x + step, x)
        sizes = [_norm(xp, v if reduction.weight is None else v * reduction.weight) for v in (step, x)]
        if m > n and previous is None:
            # The first step is most often so short that the residual keeps its length, which is then not found again.
            # Its square is less by ‖A step‖², but for a part ρ of that, and that is stepᴴ Aᴴ r, but for a part ρ.
            moved = xp.sum(xp.real(xp.conj(step) * cross) if is_complex(step) else step * cross, axis=-2)
            where, bounds, measured, certain, done = look(*sizes, residual, moved)
            done = done & (measured[3] <= (SINGLE if single else UNIT / 2) * measured[2] ** 2)
            proven = where.all(certain & done, axis=1) | proven
            if bool(where.all(proven)):
                break
            open_ = lacking.to_device(xp, ~proven, b)[:, None, None]
        r = still(b - a.times(x), r)
        residual = still(_norm(xp, r), residual)
        where, bounds, measured, certain, done = look(*sizes, residual, *before)
        proven = where.all(certain & done, axis=1) | proven
        more, step_size = certain & ~done, measured[0]
        if previous is not None:
            more = more & (step_size <= previous / 2)
        more = where.any(more, axis=1) & ~proven
        if not bool(where.any(more)):
            break
        previous = step_size
        open_ = lacking.to_device(xp, more, b)[:, None, None]
    s = reduction.singular_values(bounds, proven) if singular_values else None
    return Certified(x, residual**2, None if bool(where.all(proven)) else proven, s)


def _reduction(xp: Any, a: Matrix, by: str) -> Reduction:
    """The reduction of this name: "gram"; "large" for tall matrices of many columns, "lu" for square ones.

    The last two are followed by " in single" where matrices of single precision are factorised as they are.
    """
    from lstsq_array_api import _large, _square

    if by == "gram":
        return _reduce(xp, a)
    in_single = by.endswith(" in single")
    return _large.reduce(xp, a, in_single) if by.startswith("large") else _square.reduce(xp, a, in_single)


def _at_once(xp: Any, a: Matrix, b: Array, rcond: float) -> tuple[Reduction, Array, Array, Any, Bounds, Array]:
    """The solution and the norm of the residual by the normal equations alone, for tall matrices of single precision.

    Last come the functions of `_at_hand`, the bounds and which matrices ``(B,)`` are solved by that. So x errs by at
    most ρ / (1 − ρ) times its size and that of the residual. The square of the residual is
    ‖b‖² − 2 Re xᴴ Aᴴ b + xᴴ G x, which what rounding does to the three of them changes by less than 4 ρ ‖b‖².
    """
    gram, cross, additions = a.normal_equations(b)
    reduction = _reduce(xp, a, (gram, additions))
    x = reduction.step(cross)
    squares_b = _norm(xp, b) ** 2
    products = 2 * cross - lacking.matmul(xp, gram, x)
    products = xp.real(xp.conj(x) * products) if is_complex(x) else x * products
    squares = squares_b - xp.sum(products, axis=-2)
    where, facts, (squares_b, at_hand) = _at_hand(xp, reduction.facts, [squares_b, squares])
    with np.errstate(all="ignore"):
        bounds = reduction.bounds(where, facts)
        exact = (bounds.rho <= SINGLE * (1 - bounds.rho)) & (4 * bounds.rho * squares_b <= SINGLE * at_hand)
        proven = where.all(exact & has_full_rank(bounds, rcond), axis=1)
    return reduction, x, xp.sqrt(squares), where, bounds, proven


def has_full_rank(bounds: Bounds, rcond: float) -> Array:
    """Which matrices, ``(B, 1)``, have a proven contraction and all singular values above the cutoff."""
    # Twice, for the rounding errors of the bounds themselves.
    return (bounds.rho < CONTRACTION) & (2 * rcond * bounds.norm * bounds.inverse < 1)


def judge(
    xp: Any, bounds: Bounds, measured: Sequence[Array], shape: tuple[int, int], rcond: float, single: bool
) -> tuple[Array, Array]:
    """Which matrices are certified, ``(B, 1)``, and which of the right-hand sides are solved then, ``(B, K)``."""
    (m, n), rho = shape, bounds.rho
    # How much longer than an error of the unknowns the residual may be that it makes.
    reach = math.sqrt(n) if bounds.scaled else bounds.norm
    certain = has_full_rank(bounds, rcond)
    if not single:
        certain = certain & (bounds.shortest >= 2.0**-200) & (bounds.longest <= 2.0**200)
        size_b = measured[-1]
        certain = certain & ((size_b == 0) | ((size_b >= 2.0**-150) & (size_b <= 2.0**150)))
    step, size, residual = measured[:3]
    enough = SINGLE if single else UNIT * (1 + bounds.condition / (8 * math.sqrt(min(m, n))))
    if m >= n:
        left = rho * step
        done = left <= enough * (1 - rho) * (
            size + (residual if bounds.scaled else residual / bounds.norm) if m > n else size
        )
        if not single:
            # And the residual is right: what the error adds to it is nothing beside it or beside its own rounding
            # errors, or it is no more than these.
            own = 8 * UNIT * reach * size
            settled = (reach * left <= 2.0**-27 * (1 - rho) * residual) | (reach * left <= (1 - rho) * own)
            done = done & (settled | (residual <= own))
        return certain, done
    # A wide matrix: y of x = Aᴴ y may be larger than x by the condition number, and each product loses of it.
    lost = rho + 8 * UNIT * bounds.norm * bounds.inverse
    done = lost * step <= (SINGLE if single else UNIT) * (1 - rho) * size
    if not single:
        only_rounding = measured[3] <= 8 * UNIT * bounds.norm * size
        done = done | (only_rounding & (rho * step <= enough * (1 - rho) * size))
    return certain, done


def singular_values(xp: Any, a: Matrix, gram: Array, additions: int, good: Array) -> Array:
    """The singular values of tall matrices ``a (B, M, N)`` that are certified, with their Gram matrices."""
    reduction = _reduce(xp, a, (gram, additions))
    where, facts, _ = _at_hand(xp, reduction.facts, [])
    with np.errstate(all="ignore"):
        bounds = reduction.bounds(where, facts)
    return reduction.singular_values(bounds, good)


def _reduce(xp: Any, a: Matrix, gram_and_additions: tuple[Array, int] | None = None) -> Reduction:
    """A tall or a wide matrix, by the Gram matrix of its columns or rows."""
    (m, n), wide, single = a.shape[-2:], a.is_wide, a.single
    gram, additions = gram_and_additions or a.gram()
    size = min(m, n)
    squares = _diagonal(xp, gram)  # Of the norms.
    scale = 1 / xp.sqrt(squares)
    g = gram * (scale[:, :, None] * scale[:, None, :])
    identity = lacking.identity(xp, g)
    triangle = lacking.cholesky(xp, g)
    t = lacking.inverse_of_triangle(xp, triangle, identity)
    p = lacking.matmul(xp, adjoint(xp, t), t)
    diagonal_p = _diagonal(xp, p)
    error = _rounding(size, additions) * (4 if is_complex(gram) else 1)
    if size > LARGE and 16 * max(m, n) <= size**2:
        # Two passes over A for the probes are less work than P G, and tell what rounding has done to G, too.
        z = probes(xp, g)
        image = scale[:, :, None] * z
        image = a.times(a.adjoint_times(image)) if wide else a.adjoint_times(a.times(image))
        image = lacking.matmul(xp, p, scale[:, :, None] * image)
        defect, in_defect = xp.sqrt(bound_of_square(xp, z - image)), 0.0
    else:
        defect, in_defect = _norm_of_matrix(xp, identity - lacking.matmul(xp, p, g)), error
    facts = [defect, *(_column(xp.sum, v) for v in (diagonal_p, diagonal_p / squares))]
    facts += [_norm_of_matrix(xp, gram), _column(xp.max, diagonal_p)]
    if not single:
        facts += [_column(xp.min, squares), _column(xp.max, squares)]
    p = p * (scale[:, :, None] * scale[:, None, :])

    def step(r: Array) -> Array:
        y = lacking.matmul(xp, p, r)
        return a.adjoint_times(y) if wide else y

    def bounds(xp: Any, facts: Sequence[Array]) -> Bounds:
        defect, trace, inverse, norm, largest_p, *range_ = facts
        rho = defect + trace * in_defect
        shortest, longest = (xp.sqrt(v) for v in range_) if range_ else (None, None)
        # The square root of what is negative, where rho is beyond 1, is NaN, and so is what is made of it.
        inverse = xp.sqrt(inverse / (1 - rho))
        return Bounds(rho, xp.sqrt(norm), inverse, xp.sqrt(largest_p), shortest, longest, not wide)

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
        if not np.all(exact | ~lacking.to_host(good)[:, None]):
            # CholeskyQR2: the columns of A L⁻ᴴ are almost orthonormal, and a Gram matrix of these loses nothing.
            columns = a.tall() * xp.where(on_device, scale[:, None, :], xp.zeros_like(scale[:, None, :]))
            again, _ = gram_of(xp, lacking.divide(xp, columns, l))
            second = lacking.cholesky(xp, xp.where(on_device, again, identity))
            l = lacking.matmul(xp, l, second)
        norms = xp.where(on_device, 1 / scale[:, :, None], xp.ones_like(scale[:, :, None]))
        return of_square(xp, l * norms, bounds, good, False)

    return Reduction(step, not wide, facts, bounds, None if wide else 1 / scale[:, :, None], singular_values)


def _rounding(size: int, additions: int) -> float:
    """What rounding does to I − P G at most, but for the factor trace(P)."""
    if size <= LARGE:
        return size * (additions + 3 * size + 10) * UNIT
    # As a sum of independent errors (Higham and Mary 2019).
    return 8 * math.sqrt(size) * (math.sqrt(additions) + 2 * math.sqrt(size)) * UNIT


def _at_hand(xp: Any, facts: Sequence[Array], measured: Sequence[Array]) -> tuple[Any, list[Array], list[Array]]:
    """The numbers that a decision is about, on the host if they are few, and the functions to decide with."""
    together = xp.concat([*facts, *measured], axis=1)
    where = xp
    if math.prod(together.shape) <= ON_HOST:
        together, where = lacking.to_host(together), np
    of_matrix = [together[:, i : i + 1] for i in range(len(facts))]
    k = measured[0].shape[1] if measured else 1
    starts = range(len(facts), together.shape[1], k)
    return where, of_matrix, [together[:, start : start + k] for start in starts]


def _diagonal(xp: Any, g: Array) -> Array:
    diagonal = xp.linalg.diagonal(g)
    return xp.real(diagonal) if is_complex(g) else diagonal


def _column(reduce: Callable[..., Array], v: Array) -> Array:
    return reduce(v, axis=1, keepdims=True)


def _norm(xp: Any, columns: Array) -> Array:
    """The norms of the columns: ``(B, M, K)`` to ``(B, K)``."""
    return xp.linalg.vector_norm(columns, axis=-2)


def _norm_of_matrix(xp: Any, matrix: Array) -> Array:
    """The Frobenius norms: ``(B, M, N)`` to ``(B, 1)``."""
    return xp.linalg.vector_norm(matrix, axis=(-2, -1))[:, None]
