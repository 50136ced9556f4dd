"""The rows of a problem reduced to as few as it has columns, in the functions of the array-API standard.

    A = Q R,    ‖b − A x‖² = ‖Qᴴb − R x‖² + ‖b − Q Qᴴb‖²

so that R, Qᴴb and the last norm say of these rows all that a least-squares solution asks for. It is an orthogonal
reduction, never a Gram matrix: the singular values of R are those of A, also the small ones, and decide about the rank
when all rows have been seen.

References
----------
C. L. Lawson and R. J. Hanson, Solving Least Squares Problems (1974), chapter 27, "Sequential accumulation of rows".
J. Demmel, L. Grigori, M. Hoemmen and J. Langou, "Communication-optimal parallel and sequential QR and LU
factorizations", SIAM J. Sci. Comput. 34 (2012), section 2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

#: Any array of any library.
Array = Any


class Rows(NamedTuple):
    """At most as many rows as columns, in double precision where the library has it, and what they leave out."""

    #: (min(M, N), N): of the same singular values as the rows that it stands for.
    a: Array
    #: (min(M, N), K)
    b: Array
    #: (K,), real: the norm of the part of each right-hand side that no x reaches.
    left: Array


def reduce_rows(xp: Any, a: Array, b: Array, factorise: Callable[[Array], tuple[Array, Array]] | None = None) -> Rows:
    """Reduce ``a (M, N)`` and ``b (M, K)``, which are of the precision to compute in, by one QR factorisation.

    It is that of the standard, unless the library has a better one: `factorise` gives Q and R of a matrix.
    A matrix that is not finite gives NaN. A column of `b` that is not finite gives NaN in that column.
    """
    m, n = a.shape
    if m <= n:
        return Rows(a, b, norms(xp, b[:0, :]))
    if n == 0:
        return Rows(a[:0, :], b[:0, :], norms(xp, b))
    # Zeros in place of what is not finite: what the factorisations of some libraries do with it is not known.
    finite = xp.all(xp.isfinite(a))
    whole = xp.where(finite, a, xp.zeros_like(a))
    q, r = xp.linalg.qr(whole, mode="reduced") if factorise is None else factorise(whole)
    c = xp.matmul(_adjoint(xp, q), b)
    rest = b - xp.matmul(q, c)
    return Rows(xp.where(finite, r, xp.full_like(r, float("nan"))), c, norms(xp, rest))


def norms(xp: Any, b: Array) -> Array:
    """The norm of each column of ``b (M, K)``. No square over- or underflows that counts."""
    sizes = xp.abs(b)
    if b.shape[0] == 0:
        return xp.sum(sizes, axis=0)
    largest = xp.max(sizes, axis=0)
    # By a power of two or not: that changes the last digit alone.
    unit = xp.where((largest > 0) & xp.isfinite(largest), largest, xp.ones_like(largest))
    return unit * xp.sqrt(xp.sum((sizes / unit) ** 2, axis=0))


def _adjoint(xp: Any, q: Array) -> Array:
    transposed = xp.matrix_transpose(q)
    return xp.conj(transposed) if xp.isdtype(q.dtype, "complex floating") else transposed
