"""A batch of matrices for products in double precision.

On a processor a long matrix of single precision is converted piece by piece, each while it is in the cache: written out
in double precision it would be read from memory several times, at twice the length.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lstsq._arithmetic import adjoint
from lstsq._backend import Array
from lstsq_array_api import _lacking as lacking

#: Rows of a long matrix whose products are summed at once: the longest sum is then that of these, or of the pieces.
ROWS = 1024
#: Numbers that are converted at once: measured on two cores with 0.5 and 1 MB of cache each.
NUMBERS = 1 << 17


class Matrix:
    """Matrices ``a (B, M, N)`` of any precision, whose products are computed in the precision `working`."""

    def __init__(self, xp: Any, a: Array, working: Any) -> None:
        self.shape = tuple(a.shape)
        self.single = working != a.dtype
        self._xp, self._working = xp, working
        self.is_wide = a.shape[-2] < a.shape[-1]
        tall = adjoint(xp, a) if self.is_wide else a
        length, n = tall.shape[-2:]
        self._rows = max(2 * n, NUMBERS // max(n, 1))
        self._in_pieces = self.single and a.shape[0] == 1 and length >= 4 * self._rows and lacking.is_on_cpu(a)
        self._tall = tall if self._in_pieces or not self.single else xp.astype(tall, working)

    def whole(self) -> Array:
        """The matrices in the working precision."""
        tall = self.tall()
        return adjoint(self._xp, tall) if self.is_wide else tall

    def tall(self) -> Array:
        """The matrices, or their adjoints where these are taller, in the working precision."""
        return self._xp.astype(self._tall, self._working) if self._in_pieces else self._tall

    def times(self, x: Array) -> Array:
        """``a @ x``."""
        return self._over_rows(x) if self.is_wide else self._along_rows(x)

    def adjoint_times(self, r: Array) -> Array:
        """``aᴴ @ r``."""
        return self._along_rows(r) if self.is_wide else self._over_rows(r)

    def residual(self, b: Array, x: Array) -> Array:
        """``b - a @ x``."""
        if self._in_pieces:
            return b - self.times(x)
        return lacking.minus_product(self._xp, b, adjoint(self._xp, self._tall) if self.is_wide else self._tall, x)

    def gram(self) -> tuple[Array, int]:
        """``aᴴ a``, or ``a aᴴ`` of a wide one, and how many additions are behind an entry, one after the other."""
        if not self._in_pieces:
            return gram_of(self._xp, self._tall)
        total, count = 0.0, 0
        for piece in self._pieces():
            total, count = total + self._xp.matmul(adjoint(self._xp, piece), piece), count + 1
        return total, self._rows + count

    def _pieces(self) -> Iterator[Array]:
        length = self._tall.shape[-2]
        for start in range(0, length, self._rows):
            yield self._xp.astype(self._tall[:, start : min(start + self._rows, length), :], self._working)

    def _along_rows(self, x: Array) -> Array:
        """The taller one times `x`."""
        if not self._in_pieces:
            return lacking.matmul(self._xp, self._tall, x)
        return self._xp.concat([self._xp.matmul(piece, x) for piece in self._pieces()], axis=1)

    def _over_rows(self, r: Array) -> Array:
        """The adjoint of the taller one times `r`."""
        if not self._in_pieces:
            return lacking.matmul(self._xp, adjoint(self._xp, self._tall), r)
        total, start = 0.0, 0
        for piece in self._pieces():
            end = start + piece.shape[-2]
            total, start = total + self._xp.matmul(adjoint(self._xp, piece), r[:, start:end, :]), end
        return total


def gram_of(xp: Any, a: Array) -> tuple[Array, int]:
    """``aᴴ a``, for a tall ``a (B, M, N)``, and how many additions are behind each entry, one after the other."""
    count, m, n = a.shape
    rows = max(ROWS, 2 * n)
    pieces = m // rows
    if pieces < 2 or not lacking.adds_in_pieces(a):
        return lacking.matmul(xp, adjoint(xp, a), a), m
    whole = xp.reshape(a[:, : pieces * rows, :], (count, pieces, rows, n))
    total = xp.sum(xp.matmul(adjoint(xp, whole), whole), axis=1)
    if pieces * rows < m:
        rest = a[:, pieces * rows :, :]
        total = total + lacking.matmul(xp, adjoint(xp, rest), rest)
    return total, rows + pieces + 1
