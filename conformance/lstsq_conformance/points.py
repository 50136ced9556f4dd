"""Where derivatives are checked, and what they are there: central differences of the NumPy reference in double.

A point fixes A, b, the caller's rcond and the rank. The reference keeps exactly that many singular values, so it is
smooth around the point even where A is exactly deficient: this is the derivative at constant rank.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lstsq_conformance import reference
from lstsq_conformance.cases import gaussian, with_spectrum
from lstsq_conformance.ratios import LIMIT
from lstsq_conformance.reference import NumpyArray, eps_of, solve_at_rank
from lstsq_conformance.target import Array, Target

OUTPUTS = ("x", "residuals", "s")
ARGUMENTS = ("a", "b")
#: Steps of the central differences of the first and second derivatives: rounding 1e-12 and 1e-10, truncation below.
_STEP = 1e-4
#: Singular values bend most, by the inverse of the smallest that is weighted.
_SECOND_STEP = {"x": 1e-3, "residuals": 1e-3, "s": 6e-4}


@dataclass(frozen=True, eq=False)
class Point:
    """One place where derivatives are wanted."""

    name: str
    a: NumpyArray
    b: NumpyArray
    rank: int
    rcond: float | None = None

    @functools.cached_property
    def weights(self) -> dict[str, NumpyArray]:
        """The weights that make a number of each output: random for x and residuals, symmetric for s.

        Single singular values have no derivative where they are equal, nor at zero; what is symmetric in the equal
        ones, and does not look at those that are close to zero, has one.
        """
        rng = np.random.default_rng(zlib.crc32(self.name.encode()))
        truth = solve_at_rank(self.a, self.b, self.rank)
        s = truth.s
        cluster = np.cumsum(np.r_[True, np.abs(np.diff(s)) > 1e-6 * s[0]]) if s[0] > 0 else np.ones(len(s), int)
        weights: dict[str, NumpyArray] = {
            "x": gaussian(rng, np.iscomplexobj(self.a), *truth.x.shape),
            "residuals": gaussian(rng, False, *truth.residuals.shape),
            "s": np.where(s > 1e-2 * s[0], 1.0 + 0.5 * cluster, 0.0),
        }
        return weights

    @property
    def size(self) -> float:
        """The largest singular value, or 1 for a zero matrix: what the steps are relative to."""
        return float(np.linalg.norm(self.a, 2)) or 1.0

    def value(self, output: str, a: NumpyArray, b: NumpyArray) -> NumpyArray:
        """The reference's weighted output, for stacks of A or of b."""
        found = getattr(solve_at_rank(a, b, self.rank), output)
        weights = self.weights[output]
        return np.asarray(np.sum((np.conj(weights) * found).real, axis=tuple(range(-weights.ndim, 0))))

    def gradient(self, output: str, argument: str) -> NumpyArray:
        """The derivative of `value` with respect to A or b."""
        return reference.gradient(self._along(output, argument), getattr(self, argument), _STEP * self.size)

    def second(self, output: str, argument: str, direction: NumpyArray) -> NumpyArray:
        """The derivative of ``<direction, gradient>`` with respect to the same argument."""
        f, h = self._along(output, argument), _SECOND_STEP[output] * self.size
        # The steps are for a direction of length 1: along a longer one they would reach too far.
        length = float(np.linalg.norm(direction))

        def slope(at: NumpyArray) -> NumpyArray:
            return reference.directional(f, at, np.broadcast_to(direction / length, at.shape), h)

        return length * reference.gradient(slope, getattr(self, argument), h)

    def _along(self, output: str, argument: str) -> Callable[[NumpyArray], NumpyArray]:
        if argument == "a":
            return lambda a: self.value(output, a, self.b)
        return lambda b: self.value(output, np.broadcast_to(self.a, (*b.shape[:-2], *self.a.shape)), b)

    def tolerance(self, output: str, argument: str, dtype: str, order: int = 1) -> float:
        """What rounding A by 30 units may do to the derivative, and the error of the central differences.

        Each derivative costs a factor 1 / gap, rounding costs one more.
        """
        truth = solve_at_rank(self.a, self.b, self.rank)
        top = truth.s[0] if self.rank else 1.0
        smallest = truth.s[self.rank - 1] if self.rank else 1.0
        gap = smallest - (truth.s[self.rank] if self.rank < len(truth.s) else 0.0) if self.rank else 1.0
        if output == "s":
            # These bend by how near they are to zero and, where their weights differ, to each other.
            counted = truth.s[self.weights["s"] > 0]
            apart = -np.diff(counted)
            gap = min([*apart[apart > 1e-6 * top], *counted, top])
        x, r, b = np.linalg.norm(truth.x), np.sqrt(truth.residuals.sum()), np.linalg.norm(self.b)
        sensitivity = {
            ("x", "a"): x / gap + r / (gap * smallest),
            ("x", "b"): 1 / smallest,
            ("residuals", "a"): b * (x + b / gap),
            ("residuals", "b"): b,
            ("s", "a"): 1.0,
            ("s", "b"): 1.0,
        }[output, argument]
        scale = float(np.linalg.norm(self.weights[output]) * sensitivity) / gap ** (order - 1)
        return scale * float(LIMIT * max(self.a.shape) * eps_of(dtype) * top / gap + (1e-10 if order == 1 else 3e-8))


def _made(name: str, m: int, n: int, s: list[float], rank: int, rcond: float | None = None) -> tuple[Any, ...]:
    return name, m, n, s, rank, rcond


_MADE = [
    _made(f"{kind} {m}x{n}", m, n, s, rank, rcond)
    for kind, s, rank, rcond in (
        ("full rank", [1, 0.6, 0.3], 3, None),
        ("deficient", [1, 0.6], 2, None),
        ("truncated", [1, 0.5, 0.02], 2, 0.1),
        ("equal", [1, 1, 0.5], 3, None),
    )
    for m, n in ((5, 3), (3, 3), (3, 5))
] + [
    _made("all equal 3x3", 3, 3, [1, 1, 1], 3),
    _made("equal and truncated 5x3", 5, 3, [1, 1, 0.02], 2, 0.1),
    _made("truncated and equal 5x3", 5, 3, [1, 0.02, 0.02], 1, 0.1),
    _made("deficient, truncated 5x5", 5, 5, [1, 0.5, 0.02, 0.01], 2, 0.1),
    _made("one of 1e-3 truncated 5x3", 5, 3, [1, 0.5, 1e-3], 2, 1e-2),
    _made("three equal 5x4", 5, 4, [1, 1, 1, 0.5], 4),
    _made("rank one 3x5", 3, 5, [1], 1),
]

_NINE = np.arange(1.0, 10).reshape(3, 3)
_ONES = np.ones((5, 1))
#: The points with a derivative of sum(x) that can be written down.
WRITTEN = {
    "identity 3x3": (np.eye(3), _ONES[:3], 3, -np.ones((3, 3))),
    "identity 5x3": (np.eye(5)[:, :3], _ONES, 3, np.r_[-np.ones((3, 3)), np.ones((2, 3))]),
    "zeros 3x2": (np.zeros((3, 2)), _ONES[:3], 0, np.zeros((3, 2))),
    "1 to 9": (_NINE, _ONES[:3], 2, np.array([[-1.0, 0, 1], [0, 0, 0], [1, 0, -1]]) / 12),
}

NAMES = (*(name for name, *_ in _MADE), *WRITTEN)
#: Second derivatives are asked for at few shapes, because a compiling library takes long over each.
TWICE = tuple(name for name in NAMES if name.endswith(("5x3", "3x3", "3x5", "1 to 9")))
#: Each kind, tall and wide; two shapes, for the same reason.
QUICK = ("full rank 5x3", "deficient 5x3", "truncated 5x3", "equal 5x3", "deficient 3x5", "truncated 3x5")
#: For what follows from the gradients, which are asked for everywhere.
SOME = (*QUICK, "deficient 3x3", "equal 3x3")


@functools.cache
def point(name: str, dtype: str) -> Point:
    """The point of this name, with entries that this dtype holds exactly."""
    complex_ = dtype.startswith("complex")
    if name in WRITTEN:
        a, b, rank, _ = WRITTEN[name]
        b = np.concatenate([b, 2 * b], axis=1)
        a, b = (_rounded(array + 0j if complex_ else array, dtype) for array in (a, b))
        return Point(name, a, b, rank)
    _, m, n, s, rank, rcond = next(made for made in _MADE if made[0] == name)
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    a, b = with_spectrum(rng, complex_, m, n, np.array(s)), gaussian(rng, complex_, m, 2)
    return Point(name, _rounded(a, dtype), _rounded(b, dtype), rank, rcond)


def _rounded(array: NumpyArray, dtype: str) -> NumpyArray:
    return array.astype(dtype).astype(np.result_type(dtype, np.float64))


def functional(target: Target, point: Point, output: str, dtype: str, driver: str) -> Callable[[Array, Array], Array]:
    """`Point.value` in the library's own terms, by `lstsq`."""
    xp, weights = target.xp, point.weights[output].astype(dtype if output == "x" else np.finfo(dtype).dtype)

    def value(a: Array, b: Array) -> Array:
        found = getattr(target.lstsq(a, b, point.rcond, driver), output)
        if np.iscomplexobj(weights):
            real, imaginary = target.array(weights.real.copy()), target.array(weights.imag.copy())
            return xp.sum(real * xp.real(found) + imaginary * xp.imag(found))
        return xp.sum(target.array(weights) * found)

    return value


@functools.cache
def conjugates(target: Target, dtype: str) -> bool:
    """Whether the library's gradient for a complex number is d/dRe - i d/dIm (as JAX's) and not d/dRe + i d/dIm."""
    if not dtype.startswith("complex"):
        return False
    xp = target.xp
    found = target.numpy(target.transform("grad")(lambda z: xp.sum(xp.imag(z)))(target.array(np.ones(1, dtype))))
    return bool(found[0].imag < 0)
