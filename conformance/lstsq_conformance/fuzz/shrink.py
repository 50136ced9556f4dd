"""Making what failed small: fewer rows, columns and right-hand sides, ordinary scale, plain numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from lstsq_conformance.fuzz.problems import Group
from lstsq_conformance.reference import NumpyArray

Fails = Callable[[Group], bool]


def shrink(group: Group, fails: Fails, entries: int = 400_000) -> Group:
    """A smaller group that still fails, tried on matrices of at most so many entries in all."""
    smaller = True
    while smaller:
        smaller = False
        for candidate in _candidates(group):
            if not _finite_alike(group, candidate):
                continue
            entries -= candidate.a.size
            if entries < 0:
                return group
            if fails(candidate):
                group, smaller = candidate, True
                break
    return group


def _finite_alike(group: Group, candidate: Group) -> bool:
    """Whether the candidate is made of finite numbers where the group is: to round may overflow."""
    return all(
        np.isfinite(new).all() or not np.isfinite(old).all()
        for old, new in ((group.a, candidate.a), (group.b, candidate.b))
    )


def _candidates(group: Group) -> Iterator[Group]:
    """Each simplification, the largest first."""
    a, b, rcond = group.a, group.b, group.rcond
    for axis, arrays in ((0, "ab"), (-1, "b"), (-2, "ab"), (-1, "a")):
        length = (b if arrays == "b" else a).shape[axis]
        for taken in _pieces(length):
            keep = np.setdiff1d(np.arange(length), taken)
            yield Group(
                np.take(a, keep, axis) if "a" in arrays else a, np.take(b, keep, axis) if "b" in arrays else b, rcond
            )
    for axes, of in (((-2, -1), "a"), ((-2, -1), "b"), ((-2,), "b"), ((-2,), "a"), ((-1,), "a")):
        array = a if of == "a" else b
        ordinary = _at_ordinary_scale(array, axes)
        if not _same(ordinary, array):
            yield Group(ordinary, b, rcond) if of == "a" else Group(a, ordinary, rcond)
    for bits in (1, 3, 8, 16):
        for of in "ab":
            array = a if of == "a" else b
            plain = _rounded(array, bits)
            if not _same(plain, array):
                yield Group(plain, b, rcond) if of == "a" else Group(a, plain, rcond)
    for of in "ab":
        array = a if of == "a" else b
        if array.size <= 40:
            for i in np.ndindex(array.shape):
                if array[i] not in (0, 1):
                    for value in (0, 1):
                        changed = array.copy()
                        changed[i] = value
                        yield Group(changed, b, rcond) if of == "a" else Group(a, changed, rcond)


def _pieces(length: int) -> Iterator[NumpyArray]:
    """What might be left out: halves, quarters, and so on to single ones."""
    size = length // 2
    while size:
        for start in range(0, length, size):
            if size < length:
                yield np.arange(start, min(start + size, length))
        size //= 2


def _at_ordinary_scale(array: NumpyArray, axes: tuple[int, ...]) -> NumpyArray:
    finite = np.where(np.isfinite(array), array, 0)
    largest = np.abs(finite).max(axis=axes, keepdims=True).astype(float)
    exponent = np.where(largest > 0, np.frexp(largest)[1] - 1, 0)
    with np.errstate(all="ignore"):
        parts = [np.ldexp(np.asarray(part, float), -exponent) for part in (array.real, array.imag)]
        return np.asarray(parts[0] + 1j * parts[1] if np.iscomplexobj(array) else parts[0]).astype(array.dtype)


def _rounded(array: NumpyArray, bits: int) -> NumpyArray:
    """So many bits of each number."""

    def one(part: NumpyArray) -> NumpyArray:
        fraction, exponent = np.frexp(np.asarray(part, float))
        return np.asarray(np.ldexp(np.round(fraction * 2.0**bits) / 2.0**bits, exponent))

    with np.errstate(all="ignore"):
        whole = one(array.real) + 1j * one(array.imag) if np.iscomplexobj(array) else one(array)
        return whole.astype(array.dtype)


def _same(p: NumpyArray, q: NumpyArray) -> bool:
    return np.array_equal(p, q, equal_nan=True)
