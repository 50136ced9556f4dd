"""Drawing problems: many of one shape and dtype at a time, mixed in everything else."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lstsq_conformance.cases import gaussian
from lstsq_conformance.reference import NumpyArray, cutoff, eps_of, real_of

RCONDS = (None, None, None, 0.0, 1e-15, 5e-14, 1e-8, 1e-3, 0.1, 0.3, 0.5, 0.9, 1.0, 2.0, -1.0)
SPECTRA = ("even", "geometric", "clustered", "one small", "exact zero", "straddling", "equal", "gaussian", "integers")


@dataclass(frozen=True, eq=False)
class Group:
    """Problems of one shape, dtype and rcond: ``a (B, m, n)``, ``b (B, m, k)``."""

    a: NumpyArray
    b: NumpyArray
    rcond: float | None

    @property
    def dtype(self) -> str:
        """The name of the dtype."""
        return str(self.a.dtype)

    def __getitem__(self, index: slice) -> Group:
        """Some of the problems, still as a batch."""
        return Group(self.a[index], self.b[index], self.rcond)


def draw(rng: np.random.Generator, dtype: str, size: int) -> Group:
    """Up to so many problems of one random shape."""
    m, n, k = _shape(rng)
    # Few of those whose decomposition takes long. The largest are judged in double precision.
    size = min(size, max(12, 40_000 // (m * n)) if not 20 <= min(m, n) <= 48 else max(1, 10_000 // (m * n)))
    rcond = RCONDS[rng.integers(len(RCONDS))]
    relative = cutoff(rcond, dtype, m, n)
    complex_ = dtype.startswith("complex")
    a = _matrices(rng, complex_, size, m, n, relative, dtype)
    b = _right_sides(rng, complex_, a, k)
    powers_a, powers_b = _powers(rng, dtype, size, m, n, k)
    a, b = (_stored(array, powers, dtype) for array, powers in ((a, powers_a), (b, powers_b)))
    if rng.random() < 0.1:
        a = np.repeat(a[:1], size, axis=0)
    _spoil(rng, a, 0.01)
    _spoil(rng, b, 0.03)
    return Group(a, b, rcond)


def _shape(rng: np.random.Generator) -> tuple[int, int, int]:
    k = int(rng.choice([1, 1, 2, 3, 8]))
    kind = rng.random()
    if kind < 0.1:
        m, n = rng.integers(60, 131, 2)
    elif kind < 0.15:
        m, n = rng.integers(20, 61, 2)
    elif kind < 0.17:
        # Long and narrow.
        m, n = rng.integers(50, 400), rng.integers(1, 6)
    else:
        m, n = rng.integers(1, 13, 2)
    if rng.random() < (0.5 if kind < 0.1 else 0.25):
        n = m = min(m, n) if max(m, n) > 130 else m
    if rng.random() < 0.5:
        m, n = n, m
    return int(m), int(n), k


def _matrices(
    rng: np.random.Generator, complex_: bool, size: int, m: int, n: int, relative: float, dtype: str
) -> NumpyArray:
    p = min(m, n)
    kinds = rng.integers(len(SPECTRA), size=size)
    s = np.stack([_spectrum(rng, SPECTRA[kind], p, relative, max(m, n), dtype) for kind in kinds])
    u = np.linalg.qr(gaussian(rng, complex_, size, m, p))[0]
    v = np.linalg.qr(gaussian(rng, complex_, size, n, p))[0]
    a = (u * s[:, None, :]) @ np.conj(np.swapaxes(v, -1, -2))
    for i, kind in enumerate(kinds):
        if SPECTRA[kind] == "gaussian":
            a[i] = gaussian(rng, complex_, m, n)
        elif SPECTRA[kind] == "integers":
            rank = int(rng.integers(0, p + 1))
            a[i] = rng.integers(-3, 4, (m, rank)) @ rng.integers(-3, 4, (rank, n))
    return np.asarray(a)


def _spectrum(rng: np.random.Generator, kind: str, p: int, relative: float, size: int, dtype: str) -> NumpyArray:
    decades = rng.uniform(0, 16 if real_of(dtype) == "float64" else 8)
    s = np.geomspace(1, 10**-decades, p) if p > 1 else np.ones(1)
    if kind == "even":
        s = np.linspace(1, rng.uniform(0.01, 1), p)
    elif kind == "clustered":
        s = 10.0 ** -rng.choice([0, 1e-9, decades / 2, decades], p)
    elif kind == "one small":
        s = np.r_[np.ones(p - 1), 10**-decades] if p > 1 else s
    elif kind == "exact zero":
        s = s * (np.arange(p) < rng.integers(0, p + 1))
    elif kind == "equal":
        s = np.ones(p)
    elif kind == "straddling" and p > 1 and relative < 0.9:
        # As narrow as can still be told apart, or wider.
        narrow = 20 * eps_of("float64") if real_of(dtype) == "float64" else 20 * eps_of(dtype)
        gap = 10 ** rng.uniform(math.log10(narrow), math.log10(max(narrow, relative, 1e-3)))
        middle = max(relative, 1.2 * gap)
        above = int(rng.integers(1, p))
        high, low = np.geomspace(1, middle + gap, above), np.geomspace(middle - gap, middle * 1e-3, p - above)
        s = np.r_[high, low] if above > 1 else np.r_[1.0, low]
    return np.sort(np.asarray(s))[::-1]


def _right_sides(rng: np.random.Generator, complex_: bool, a: NumpyArray, k: int) -> NumpyArray:
    size, m, n = a.shape
    inside = a @ gaussian(rng, complex_, size, n, k)
    outside = gaussian(rng, complex_, size, m, k)
    # In the range of A, anything, nearly in the range, nothing.
    kind = rng.integers(0, 8, (size, 1, k))
    b = np.where(kind < 3, inside, np.where(kind < 6, outside, inside + 1e-6 * outside))
    return np.where(rng.random((size, 1, k)) < 0.03, 0.0, b)


def _powers(rng: np.random.Generator, dtype: str, size: int, m: int, n: int, k: int) -> tuple[NumpyArray, NumpyArray]:
    """Powers of two for A, as a whole and for rows and columns of it, and for b and each right-hand side."""
    far = 1000 if real_of(dtype) == "float64" else 140
    whole = _some(rng, 0.5, (size, 1, 1), far)
    columns = _some(rng, 0.1, (size, 1, 1), far) * rng.integers(0, 2, (size, 1, n))
    columns = columns + _some(rng, 0.15, (size, 1, n), 30) * (rng.random((size, 1, 1)) < 0.3)
    rows = _some(rng, 0.05, (size, 1, 1), far) * rng.integers(0, 2, (size, m, 1))
    rows = rows + _some(rng, 0.15, (size, m, 1), 30) * (rng.random((size, 1, 1)) < 0.3)
    # Rows of A and of b belong together.
    return whole + columns + rows, rows + _some(rng, 0.5, (size, 1, 1), far) + _some(rng, 0.3, (size, 1, k), far)


def _some(rng: np.random.Generator, share: float, shape: tuple[int, ...], far: int) -> NumpyArray:
    return np.where(rng.random(shape) < share, rng.integers(-far, far + 1, shape), 0)


def _stored(array: NumpyArray, powers: NumpyArray, dtype: str) -> NumpyArray:
    """``array * 2**powers`` in the dtype, the largest entry of each problem brought back into its range."""
    info = np.finfo(real_of(dtype))
    parts = (array.real, array.imag) if np.iscomplexobj(array) else (array,)
    exponents = np.max([np.frexp(part)[1] + np.where(part == 0, -5000, powers) for part in parts], axis=0)
    largest = exponents.max(axis=(-2, -1), keepdims=True)
    # The arithmetic is in double: in single precision the numbers without all their digits are as good as any.
    lowest = info.minexp - info.nmant if info.bits == 32 else info.minexp + 2
    shift = np.clip(largest, lowest, info.maxexp) - largest
    powers = np.where(largest > -4000, powers + shift, powers)
    with np.errstate(under="ignore"):
        scaled = [np.ldexp(part, powers) for part in parts]
        return np.asarray(scaled[0] + 1j * scaled[1] if len(scaled) > 1 else scaled[0]).astype(dtype)


def _spoil(rng: np.random.Generator, array: NumpyArray, share: float) -> None:
    for i in np.flatnonzero(rng.random(len(array)) < share):
        row, column = rng.integers(array.shape[1]), rng.integers(array.shape[2])
        array[i, row, column] = rng.choice([np.nan, np.inf, -np.inf])
