"""Numbers times powers of two that leave the range of a dtype, and what an answer is to say there.

What is too large is to be inf. What is below the normal numbers may be anything between 0 and these, because a library
may take such numbers for zeros.
"""

from __future__ import annotations

import numpy as np

from lstsq_conformance.reference import NumpyArray, real_of


def scaled(array: NumpyArray, exponent: NumpyArray | int) -> NumpyArray:
    """``array * 2**exponent`` in double precision, also where the power alone is out of range; complex arrays too."""
    if np.iscomplexobj(array):
        return joined([scaled(part, exponent) for part in parts(array)])
    half = np.asarray(exponent) // 2
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return np.asarray(np.ldexp(np.ldexp(np.asarray(array, float), half), exponent - half))


def parts(array: NumpyArray) -> list[NumpyArray]:
    """The real and the imaginary part of a complex array, or the array."""
    return [array.real, array.imag] if np.iscomplexobj(array) else [array]


def joined(parts: list[NumpyArray]) -> NumpyArray:
    """The array of these parts. (By ``1j * inf`` the real part would become NaN.)"""
    if len(parts) == 1:
        return parts[0]
    whole = np.empty(np.broadcast_shapes(*(part.shape for part in parts)), complex)
    whole.real, whole.imag = parts
    return whole


def exponent_of(array: NumpyArray, axis: int | tuple[int, ...]) -> NumpyArray:
    """The power of two just above the largest number along these axes, which are kept; 0 for zeros."""
    largest = np.max([np.abs(part).max(axis=axis, keepdims=True, initial=0) for part in parts(array)], axis=0)
    return np.where(largest > 0, np.frexp(np.asarray(largest, float))[1], 0)


def brought_back(
    got: NumpyArray, truth: NumpyArray, powers: NumpyArray | int, slack: NumpyArray | float, dtype: str
) -> NumpyArray:
    """``got * 2**-powers``, and the truth wherever the dtype cannot hold ``truth * 2**powers`` and `got` says so.

    `slack` is how far `got` may be from the truth, in the size of the truth.
    """
    info = np.finfo(real_of(dtype))
    pairs = [(np.asarray(g, float), np.asarray(t, float)) for g, t in zip(parts(got), parts(truth))]
    # Of a complex number it is enough that one part is infinite: it then is, whatever the other says.
    infinite = np.any([np.isinf(g) & (scaled(t * np.sign(g) + slack, powers) > info.max) for g, t in pairs], axis=0)
    found = []
    for g, t in pairs:
        vanishes = scaled(np.maximum(np.abs(t) - slack, 0.0), powers) < info.tiny
        found.append(np.where(infinite | (vanishes & (np.abs(g) <= info.tiny)), t, scaled(g, -np.asarray(powers))))
    return joined(found)


def root_brought_back(
    got: NumpyArray, truth: NumpyArray, powers: NumpyArray | int, slack: NumpyArray, dtype: str
) -> NumpyArray:
    """The same for ``sqrt(got)``, where `got` is a sum of squares; NaN for what is not one."""
    info = np.finfo(real_of(dtype))
    got, powers = np.asarray(got, float), np.asarray(powers)
    low, high = (scaled(np.maximum(truth + side * slack, 0.0) ** 2, 2 * powers) for side in (-1, 1))
    excused = ((high > info.max) & np.isposinf(got)) | ((low < info.tiny) & (got >= 0) & (got <= info.tiny))
    with np.errstate(invalid="ignore"):
        return np.where(excused, truth, scaled(np.sqrt(got), -powers))
