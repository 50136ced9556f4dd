"""`lstsq` with weights and a ridge: least squares of other rows, the short of which are kept.

    minimise  sum_i w_i |b_i - a_i x|^2 + sum_j p_j |x_j|^2

is least squares of the rows ``sqrt(w_i) a_i`` and, below them, ``sqrt(p_j) e_j``. A solver errs as if each number of
that matrix S had an error of eps times the largest: beside rows 1e5 times as long (weights 1e10 apart) a row has lost
five digits. Refinement gives them back, with a residual that is accurate in each row by itself:

    r = b - A x,    g = A^H W r - P x,    x <- x + S^+ (S^+H g)

At the solution g = 0, so that the two pseudo-inverses, which are two calls of the backend, need only be about right: a
step multiplies the error by about eps times the condition number of S. It is refinement of the augmented system
(Bjorck 1967), with its unknown r computed anew; only where weights are more than about 1e13 apart is r kept, too.

Steps give the derivatives, too. The root of a weight has none at 0, and S leaves out such a row. But g has the weights
themselves: after one step the first derivatives are those of the solution of g = 0, and after two the second.

References
----------
M. J. D. Powell and J. K. Reid, "On applying Householder transformations to linear least squares problems", Proc. IFIP
Congress 1968 (1969): why rows of very different size want care.
A. Bjorck, "Iterative refinement of linear least squares solutions I", BIT 7 (1967).
N. J. Higham, Accuracy and Stability of Numerical Algorithms (2nd ed., 2002), sections 20.5 and 20.7.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import array_api_compat
import numpy as np
from numpy.linalg import LinAlgError

from lstsq import _api, _contract, _precise, _registry
from lstsq._arithmetic import adjoint, is_complex, largest, largest_exponent, quiet, times_power_of_two
from lstsq._backend import Array, Backend, dtype_name
from lstsq._contract import Plan
from lstsq._registry import Owner
from lstsq._result import LstsqResult

#: Weights that are known to be within this factor of each other are not refined for: rows 100 times as long as others
#: cost two digits of the short ones, with weights or without.
ALIKE = 1e4

#: As many steps as give full accuracy, unless weights are extremely far apart: the roundings of x, times these, change
#: what is left of the light rows by their ratio times the square of a rounding.
STEPS, ALMOST_ENOUGH = 1, 2.0**-10
#: The most steps where they are so far apart, and where somebody may differentiate as many as give second derivatives.
MOST_STEPS, STEPS_DIFFERENTIATED = 12, 2

_LARGEST_SINGLE = float(np.finfo(np.float32).max)

_WANTED = {
    "weights": "expected (..., M), one for each of the {size} rows",
    "ridge": "expected one number, or (..., N), one for each of the {size} columns",
}
_ADVICE = {
    "weights": "A row that is not to count has the weight 0.",
    "ridge": "To hold an entry of x at 0, leave its column out.",
}


class Given(NamedTuple):
    """Weights or penalties: numbers from 0 up, of the real dtype that is computed in."""

    #: (..., M) or (..., N); (1,) for one number.
    array: Array
    #: Whether the numbers can be seen, and nobody differentiates with respect to them. If so, these three are of them.
    known: bool
    least: float = 0.0
    least_above_zero: float = 0.0
    largest: float = 0.0


def lstsq(
    a: Any,
    b: Any,
    rcond: Any,
    *,
    weights: Any,
    ridge: Any,
    driver: str | None,
    numpy_resid: bool,
    singular_values: bool,
    backend: str | None,
) -> LstsqResult:
    """`lstsq.lstsq` with weights, a ridge, or both."""
    a, b, owner = _api.arrays(a, b)
    solver = owner.backend
    if backend is not None:
        solver, owner = _api.named(backend, owner)
    plan = _api.prepare(solver, owner, a, b, rcond, driver)
    dtype = _precise.working_dtype(owner.backend, owner.xp, a, plan.dtype)
    if solver.refuse(dtype, plan.driver) is not None:
        dtype = plan.dtype
    w = None if weights is None else take("weights", weights, plan.m, dtype, a, owner)
    p = None if ridge is None else take("ridge", ridge, plan.n, dtype, a, owner)
    if p is not None and p.known and p.largest == 0 and len(p.array.shape) == 1:
        p = None
    if w is None and p is None:
        return _api.lstsq(
            a, b, rcond, driver=driver, numpy_resid=numpy_resid, singular_values=singular_values, backend=backend
        )
    batch = plan.batch
    for factors in filter(None, (w, p)):
        batch = _contract.broadcast(batch, tuple(factors.array.shape[:-1]), tuple(a.shape), tuple(b.shape))
    cutoff = rcond if p is None and dtype == plan.dtype else _cutoff(plan, owner.xp)

    # What a driver declines to answer stays unanswered; a correction is only to be about right, by any driver.
    correcting = None if plan.driver in solver.capabilities.declines else driver

    def correction(a: Array, b: Array) -> LstsqResult:
        return _api.lstsq(a, b, cutoff, driver=correcting, singular_values=False, backend=backend)

    ways = _Ways(
        owner.backend,
        owner.xp,
        data=lambda a, b: _api.lstsq(a, b, cutoff, driver=driver, singular_values=singular_values, backend=backend),
        stacked=lambda a, b: _api.lstsq(a, b, cutoff, driver=driver, singular_values=False, backend=backend),
        correction=correction,
        adjoint_correction=correction,
        unweighted=lambda a, b: _api.lstsq(a, b, driver=correcting, singular_values=False, backend=backend),
        cutoff=_known_cutoff(plan, owner.xp),
    )

    def compute(a: Array, b: Array, *arrays: Array) -> LstsqResult:
        left = iter(arrays)
        of_rows, of_columns = (None if of is None else of._replace(array=next(left)) for of in (w, p))
        a, b = (owner.xp.astype(array, getattr(owner.xp, dtype)) for array in (a, b))
        b = b[:, None] if plan.vector else b
        if dtype != plan.dtype or 0 in (*a.shape, *b.shape):
            # Products of single precision are far from the ends of the range of double.
            return _rounded(_solve(a, b, of_rows, of_columns, batch, ways), plan, owner.xp)
        return _rounded(_solve_in_range(a, b, of_rows, of_columns, batch, ways), plan, owner.xp)

    with quiet(owner.xp):
        arrays = [of.array for of in (w, p) if of is not None]
        result: LstsqResult = owner.backend.within(compute, a, b, *arrays)
    return _api.numpy_residuals(result, batch, plan.m, plan.n, owner.backend) if numpy_resid else result


class Kept(NamedTuple):
    """The rows of a matrix that is factorised with weights."""

    #: (..., M, N), as they were given, in the dtype that is computed in.
    a: Array
    weights: Given


def keep(a: Array, weights: Any, dtype: str, owner: Owner) -> tuple[Kept, Array]:
    """The rows with their weights, and times the roots of these, which is the matrix to factorise."""
    home, xp = owner.backend, owner.xp
    given = take("weights", weights, a.shape[-2], dtype, a, owner)

    def compute(a: Array, w: Array) -> tuple[Array, Array]:
        a = xp.astype(a, getattr(xp, dtype))
        rows = _rows(xp, a, a[..., :0], given._replace(array=w), refined=False)
        return a, rows.scaled_a if 0 in w.shape else rows.scaled_a * rows.root[..., None]

    with quiet(xp):
        kept, scaled = home.within(compute, a, given.array)
    return Kept(kept, given), scaled


def solve_factored(
    kept: Kept,
    b: Array,
    plan: Plan,
    owner: Owner,
    solve: Callable[[Array], LstsqResult],
    solve_adjoint: Callable[[Array], LstsqResult],
) -> LstsqResult:
    """Solve for ``b (M,)`` or ``(..., M, K)`` where the rows times the roots of the weights are factorised.

    `solve` and `solve_adjoint` answer for that matrix and its adjoint. What it takes is refined, as without factors.
    """
    home, xp = owner.backend, owner.xp
    working = _precise.working_dtype(home, xp, kept.a, plan.dtype)

    def compute(a: Array, b: Array, w: Array) -> LstsqResult:
        b = xp.astype(b[:, None] if plan.vector else b, getattr(xp, working))
        weights = kept.weights._replace(array=w)
        unit, root = _power_of_four(xp, xp.max(w, axis=-1, keepdims=True)) if 0 not in w.shape else (1.0, 1.0)
        column = root if isinstance(root, float) else root[..., None]

        def data(_: Array, right: Array) -> LstsqResult:
            x, squares, rank, s = solve(right * column)
            return LstsqResult(x, squares / unit, rank, None if s is None else s / root)

        ways = _Ways(
            home,
            xp,
            data=data,
            stacked=data,
            correction=lambda _, right: _times(solve(right), column),
            adjoint_correction=lambda _, right: _times(solve_adjoint(right), column),
            unweighted=lambda a, b: _api.lstsq(a, b, singular_values=False, backend=home.name),
            cutoff=_known_cutoff(plan, xp),
        )
        batch = _contract.broadcast(tuple(a.shape[:-2]), tuple(b.shape[:-2]), tuple(a.shape), tuple(b.shape))
        return _rounded(_solve(a, b, weights, None, batch, ways), plan, xp)

    with quiet(xp):
        result: LstsqResult = home.within(compute, kept.a, b, kept.weights.array)
    return result


def is_refined(kept: Kept) -> bool:
    """Whether the solution by the factors is refined, since some rows may be much longer than others."""
    return _are_far_apart(kept.weights)


def _times(result: LstsqResult, factor: Any) -> LstsqResult:
    return result._replace(x=result.x * factor)


def take(name: str, given: Any, size: Any, dtype: str, a: Array, owner: Owner) -> Given:
    """The weights or the ridge as the caller gave them, or the error that says what is wrong with them."""
    home, xp = owner.backend, owner.xp
    real = {"complex64": "float32", "complex128": "float64"}.get(dtype, dtype)
    if name == "ridge" and type(given) in (bool, int, float):
        # No array is looked at, since torch's compiler can see through this, and not through NumPy's arrays.
        try:
            number = float(given)
        except OverflowError:
            raise _out_of_range(name, "an integer beyond the range of float64", ()) from None
        if not 0 <= number <= (_LARGEST_SINGLE if real == "float32" else math.inf) or number == math.inf:
            raise _out_of_range(name, number, ())
        with home.context():
            return Given(home.from_numpy_like(np.full(1, number, real), a), True, number, number, number)
    plain = isinstance(given, np.generic) or _registry.owner(given) is None
    operand = _api.numbers(name, given) if plain else _api.beside(name, given, a, owner)
    if not _contract.is_real(dtype_name(operand.dtype)):
        raise TypeError(f"{name} has dtype {dtype_name(operand.dtype)}; expected real numbers.")
    shape = tuple(operand.shape)
    if not (name == "ridge" and shape == ()) and (shape == () or (shape[-1] != size and size == size)):
        wanted = _WANTED[name].format(size=size)
        raise LinAlgError(f"{name} has shape {shape}; {wanted} of a (shape {tuple(a.shape)}).")
    with home.context():
        if plain:
            with np.errstate(over="ignore"):
                numbers = operand.astype(real)
            array = home.from_numpy_like(numbers, a)
        else:
            array = operand if dtype_name(operand.dtype) == real else xp.astype(operand, getattr(xp, real))
            # To look at what is computed later would compute it now.
            numbers = None if array_api_compat.is_dask_array(array) else home.known(array)
        array = array if shape else array[None]
    if numbers is None or numbers.size == 0:
        return Given(array, numbers is not None)
    wrong = np.argwhere(~((numbers >= 0) & np.isfinite(numbers)))
    if len(wrong):
        place = tuple(int(i) for i in wrong[0])
        raise _out_of_range(name, numbers[place], place)
    above = numbers[numbers > 0]
    return Given(array, True, float(numbers.min()), float(above.min()) if above.size else 0.0, float(numbers.max()))


def _out_of_range(name: str, number: Any, place: tuple[int, ...]) -> ValueError:
    where = f" at index {place}" if place else ""
    return ValueError(f"{name} holds {number}{where}; expected finite numbers from 0 up. {_ADVICE[name]}")


def _cutoff(plan: Plan, xp: Any) -> Any:
    """The cutoff as a number: the matrix that is solved for has other rows or another precision than the data."""
    known = isinstance(plan.rcond, float)
    if plan.rcond is None or (known and math.isnan(plan.rcond)):
        raise LinAlgError(
            f"the default cutoff depends on the shape of a, of which M = {plan.m} or N = {plan.n} is not known; with "
            "weights or a ridge expected a number. Pass rcond, or find the shape first (with Dask, "
            "a.compute_chunk_sizes())."
        )
    if known:
        return plan.rcond
    return xp.where(plan.rcond < 0, _contract.EPS[plan.dtype] / 2, plan.rcond)


def _known_cutoff(plan: Plan, xp: Any) -> Any:
    """The cutoff of the data; 0 where it is the default and depends on a shape that is not known."""
    unknown = plan.rcond is None or (isinstance(plan.rcond, float) and math.isnan(plan.rcond))
    return 0.0 if unknown else _cutoff(plan, xp)


def _rounded(result: LstsqResult, plan: Plan, xp: Any) -> LstsqResult:
    """The result in the dtypes that the caller's arrays ask for."""
    x, squares, rank, s = result
    real = xp.float32 if plan.dtype in ("float32", "complex64") else xp.float64
    x = xp.astype(x[..., 0] if plan.vector else x, getattr(xp, plan.dtype))
    return LstsqResult(x, xp.astype(squares, real), rank, None if s is None else xp.astype(s, real))


class _Ways(NamedTuple):
    """The library, and its backend in the ways in which it is called."""

    home: Backend
    xp: Any
    data: Callable[[Array, Array], LstsqResult]
    stacked: Callable[[Array, Array], LstsqResult]
    correction: Callable[[Array, Array], LstsqResult]
    #: The same with the adjoint of the matrix.
    adjoint_correction: Callable[[Array, Array], LstsqResult]
    #: With the default cutoff.
    unweighted: Callable[[Array, Array], LstsqResult]
    #: What counts as zero beside the largest singular value; at least 0.
    cutoff: Any


class _Rows(NamedTuple):
    """The rows of A and b, in the forms that are computed with."""

    #: Without what is huge or not finite where the weight is 0.
    a: Array
    b: Array
    #: (..., M, 1), divided by `unit`; or None.
    weights: Array | None
    #: (..., 1), a power of 4 near the largest weight; and its root.
    unit: Any
    root: Any
    #: With zeros where the weight is 0.
    present: Array
    #: Those times the roots of the weights.
    scaled_a: Array
    scaled_b: Array


class _Stacked(NamedTuple):
    """The rows of A, and below them those of the ridge, with columns scaled so that no penalty is beyond A."""

    matrix: Array
    #: (..., N, 1): x is this times the solution with the scaled columns. None without a ridge.
    scale: Array | None
    penalty: Array | None

    def back(self, x: Array) -> Array:
        """From the scaled columns to those of A, and for a gradient the other way."""
        return x if self.scale is None else self.scale * x


def _solve_in_range(
    a: Array, b: Array, weights: Given | None, ridge: Given | None, batch: tuple[int, ...], ways: _Ways
) -> LstsqResult:
    """As `_solve`, for numbers of any size: neither products of three nor sums of squares leave the range."""
    xp, rows = ways.xp, (a, b)
    if weights is not None and not (weights.known and weights.least > 0):
        absent = weights.array[..., None] == 0
        rows = tuple(xp.where(absent, xp.zeros_like(array), array) for array in (a, b))
    of_a, of_b = _precise.exponent(xp, rows[0], (-2, -1)), _precise.exponent(xp, rows[1], -2)
    seen = [None] if array_api_compat.is_dask_array(a) else [ways.home.known(exponent) for exponent in (of_a, of_b)]
    if not any(exponents is None or exponents.any() for exponents in seen):
        return _solve(a, b, weights, ridge, batch, ways)
    if ridge is not None:
        ridge = ridge._replace(array=times_power_of_two(xp, ridge.array, -2 * of_a[..., 0]))
    a, b = times_power_of_two(xp, a, -of_a), times_power_of_two(xp, b, -of_b)
    x, squares, rank, s = _solve(a, b, weights, ridge, batch, ways)
    return LstsqResult(
        times_power_of_two(xp, x, of_b - of_a),
        times_power_of_two(xp, squares, 2 * of_b[..., 0, :]),
        rank,
        None if s is None else times_power_of_two(xp, s, of_a[..., 0]),
    )


def _solve(
    a: Array, b: Array, weights: Given | None, ridge: Given | None, batch: tuple[int, ...], ways: _Ways
) -> LstsqResult:
    """Solve for ``a (..., M, N)``, ``b (..., M, K)``."""
    xp = ways.xp
    steps = _steps(weights, ridge, a, b, ways.home)
    rows = _rows(xp, a, b, weights, steps > 0)
    if ridge is not None and len(ridge.array.shape) > 1:
        # The rank and s have the batch dimensions of the ridge, too.
        rows = rows._replace(scaled_a=_repeated(xp, rows.scaled_a, batch))
    first = ways.data(rows.scaled_a, rows.scaled_b)
    x, squares, rank, s = first
    if 0 not in (*a.shape, *b.shape, *batch):
        stacked = _Stacked(rows.scaled_a, None, None)
        if ridge is not None:
            stacked, right = _stack(rows, (ridge.array / rows.unit)[..., None], x, ways)
            x = stacked.back(ways.stacked(stacked.matrix, right).x)
        if steps == MOST_STEPS:
            x = _refined_with_residuals(rows, stacked, x, ways)
        else:
            for _ in range(steps):
                x = x + _correction(rows, stacked, x, ways)
        if steps and ridge is None and not _is_differentiated(a, b, ways.home):
            x = _shortest(rows, x, rank, ways)
        if steps or ridge is not None:
            squares = _squares(rows, x, ways)
    return LstsqResult(x, squares * rows.unit, rank, None if s is None else s * rows.root)


def _steps(weights: Given | None, ridge: Given | None, a: Array, b: Array, home: Backend) -> int:
    """How many steps of refinement, at most: none if weights make no row much longer than another."""
    if not all(factors is None or factors.known for factors in (weights, ridge)):
        return STEPS_DIFFERENTIATED
    if weights is None or not _are_far_apart(weights):
        return 0
    if weights.largest * _unit(a) <= ALMOST_ENOUGH * weights.least_above_zero:
        return STEPS
    return STEPS_DIFFERENTIATED if _is_differentiated(a, b, home) else MOST_STEPS


def _are_far_apart(weights: Given) -> bool:
    return not (weights.known and weights.largest <= ALIKE * weights.least_above_zero)


def _unit(a: Array) -> float:
    """The largest relative error of a rounding."""
    return 2.0**-24 if dtype_name(a.dtype) in ("float32", "complex64") else 2.0**-53


def _is_differentiated(a: Array, b: Array, home: Backend) -> bool:
    """Whether derivatives may be asked for, by all that is known here."""
    return bool(home.capabilities.transforms) and any(home.known(array[..., :1, :1]) is None for array in (a, b))


def _rows(xp: Any, a: Array, b: Array, weights: Given | None, refined: bool) -> _Rows:
    if weights is None:
        return _Rows(a, b, None, 1.0, 1.0, a, a, b)
    w = weights.array
    if 0 in w.shape:
        return _Rows(a, b, w[..., None], 1.0, 1.0, a, w[..., None] * a, w[..., None] * b)
    unit, root = _power_of_four(xp, xp.max(w, axis=-1, keepdims=True))
    w = (w / unit)[..., None]
    scaled, absent = _root(xp, w), w == 0
    present, right = a, b
    if not (weights.known and weights.least > 0):
        present, right = (xp.where(absent, xp.zeros_like(array), array) for array in (a, b))
    if refined:
        a, b = (_without_huge(xp, array, absent) for array in (a, b))
    else:
        a, b = present, right
    return _Rows(a, b, w, unit, root, present, scaled * present, scaled * right)


def _without_huge(xp: Any, rows: Array, absent: Array) -> Array:
    """The rows without the numbers of absent ones that could spoil a sum.

    What else is in an absent row has a part in the derivative with respect to its weight.
    """
    size = largest(xp, rows)
    ordinary = size < 2.0 ** (largest_exponent(xp, size.dtype) // 3)
    return xp.where(absent & ~ordinary, xp.zeros_like(rows), rows)


def _power_of_four(xp: Any, largest: Array) -> tuple[Array, Array]:
    """A power of 4 near the largest weight, and its root: by them nothing is rounded, and they have no derivative."""
    known = (largest > 0) & xp.isfinite(largest)
    half = xp.floor(xp.log2(xp.where(known, largest, xp.ones_like(largest))) / 2)
    root = xp.pow(xp.full_like(half, 2.0), half)
    return root * root, root


def _root(xp: Any, numbers: Array) -> Array:
    """The root, whose derivative at 0 is taken for 0: the steps have the right one. NaN for negative numbers."""
    zero = numbers == 0
    return xp.where(zero, xp.zeros_like(numbers), xp.sqrt(xp.where(zero, xp.ones_like(numbers), numbers)))


def _stack(rows: _Rows, penalty: Array, x: Array, ways: _Ways) -> tuple[_Stacked, Array]:
    """A with the rows of the penalty ``(..., N, 1)`` below, and the right-hand sides beside; `x` has the shape of one.

    A column whose penalty is beyond A is divided by as much: else all others would be below the cutoff.
    """
    xp, top = ways.xp, rows.scaled_a
    n = top.shape[-1]
    reach = xp.max(largest(xp, top), axis=(-2, -1), keepdims=True)
    root = _root(xp, penalty)
    beyond = (root > reach) & (reach > 0)
    scale = xp.where(beyond, reach / xp.where(beyond, root, xp.ones_like(root)), xp.ones_like(root))
    identity = ways.home.from_numpy_like(np.eye(n, dtype=dtype_name(penalty.dtype)), top)
    below = identity * (root * scale)
    batch = _contract.broadcast(tuple(top.shape[:-2]), tuple(below.shape[:-2]), tuple(top.shape), tuple(below.shape))
    matrix = xp.concat(
        [
            _repeated(xp, top * xp.matrix_transpose(scale), batch),
            _repeated(xp, xp.astype(below, top.dtype), batch),
        ],
        axis=-2,
    )
    beside = _repeated(xp, rows.scaled_b, tuple(x.shape[:-2]))
    return _Stacked(matrix, scale, penalty), xp.concat([beside, xp.zeros_like(x)], axis=-2)


def _repeated(xp: Any, a: Array, batch: tuple[int, ...]) -> Array:
    """The matrices, the same over these batch dimensions."""
    return a if tuple(a.shape[:-2]) == batch else xp.broadcast_to(a, (*batch, *a.shape[-2:]))


def _correction(rows: _Rows, stacked: _Stacked, x: Array, ways: _Ways) -> Array:
    """One step of refinement."""
    xp = ways.xp
    left = rows.b - ways.home.matmul(rows.a, x)
    slope = ways.home.matmul(adjoint(xp, rows.a), left if rows.weights is None else rows.weights * left)
    if stacked.penalty is not None:
        slope = slope - stacked.penalty * x
    half = ways.adjoint_correction(adjoint(xp, stacked.matrix), stacked.back(slope)).x
    return stacked.back(ways.correction(stacked.matrix, half).x)


def _refined_with_residuals(rows: _Rows, stacked: _Stacked, x: Array, ways: _Ways) -> Array:
    """The solution for weights extremely far apart, where the residual of a heavy row is nothing but the rounding of x.

    So residuals, times the roots, are unknowns of their own (Bjorck 1967), which are corrected and not computed anew.
    """
    xp, matrix, multiply = ways.xp, stacked.matrix, ways.home.matmul
    residuals = before = None
    for _ in range(MOST_STEPS):
        now = rows.b - multiply(rows.a, x)
        now = now if rows.weights is None else _root(xp, rows.weights) * now
        if stacked.penalty is not None:
            now = xp.concat([now, -_root(xp, stacked.penalty) * x], axis=-2)
        kept = now if residuals is None else residuals
        half = ways.adjoint_correction(adjoint(xp, matrix), multiply(adjoint(xp, matrix), kept)).x
        change = ways.correction(matrix, half + (now - kept)).x
        residuals, change = now - multiply(matrix, change), stacked.back(change)
        x = x + change
        known = [ways.home.known(array) for array in (change, x)]
        size, of_x = (np.max(np.abs(array), axis=-2, initial=0.0) for array in known if array is not None)
        # What is not finite needs no other step, and what is not halved does not get better.
        again = size > 2 * _unit(x) * of_x
        if not np.any(again if before is None else again & (size <= before / 2)):
            break
        before = size
    return x


def _shortest(rows: _Rows, x: Array, rank: Array, ways: _Ways) -> Array:
    """x without what a step cannot see: its part in the null space, which is that of the rows, whatever their lengths.

    Rows of one length say where that is as accurately as any (van der Sluis 1969, "Condition numbers and equilibration
    of matrices"). If by them the rank is another, the cutoff has decided, and x stays as it is. Derivatives are those
    of the rows with their weights: off the matrices of this rank those of another null space would differ.
    """
    xp = ways.xp
    length = xp.max(largest(xp, rows.present), axis=-1, keepdims=True)
    even = rows.present / xp.where(length > 0, length, xp.ones_like(length))
    found = ways.unweighted(even, ways.home.matmul(even, x))
    # By rows of another length it could be another direction that is below the cutoff: what is lost must be so here.
    matrix, lost = rows.scaled_a, x - found.x
    m, n = matrix.shape[-2:]
    of_lost, of_x = (_norm(xp, array, -2) for array in (lost, x))
    unseen = ways.cutoff / math.sqrt(min(m, n)) * of_lost + 8 * n * _unit(matrix) * of_x
    is_unseen = _norm(xp, ways.home.matmul(matrix, lost), -2) <= unseen * _norm(xp, matrix, (-2, -1))
    return xp.where((found.rank == rank)[..., None, None] & is_unseen, found.x, x)


def _norm(xp: Any, a: Array, axis: int | tuple[int, ...]) -> Array:
    return xp.sqrt(xp.sum(_square(xp, a), axis=axis, keepdims=True))


def _square(xp: Any, a: Array) -> Array:
    """The square of the absolute value of each number."""
    return xp.real(a) ** 2 + xp.imag(a) ** 2 if is_complex(a) else a * a


def _squares(rows: _Rows, x: Array, ways: _Ways) -> Array:
    """The weighted sum of squares of the residual of each right-hand side."""
    xp = ways.xp
    left = rows.b - ways.home.matmul(rows.a, x)
    size = _precise.exponent(xp, left, -2)
    left = times_power_of_two(xp, left, -size)
    squares = _square(xp, left)
    total = xp.sum(squares if rows.weights is None else rows.weights * squares, axis=-2)
    return times_power_of_two(xp, total, 2 * size[..., 0, :])
