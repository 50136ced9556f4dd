"""Numbers of twice the precision: pairs of doubles, and sums, products, quotients, roots and matrix products of them.

A pair ``(high, low)`` stands for the sum of its parts, `low` being at most half a spacing of `high`: 106 bits. This is
done by hand because `numpy.longdouble` is no wider than double on half of the platforms.

References
----------
T. J. Dekker, "A floating-point technique for extending the available precision", Numer. Math. 18 (1971).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lstsq_conformance.reference import NumpyArray, two_product, two_sum


@dataclass(frozen=True, eq=False)
class Pair:
    """An array of such numbers."""

    high: NumpyArray
    low: NumpyArray

    def __getitem__(self, index: Any) -> Pair:
        """The numbers at these places."""
        return Pair(self.high[index], self.low[index])

    def __setitem__(self, index: Any, values: Pair) -> None:
        """Put other numbers there."""
        self.high[index], self.low[index] = values.high, values.low

    def each(self, function: Callable[[NumpyArray], NumpyArray]) -> Pair:
        """The same done to both parts, which must not change numbers: to move, repeat, take or set them to 0."""
        return Pair(function(self.high), function(self.low))


def pair(array: NumpyArray | float) -> Pair:
    """The same numbers as pairs."""
    high = np.asarray(array, float)
    return Pair(high, np.zeros_like(high))


def concatenated(pairs: Sequence[Pair], axis: int) -> Pair:
    """Several arrays as one."""
    return Pair(*(np.concatenate(parts, axis) for parts in ([p.high for p in pairs], [p.low for p in pairs])))


def add(p: Pair, q: Pair) -> Pair:
    """``p + q``."""
    total, error = two_sum(p.high, q.high)
    return _normalised(total, error + (p.low + q.low))


def subtract(p: Pair, q: Pair) -> Pair:
    """``p - q``."""
    return add(p, q.each(np.negative))


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
        folded = add(p[..., :half], p[..., half : 2 * half])
        p = concatenated([folded, p[..., 2 * half :]], -1)
    return p[..., 0]


def sum_of_squares(p: Pair) -> Pair:
    """The sum of squares over the last axis."""
    return total(multiply(p, p))


def product(p: Pair, q: Pair) -> Pair:
    """The product of two stacks of matrices."""
    result = multiply(p[..., :, 0, None], q[..., 0, None, :])
    for i in range(1, p.high.shape[-1]):
        result = add(result, multiply(p[..., :, i, None], q[..., i, None, :]))
    return result


def transpose(p: Pair) -> Pair:
    """The transposes of a stack of matrices."""
    return p.each(lambda part: np.swapaxes(part, -1, -2))


def _normalised(high: NumpyArray, low: NumpyArray) -> Pair:
    rounded = high + low
    return Pair(rounded, low - (rounded - high))
