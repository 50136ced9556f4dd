"""One matrix of the batch after the other, by gelsd or by the SVD, with this library's cutoff, scaling and residuals.

Where gelsd's answer is not the contract's, the SVD solves instead: where gelsd does not converge, where it kept other
singular values than the contract keeps, and, of more than 25 columns, where the cut is narrow or a singular value is
all but at the cutoff. There the two spaces that the cut separates hardly differ in their singular values, and gelsd's
divide and conquer mixes them: it errs as if A had a relative error of up to 25 eps, and the SVD with one step of
refinement as if of less than one (measured on matrices of 26 to 64 columns).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.linalg import LinAlgError

from lstsq import _originals
from lstsq._backend import Solution, not_finite

NDArray = np.ndarray[Any, Any]

#: Up to so many columns gelsd finds singular values by QR iteration, as accurately as the SVD; beyond, it divides.
UNDIVIDED = 25

#: Its singular values are then off by up to 16 eps of the largest: enough to be on the other side of a cutoff as near.
DOUBTFUL = 32 * 2.0**-52

#: A cut is narrow from here on, relative to the largest singular value: gelsd may then be wrong in half of the digits.
NARROW = 2.0**-26

#: Numbers up to 2^200 and down to 2^-200 are solved as they are: no product or square of such leaves the range.
ORDINARY = 200

#: The precision that everything is solved in.
DOUBLE = (np.dtype(np.float64), np.dtype(np.complex128))

#: Where a sum of squares is at most this, and at least this for each of its numbers, the largest of them is ordinary.
MOST, LEAST = 2.0**390, 2.0**-390

#: One over this, times the root of `MOST`, is far from the largest number.
SMALL = 2.0**-200


# A number beyond the range of its dtype becomes inf or 0, and needs no warning besides. As a decorator `errstate` takes
# half of the time that it takes as a context.
@np.errstate(over="ignore", under="ignore", invalid="ignore")
def solve(a: NDArray, b: NDArray, rcond: float, driver: str) -> Solution:
    """Solve for each matrix of the batch: ``a (..., M, N)``, ``b (..., M, K)``. See `Backend.solve`."""
    if a.ndim == 2 and a.dtype in DOUBLE and b.dtype is a.dtype:
        # Small problems come one by one: what is in the precision to solve in is neither converted nor copied.
        answer = _solve_ordinary(a, b, rcond, driver)
        if answer is not None:
            return answer
    a, b = np.asarray(a), np.asarray(b)
    batch, (m, n), k = a.shape[:-2], a.shape[-2:], b.shape[-1]
    dtype = a.dtype.newbyteorder("=")
    real = np.empty(0, dtype).real.dtype
    double = np.result_type(dtype, np.float64)
    x = np.empty((*batch, n, k), dtype)
    residuals = np.empty((*batch, k), real)
    rank = np.empty(batch, np.int32)
    s = np.empty((*batch, min(m, n)), real)
    # Converting inside the loop holds one matrix in double, and never the whole batch.
    for i in np.ndindex(batch) if batch else ((),):
        one_a, one_b = np.asarray(a[i], double), np.asarray(b[i], double)
        answer = _solve_ordinary(one_a, one_b, rcond, driver)
        if answer is None:
            largest = _largest(one_a, None)
            if not np.isfinite(largest):
                raise not_finite(a)
            answer = Solution(*_solve_one(one_a, one_b, float(largest), rcond, driver))
        x[i], residuals[i], rank[i], s[i] = answer
    return Solution(x, residuals, rank[()], s)


def _solve_ordinary(a: NDArray, b: NDArray, rcond: float, driver: str) -> Solution | None:
    """The answer of `_solve_one`, or None where a number is not finite, or so large or small that it is to be scaled.

    For a small matrix a look at each number takes longer than LAPACK does: sums of squares, by BLAS, tell enough.
    """
    enough = len(b) * LEAST
    if b.shape[1] == 1:
        least = most = _sum_of_squares(b)
    else:
        least, most = _bounds(_squares(b))
    if not (a.size * LEAST <= _sum_of_squares(a) <= MOST and enough <= least and most <= MOST):
        return None
    x, r, rank, s = _solve_in_range(a, b, rcond, driver)
    # x is at most as long as b over the smallest singular value that counts: it is finite.
    if rank and s[rank - 1] < SMALL:
        return None
    squares = _squares(r)
    least, most = _bounds(squares) if len(squares) > 1 else (squares[0], squares[0])
    # Of a column nothing may be left.
    if most > MOST or (least < enough and r[:, squares < enough].any()):
        return None
    return Solution(x, squares, rank, s)


def _solve_one(
    a: NDArray, b: NDArray, largest: float, rcond: float, driver: str
) -> tuple[NDArray, NDArray, np.int32, NDArray]:
    """The answer for one matrix whose largest number is `largest`."""
    sizes = _largest(b, 0)
    finite = np.isfinite(sizes)
    if not finite.all():
        # Zeros in place of a column that is not finite, which would spoil the others.
        b, sizes = np.where(finite, b, 0.0), np.where(finite, sizes, 0.0)

    # Powers of two, so that nothing is rounded: one for the matrix and one for each right-hand side and each residual.
    shift_a, shifts_b = _shift(largest), _shift(sizes)
    x, r, rank, s = _solve_in_range(_times_2_to(-shift_a, a), _times_2_to(-shifts_b, b), rcond, driver)
    if not np.isfinite(x).all():
        # One over a singular value overflowed, so small is one that counts: b goes down by as much as that takes.
        shift_a, shifts_b = np.frexp(largest)[1], np.frexp(sizes)[1] + ORDINARY
        x, r, rank, s = _solve_in_range(_times_2_to(-shift_a, a), _times_2_to(-shifts_b, b), rcond, driver)
    shifts_r = _shift(_largest(r, 0))
    r = _times_2_to(-shifts_r, r)

    x = _times_2_to(shifts_b - shift_a, x)
    squares = _times_2_to(2 * (shifts_b + shifts_r), np.vecdot(r.T, r.T).real)
    x[:, ~finite] = complex(np.nan, np.nan) if np.iscomplexobj(x) else np.nan
    squares[~finite] = np.nan
    return x, squares, rank, _times_2_to(shift_a, s)


def _solve_in_range(a: NDArray, b: NDArray, rcond: float, driver: str) -> tuple[NDArray, NDArray, np.int32, NDArray]:
    """The solution, the residual ``b - a x``, the rank and the singular values."""
    x, rank, s = (driver == "gelsd" and _by_gelsd(a, b, rcond)) or _by_svd(a, b, rcond)
    # The method takes half of the time that the operator takes, but copies what is not contiguous.
    product = a.dot(x) if a.flags.forc and a.dtype.char == "d" else a @ x
    return x, b - product, rank, s


def _by_gelsd(a: NDArray, b: NDArray, rcond: float) -> tuple[NDArray, np.int32, NDArray] | None:
    """LAPACK's solution, its rank and the singular values; or None, where that is not the contract's."""
    try:
        x, _, lapack_rank, s = _originals.lstsq(a, b, rcond)
    except LinAlgError:  # Divide and conquer did not converge.
        return None
    rank = _rank(s, rcond)
    # LAPACK takes any rcond outside (0, 1) to mean eps, and compares after scaling by a number that may round.
    if rank != lapack_rank or (len(s) > UNDIVIDED and _wants_care(rank, s, rcond)):
        return None
    return x, lapack_rank, s


def way(a: NDArray, b: NDArray, rcond: float, driver: str) -> str:
    """Which of the two answers for matrices of ordinary size, and why."""
    batch = a.shape[:-2]
    double = np.result_type(a.dtype, np.float64)
    found = [_way(np.asarray(a[i], double), np.asarray(b[i], double), rcond, driver) for i in np.ndindex(batch)]
    if len(set(found)) == 1:
        return found[0]
    return "; ".join(f"{found.count(said)} of {len(found)} matrices: {said}" for said in dict.fromkeys(found))


def _way(a: NDArray, b: NDArray, rcond: float, driver: str) -> str:
    if driver == "svd":
        return "the singular value decomposition answered, refined once"
    instead = "so the singular value decomposition answered"
    shift = -_shift(_largest(a, None))
    try:
        _, _, lapack_rank, s = _originals.lstsq(_times_2_to(shift, a), np.zeros_like(b), rcond)
    except LinAlgError:
        return f"gelsd did not converge, {instead}"
    rank = _rank(s, rcond)
    if rank != lapack_rank:
        return f"gelsd kept {lapack_rank} singular values and the cutoff {rank}, {instead}"
    if len(s) > UNDIVIDED and _wants_care(rank, s, rcond):
        return f"the singular values on both sides of the cutoff are too close for gelsd, {instead}"
    return "gelsd answered"


def _wants_care(rank: int, s: NDArray, rcond: float) -> bool:
    """Whether gelsd's answer, found by dividing, is not accurate enough: where much hangs on little at the cut."""
    if np.abs(s - rcond * float(s[0])).min() <= DOUBTFUL * s[0]:
        return True
    # From the smallest singular value that counts to the largest that does not, or to zero.
    below = s[rank] if rank < len(s) else 0.0
    return bool(rank > 0 and s[rank - 1] - below <= NARROW * s[0])


def _by_svd(a: NDArray, b: NDArray, rcond: float) -> tuple[NDArray, np.int32, NDArray]:
    u, s, vh = _originals.svd(a, full_matrices=False)
    rank = _rank(s, rcond)

    def apply_pinv(rhs: NDArray) -> NDArray:
        solution: NDArray = vh[:rank].conj().T @ ((u[:, :rank].conj().T @ rhs) / s[:rank, None])
        return solution

    x = apply_pinv(b)
    return x + apply_pinv(b - a @ x), np.int32(rank), s  # One step of iterative refinement.


def _rank(s: NDArray, rcond: float) -> int:
    # As a Python float: inf times zero is then a NaN, above which nothing is, and not a warning.
    cutoff = rcond * float(s[0])
    if s[-1] > cutoff:
        return len(s)
    return int(np.count_nonzero(s > cutoff))


def _sum_of_squares(array: NDArray) -> float:
    """Of all real and imaginary parts, about; inf or NaN where one of them is, and where the sum is too large."""
    flat = array.ravel("K")
    if flat.dtype.char == "D":
        flat = flat.view(np.float64)
    return float(flat.dot(flat))


def _squares(array: NDArray) -> NDArray:
    """The sum of squares of each column."""
    if array.shape[1] == 1 and array.dtype.char == "d":
        squares: NDArray = array.T.dot(array)[0]
    else:
        squares = np.vecdot(array.T, array.T).real
    return squares


def _bounds(squares: NDArray) -> tuple[float, float]:
    """The least and the most of them; NaN where one of them is."""
    return squares.min(), squares.max()


def _largest(array: NDArray, axis: int | None) -> NDArray:
    """The largest absolute value of a real or imaginary part along `axis`; inf or NaN where one of them is."""
    parts = (array.real, array.imag) if np.iscomplexobj(array) else (array,)
    largest: NDArray = np.max([np.maximum(part.max(axis), -part.min(axis)) for part in parts], axis=0)
    return largest


def _shift(largest: float | NDArray) -> NDArray:
    """The exponent of what is very large or very small, and 0 for what is ordinary or not finite."""
    exponent = np.frexp(largest)[1]
    return np.where(np.abs(exponent) > ORDINARY, exponent, 0)


def _times_2_to(exponent: NDArray, array: NDArray) -> NDArray:
    """The array times a power of two, rounded only where that leaves the range of its dtype."""
    if not np.any(exponent):
        return array
    if not np.iscomplexobj(array):
        return np.ldexp(array, exponent)
    # Each part for itself: a complex product would make NaN of an infinite part.
    product = np.empty_like(array)
    product.real, product.imag = np.ldexp(array.real, exponent), np.ldexp(array.imag, exponent)
    return product
