"""A batch of matrices for products in double precision.

On a processor a long matrix of single precision is converted piece by piece, each while it is in the cache: written out
in double precision it would be read from memory several times, at twice the length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from lstsq._arithmetic import adjoint, device
from lstsq._backend import Array
from lstsq_array_api import _lacking as lacking

#: Rows of a long matrix whose products are summed at once: the longest sum is then that of these, or of the pieces.
ROWS = 1024
#: Numbers that are converted at once: measured on two cores with 0.5 to 1 MB of cache each, and 32 MB for both.
NUMBERS = 1 << 18
#: Columns of a block of a Gram matrix at least.
BLOCK = 64


class Matrix:
    """Matrices ``a (B, M, N)`` of any precision, whose products are computed in the precision `working`."""

    def __init__(self, xp: Any, a: Array, working: Any, convert: Callable[[Array], Array] | None = None) -> None:
        self.shape = tuple(a.shape)
        self.single = working != a.dtype
        self._xp, self.working = xp, working
        self.is_wide = a.shape[-2] < a.shape[-1]
        tall = adjoint(xp, a) if self.is_wide else a
        length, n = tall.shape[-2:]
        self._rows = max(64, NUMBERS // n)
        self._in_pieces = self.single and a.shape[0] == 1 and length >= 4 * self._rows and lacking.is_on_cpu(a)
        self._convert = convert or lacking.converter(xp, working)
        self._given, self._converted = tall, None

    def given(self) -> Array:
        """The matrices in the precision that they have."""
        return adjoint(self._xp, self._given) if self.is_wide else self._given

    def whole(self) -> Array:
        """The matrices in the working precision."""
        tall = self.tall()
        return adjoint(self._xp, tall) if self.is_wide else tall

    def tall(self) -> Array:
        """The matrices, or their adjoints where these are taller, in the working precision."""
        if not self.single:
            return self._given
        if self._in_pieces:
            return self._xp.astype(self._given, self.working)
        if self._converted is None:
            self._converted = self._convert(self._given)
        return self._converted

    def times(self, x: Array) -> Array:
        """``a @ x``."""
        return self._over_rows(x) if self.is_wide else self._along_rows(x)

    def adjoint_times(self, r: Array) -> Array:
        """``aᴴ @ r``."""
        return self._along_rows(r) if self.is_wide else self._over_rows(r)

    def adjoint_times_in_single(self, r: Array) -> Array:
        """``aᴴ @ r`` of tall matrices of single precision, with its rounding errors."""
        product = lacking.matmul(self._xp, adjoint(self._xp, self._given), self._xp.astype(r, self._given.dtype))
        return self._xp.astype(product, self.working)

    def residual(self, b: Array, x: Array) -> Array:
        """``b - a @ x``."""
        if self._in_pieces:
            return b - self.times(x)
        return lacking.minus_product(self._xp, b, self.whole(), x)

    def gram(self) -> tuple[Array, int]:
        """``aᴴ a``, or ``a aᴴ`` of a wide one, and how many additions are behind an entry, one after the other."""
        if not self._in_pieces:
            return gram_of(self._xp, self.tall())
        total, count = 0.0, 0
        rows = self._rows_of_sum()
        for piece in self._pieces(rows):
            total, count = total + gram_of(self._xp, piece)[0], count + 1
        return total, rows + count

    def lower_gram(self, in_single: bool) -> Array:
        """``aᴴ a`` of tall matrices, its blocks on and below the diagonal, and zeros; or that in single precision."""
        xp, n = self._xp, self.shape[-1]
        width = max(BLOCK, -(-n // 4))
        if in_single:
            pieces: Iterable[Array] = [self._given]
        else:
            pieces = self._pieces(self._rows_of_sum()) if self._in_pieces else [self.tall()]
        sums: list[Any] = [0.0] * len(range(0, n, width))
        for piece in pieces:
            for i in range(len(sums)):
                end = min((i + 1) * width, n)
                block = xp.matmul(adjoint(xp, piece[:, :, i * width : end]), piece[:, :, :end])
                sums[i] = sums[i] + block
        rows = []
        for block in sums:
            above = xp.zeros(
                (block.shape[0], block.shape[1], n - block.shape[2]), dtype=block.dtype, device=device(block)
            )
            rows.append(xp.concat([block, above], axis=2))
        return xp.concat(rows, axis=1)

    def norm(self) -> Array:
        """The Frobenius norms ``(B, 1)``."""
        xp = self._xp
        if not self._in_pieces:
            return xp.linalg.vector_norm(self.tall(), axis=(-2, -1))[:, None]
        parts = [xp.linalg.vector_norm(piece, axis=(-2, -1))[:, None] for piece in self._pieces(self._rows)]
        return xp.linalg.vector_norm(xp.concat(parts, axis=1), axis=1, keepdims=True)

    def normal_equations(self, b: Array) -> tuple[Array, Array, int, int]:
        """Of tall matrices ``aᴴ a`` and ``aᴴ b``, in one pass, and how many additions are behind an entry of each."""
        if not self._in_pieces:
            gram, additions = self.gram()
            return gram, self.adjoint_times(b), additions, self.shape[-2]
        gram = cross = 0.0
        start, rows = 0, self._rows_of_sum()
        for piece in self._pieces(rows):
            end = start + piece.shape[-2]
            gram = gram + gram_of(self._xp, piece)[0]
            cross = cross + lacking.matmul(self._xp, adjoint(self._xp, piece), b[:, start:end, :])
            start = end
        additions = rows + self.shape[-2] // rows + 1
        return gram, cross, additions, additions

    def _rows_of_sum(self) -> int:
        # To add up two Gram matrices is then little work beside the product.
        rows: int = max(self._rows, self._given.shape[-1])
        return rows

    def _rows_for(self, right: Array) -> int:
        # A product with many right-hand sides wants more rows at once to be quick.
        rows: int = max(self._rows, 5 * right.shape[-1])
        return rows

    def _pieces(self, rows: int) -> Iterator[Array]:
        length = self._given.shape[-2]
        for start in range(0, length, rows):
            yield self._convert(self._given[:, start : min(start + rows, length), :])

    def _along_rows(self, x: Array) -> Array:
        """The taller one times `x`."""
        if not self._in_pieces:
            return lacking.matmul(self._xp, self.tall(), x)
        pieces = self._pieces(self._rows_for(x))
        return self._xp.concat([lacking.matmul(self._xp, piece, x) for piece in pieces], axis=1)

    def _over_rows(self, r: Array) -> Array:
        """The adjoint of the taller one times `r`."""
        if not self._in_pieces:
            return lacking.matmul(self._xp, adjoint(self._xp, self.tall()), r)
        total, start = 0.0, 0
        for piece in self._pieces(self._rows_for(r)):
            end = start + piece.shape[-2]
            total, start = total + lacking.matmul(self._xp, adjoint(self._xp, piece), r[:, start:end, :]), end
        return total


def gram_of(xp: Any, a: Array) -> tuple[Array, int]:
    """``aᴴ a``, for a tall ``a (B, M, N)``, and how many additions are behind each entry, one after the other.

    The product of a long matrix is a sum of those of its pieces, which is more exact, and up to twice as fast.
    """
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
