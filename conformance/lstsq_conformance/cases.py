"""The registry of problems: each has a name, tags that say what it is for, and a recipe that gives it in any dtype.

Everything is drawn from generators seeded with the case's own name, so a case is the same problem in every process, and
the same up to rounding in every dtype.

>>> [case.name for case in select("tie") if "wide" in case.name]
['tie/wide 2x3', 'tie/wide batch of a tie']
>>> problem = find("full rank/5x3").build("float32")
>>> problem.a.shape, problem.b.shape, problem.rank
((5, 3), (5, 4), 3)
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from lstsq_conformance import reference_extended
from lstsq_conformance.ranges import exponent_of, parts, scaled
from lstsq_conformance.reference import NumpyArray, Truth, cutoff, solve
from lstsq_conformance.reference_extended import ExactTruth

DTYPES = ("float32", "float64", "complex64", "complex128")

#: What each tag says that a case is for.
TAGS = {
    "quick": "part of the quick selection",
    "ratios": "judged by the scale-free ratios",
    "full rank": "every singular value counts",
    "deficient": "rank below min(M, N), exactly so in every dtype, because the factors are small integers",
    "graded": "singular values over many orders of magnitude",
    "condition": "a sweep of condition numbers, up to where the dtype of the operands ends",
    "clustered": "singular values that are equal or all but equal",
    "near overflow": "entries so large that their squares overflow",
    "near underflow": "entries so small that their squares underflow",
    "equilibrium": "rows of very different size",
    "default cutoff": "the rank depends on what rcond=None stands for",
    "named cutoff": "the rank depends on the caller's rcond",
    "tie": "a singular value that equals the cutoff exactly, and so counts as zero",
    "arithmetic": "condition 1e5, where single precision arithmetic is wrong by per cents and double by nothing",
    "scaled": "A, rows and columns of it, and each right-hand side at scales of their own, to the ends of the range",
    "subnormal": "entries below the normal numbers: not for libraries that take these for zeros",
    "straddled": "the cutoff between two singular values that are close: judged in extended precision",
    "answer": "a known exact solution",
    "large": "too large for the oracle: judged by its known answer alone",
}


@dataclass(frozen=True, eq=False)
class Problem:
    """One least-squares problem in one dtype, with what is known about it."""

    a: NumpyArray
    b: NumpyArray
    rcond: float | None
    #: The rank that it has by construction; None where only the oracle says.
    rank: int | None
    #: How many of the first right-hand sides lie in the range of A, up to rounding.
    consistent: int = 0
    #: The exact solution.
    answer: NumpyArray | None = None

    @property
    def dtype(self) -> str:
        """The name of the dtype of A and B."""
        return str(self.a.dtype)

    @functools.cached_property
    def exponent(self) -> int:
        """A is 2**exponent times a matrix of ordinary size."""
        return int(exponent_of(self.a, (-2, -1))[0, 0])

    @functools.cached_property
    def exponents(self) -> NumpyArray:
        """The same for each right-hand side."""
        return np.asarray(exponent_of(self.b, -2)[0])

    @property
    def powers(self) -> NumpyArray:
        """The same for each column of x."""
        return self.exponents - self.exponent

    @functools.cached_property
    def base(self) -> tuple[NumpyArray, NumpyArray]:
        """A and B in double precision, brought to ordinary size without rounding."""
        return scaled(self.a, -self.exponent), scaled(self.b, -self.exponents)

    @functools.cached_property
    def truth(self) -> Truth:
        """The oracle's answer for `base`: x is `powers` of two smaller or larger than that for A and B, and so on."""
        a, b = self.base
        return solve(a, b, cutoff(self.rcond, self.dtype, *self.a.shape))

    @functools.cached_property
    def exact(self) -> ExactTruth:
        """The same in extended precision."""
        a, b = self.base
        return reference_extended.solve(a, b, cutoff(self.rcond, self.dtype, *self.a.shape))


@dataclass(frozen=True)
class Case:
    """A named, tagged recipe for a problem."""

    name: str
    tags: frozenset[str]
    recipe: Callable[[np.random.Generator, bool], Problem]
    dtypes: tuple[str, ...] = DTYPES

    def build(self, dtype: str) -> Problem:
        """The problem in this dtype; the same object each time, not to be written to."""
        # The large ones are too large to keep.
        return _build.__wrapped__(self, dtype) if "large" in self.tags else _build(self, dtype)


@functools.lru_cache(maxsize=2048)
def _build(case: Case, dtype: str) -> Problem:
    rng = np.random.default_rng(zlib.crc32(case.name.encode()))
    p = case.recipe(rng, dtype.startswith("complex"))
    with np.errstate(under="ignore"):
        return dataclasses.replace(p, a=p.a.astype(dtype), b=p.b.astype(dtype))


def select(*tags: str, quick: bool = False) -> list[Case]:
    """The cases that carry all of these tags; with `quick`, only those of the quick selection."""
    unknown = set(tags) - set(TAGS)
    if unknown:
        raise ValueError(f"unknown tags {sorted(unknown)}; expected some of {sorted(TAGS)}")
    wanted = {*tags, "quick"} if quick else set(tags)
    return [case for case in _registry().values() if wanted <= case.tags]


def find(name: str) -> Case:
    """The case of this name."""
    return _registry()[name]


# Ingredients: real or complex random matrices of known structure, in double precision.


def gaussian(rng: np.random.Generator, complex_: bool, *shape: int) -> NumpyArray:
    """Independent standard normal entries."""
    real, imaginary = rng.standard_normal((2, *shape))
    return real + 1j * imaginary if complex_ else np.asarray(real)


def orthonormal(rng: np.random.Generator, complex_: bool, m: int, n: int) -> NumpyArray:
    """A random (m, n) matrix with orthonormal columns, n <= m."""
    return np.asarray(np.linalg.qr(gaussian(rng, complex_, m, n))[0])


def with_spectrum(rng: np.random.Generator, complex_: bool, m: int, n: int, s: NumpyArray) -> NumpyArray:
    """A random (m, n) matrix with these singular values, at most min(m, n) of them."""
    u, v = orthonormal(rng, complex_, m, len(s)), orthonormal(rng, complex_, n, len(s))
    return np.asarray((u * s) @ v.conj().T)


def integer_product(rng: np.random.Generator, complex_: bool, m: int, n: int, rank: int) -> NumpyArray:
    """A matrix of exactly this rank, and well away from less, whose entries are exact in every dtype."""
    if rank == 0:
        return np.zeros((m, n), complex if complex_ else float)
    while True:
        parts = rng.integers(-3, 4, (2, m, rank)), rng.integers(-3, 4, (2, rank, n))
        left, right = ((p[0] + 1j * p[1] if complex_ else p[0].astype(float)) for p in parts)
        product: NumpyArray = left @ right
        s = np.linalg.svd(product, compute_uv=False)
        if s[rank - 1] > 2e-3 * s[0]:
            return product


def right_sides(rng: np.random.Generator, complex_: bool, a: NumpyArray) -> tuple[NumpyArray, int]:
    """Four right-hand sides, consistent and zero ones first, and how many are consistent if not all are."""
    m, n = a.shape
    inconsistent = gaussian(rng, complex_, m, 2)
    return np.concatenate([a @ gaussian(rng, complex_, n, 1), np.zeros((m, 1)), inconsistent], axis=1), 2


# Recipes. Each returns a problem in double precision; `_build` rounds it.


def full_rank(m: int, n: int, exponent: int = 0) -> Callable[[np.random.Generator, bool], Problem]:
    """Condition 10, the rest chance."""

    def recipe(rng: np.random.Generator, complex_: bool) -> Problem:
        p = min(m, n)
        a = with_spectrum(rng, complex_, m, n, np.geomspace(1, 0.1, p) if p > 1 else np.ones(p))
        b, consistent = right_sides(rng, complex_, a)
        return Problem(scaled(a, exponent), scaled(b, exponent), None, p, consistent if m > n else b.shape[1])

    return recipe


def deficient(
    m: int, n: int, exponent: int = 0, rcond: float | None = 5e-4
) -> Callable[[np.random.Generator, bool], Problem]:
    """Three quarters of the rank that there could be, exactly; the cutoff far from every singular value."""

    def recipe(rng: np.random.Generator, complex_: bool) -> Problem:
        rank = 3 * min(m, n) // 4
        a = integer_product(rng, complex_, m, n, rank)
        b, consistent = right_sides(rng, complex_, a)
        return Problem(scaled(a, exponent), scaled(b, exponent), rcond, rank, consistent)

    return recipe


def spectrum(
    m: int, n: int, s: NumpyArray, rcond: float | None = None, rank: int | None = None
) -> Callable[[np.random.Generator, bool], Problem]:
    """These singular values, and random singular vectors."""

    def recipe(rng: np.random.Generator, complex_: bool) -> Problem:
        a = with_spectrum(rng, complex_, m, n, s)
        b, consistent = right_sides(rng, complex_, a)
        if m == len(s):
            consistent = b.shape[1]
        # Where the cutoff takes away a singular value, nothing is consistent any more.
        return Problem(a, b, rcond, len(s) if rank is None else rank, consistent if rank is None else 0)

    return recipe


def straddled(
    m: int, n: int, s: NumpyArray, rcond: float | None, rank: int
) -> Callable[[np.random.Generator, bool], Problem]:
    """These singular values, the cutoff just below as many of them as `rank` says; consistent and inconsistent b."""

    def recipe(rng: np.random.Generator, complex_: bool) -> Problem:
        a = with_spectrum(rng, complex_, m, n, s)
        b = np.concatenate([a @ gaussian(rng, complex_, n, 1), gaussian(rng, complex_, m, 1)], axis=1)
        return Problem(a, b, rcond, rank)

    return recipe


def at_scales(
    recipe: Callable[[np.random.Generator, bool], Problem],
    of_a: int = 0,
    of_b: tuple[int, ...] = (0,),
    columns: tuple[int, ...] = (0,),
    rows: tuple[int, ...] = (0,),
    rank: int | None = None,
) -> Callable[[np.random.Generator, bool], Problem]:
    """The problem with A, each right-hand side, and columns and rows of A multiplied by powers of two.

    Each tuple is repeated to the length that it is wanted in. Where columns or rows are scaled, `rank` is to be given.
    """

    def scaled_recipe(rng: np.random.Generator, complex_: bool) -> Problem:
        p = recipe(rng, complex_)
        (m, n), k = p.a.shape, p.b.shape[1]
        of_rows, of_columns, of_sides = (
            np.resize(np.array(powers), length) for powers, length in ((rows, m), (columns, n), (of_b, k))
        )
        a = scaled(p.a, of_a + of_rows[:, None] + of_columns)
        b = scaled(p.b, of_rows[:, None] + of_sides)
        alike = rows == columns == (0,)
        return dataclasses.replace(p, a=a, b=b, rank=p.rank if alike else rank, consistent=p.consistent if alike else 0)

    return scaled_recipe


def equilibrium(m: int, n: int, decades: float) -> Callable[[np.random.Generator, bool], Problem]:
    """Rows whose sizes differ by this many powers of ten, in random order."""

    def recipe(rng: np.random.Generator, complex_: bool) -> Problem:
        sizes = 10.0 ** -rng.permutation(np.linspace(0, decades, m))[:, None]
        a = sizes * gaussian(rng, complex_, m, n)
        b, consistent = right_sides(rng, complex_, a)
        return Problem(a, b, 0.0, min(m, n), consistent)

    return recipe


def tie(m: int, n: int, s: list[float], rcond: float, rank: int) -> Callable[[np.random.Generator, bool], Problem]:
    """Powers of two on the diagonal: singular values without rounding, so that a tie is a tie."""

    def recipe(rng: np.random.Generator, complex_: bool) -> Problem:
        a = np.zeros((m, n), complex if complex_ else float)
        np.fill_diagonal(a, s)
        return Problem(a, gaussian(rng, complex_, m, 2), rcond, rank)

    return recipe


def known(a: object, b: object, answer: object, rank: int) -> Callable[[np.random.Generator, bool], Problem]:
    """A problem whose exact solution is written beside it."""

    def recipe(rng: np.random.Generator, complex_: bool) -> Problem:
        a_, b_, answer_ = (np.asarray(array, float) for array in (a, b, answer))
        return Problem(a_, b_, None, rank, answer=answer_)

    return recipe


def _arange(rng: np.random.Generator, complex_: bool) -> Problem:
    a = np.arange(10_000_000, dtype=np.float32)[:, None]
    return Problem(a, 3 * a, None, 1, answer=np.array([[3.0]]))


def _small_column(rng: np.random.Generator, complex_: bool) -> Problem:
    a = rng.standard_normal((500_000, 3)).astype(np.float32)
    a[:, 2] *= 0.02
    b = a.astype(float) @ [[1.0], [2.0], [3.0]]
    return Problem(a, b, None, 3, answer=np.array([[1.0], [2.0], [3.0]]))


SIZES = (1, 2, 3, 5, 10, 50)
_QUICK_SHAPES = {(1, 1), (1, 3), (3, 1), (2, 2), (5, 3), (3, 5), (50, 10), (10, 50)}
_THREE_SHAPES = ((20, 6), (8, 8), (6, 20))
#: LAPACK's own choice (ddrvls): the smallest normal number over eps, and one over that.
_FAR = {"single": 103, "double": 970}


@functools.cache
def _registry() -> dict[str, Case]:
    cases: dict[str, Case] = {}
    for case in _every_case():
        if case.name in cases or not case.tags <= set(TAGS):
            raise ValueError(f"the case {case.name!r} is there twice, or has tags that are not in TAGS: {case.tags}")
        cases[case.name] = case
    return cases


def _every_case() -> Iterator[Case]:
    yield from _grid()
    yield from _spectra()
    yield from _conditions()
    yield from _cutoffs()
    yield from _straddled()
    yield from _scales()
    yield from _answers()


def _grid() -> Iterator[Case]:
    for m in SIZES:
        for n in SIZES:
            quick = {"quick"} if (m, n) in _QUICK_SHAPES else set()
            yield Case(f"full rank/{m}x{n}", frozenset({"ratios", "full rank"} | quick), full_rank(m, n))
            yield Case(f"deficient/{m}x{n}", frozenset({"ratios", "deficient"} | quick), deficient(m, n))
    for precision, far in _FAR.items():
        dtypes = ("float32", "complex64") if precision == "single" else ("float64", "complex128")
        for sign, tag in ((far, "near overflow"), (-far, "near underflow")):
            for m, n in ((1, 1), (10, 3), (5, 5), (3, 10)):
                quick = {"quick"} if (m, n) == (10, 3) else set()
                tags = frozenset({"ratios", tag} | quick)
                yield Case(f"{tag}/full rank {m}x{n} {precision}", tags, full_rank(m, n, sign), dtypes)
                yield Case(f"{tag}/deficient {m}x{n} {precision}", tags, deficient(m, n, sign), dtypes)


def _spectra() -> Iterator[Case]:
    for m, n in _THREE_SHAPES:
        p = min(m, n)
        quick = {"quick"} if (m, n) == (20, 6) else set()
        shape = f"{m}x{n}"
        grades = np.geomspace(1, 1e-4, p)
        yield Case(f"graded/1e4 {shape}", frozenset({"ratios", "graded"} | quick), spectrum(m, n, grades))
        steep = np.geomspace(1, 1e-10, p)
        yield Case(
            f"graded/1e10 {shape}", frozenset({"ratios", "graded"}), spectrum(m, n, steep), ("float64", "complex128")
        )
        one_large = np.r_[1, np.full(p - 1, 1e-3)]
        yield Case(f"clustered/one large {shape}", frozenset({"ratios", "clustered"}), spectrum(m, n, one_large))
        one_small = np.r_[np.ones(p - 1), 1e-3]
        tags = frozenset({"ratios", "clustered"} | quick)
        yield Case(f"clustered/one small {shape}", tags, spectrum(m, n, one_small))
        near = 1 + 1e-6 * np.arange(p, 0, -1)
        yield Case(f"clustered/all near 1 {shape}", frozenset({"ratios", "clustered"}), spectrum(m, n, near))
        yield Case(f"equilibrium/4 decades {shape}", frozenset({"ratios", "equilibrium"} | quick), equilibrium(m, n, 4))
        yield Case(
            f"equilibrium/12 decades {shape}",
            frozenset({"ratios", "equilibrium"}),
            equilibrium(m, n, 12),
            ("float64", "complex128"),
        )
        condition = np.geomspace(1, 1e-5, p)
        yield Case(
            f"arithmetic/1e5 {shape}",
            frozenset({"ratios", "arithmetic", "graded"} | quick),
            spectrum(m, n, condition, 0.0),
            ("float32", "complex64"),
        )


def _conditions() -> Iterator[Case]:
    # A solver may change its method with the condition number: it must be right on both sides.
    for m, n in ((50, 10), (10, 50), (50, 50), (200, 20), (20, 200), (3, 3000), (3000, 3)):
        p = min(m, n)
        for decades in (2, 4, 5, 6, 6.5, 7, 8, 10, 12, 14):
            dtypes = DTYPES if decades <= 5 else ("float64", "complex128")
            quick = {"quick"} if max(m, n) == 50 and decades in (5, 6, 10) else set()
            for kind, s in (
                ("even", np.geomspace(1, 10.0**-decades, p)),
                ("one small", np.r_[np.ones(p - 1), 10.0**-decades]),
            ):
                yield Case(
                    f"condition/1e{decades:g} {kind} {m}x{n}",
                    frozenset({"ratios", "condition"} | (quick if kind == "even" else set())),
                    spectrum(m, n, s, 0.0),
                    dtypes,
                )


def _cutoffs() -> Iterator[Case]:
    for m, n in ((200, 20), (50, 50), (20, 200)):
        quick = {"quick"} if (m, n) == (200, 20) else set()
        yield Case(
            f"default cutoff/deficient {m}x{n}",
            frozenset({"ratios", "deficient", "default cutoff"} | quick),
            deficient(m, n, rcond=None),
        )
    # eps32 * max(M, N) would take the last direction of these for noise; it is healthy.
    for m, n in ((3000, 3), (3, 3000)):
        yield Case(
            f"default cutoff/healthy {m}x{n}",
            frozenset({"ratios", "default cutoff", "quick"}),
            spectrum(m, n, np.array([1, 1e-2, 1e-4])),
        )
    for m, n in _THREE_SHAPES:
        s = np.r_[np.geomspace(1, 0.2, 4), np.geomspace(0.05, 0.02, min(m, n) - 4)]
        for rcond, rank in ((0.1, 4), (0.5, 2), (1e-3, min(m, n))):
            yield Case(
                f"named cutoff/{rcond:g} {m}x{n}",
                frozenset({"ratios", "named cutoff"} | ({"quick"} if (m, n) == (20, 6) else set())),
                spectrum(m, n, s, rcond, rank),
            )
        # Close together, but not so close that single precision does not tell them apart.
        yield Case(
            f"named cutoff/between two that are close {m}x{n}",
            frozenset({"ratios", "named cutoff"}),
            spectrum(m, n, np.r_[np.geomspace(1, 0.1001, 4), np.geomspace(0.0999, 0.02, min(m, n) - 4)], 0.1, 4),
        )
    tags = frozenset({"ratios", "tie", "quick"})
    yield Case("tie/square 3x3", tags, tie(3, 3, [1, 0.5, 0.25], 0.5, 1))
    yield Case("tie/tall 5x3", tags, tie(5, 3, [4, 2, 1], 0.25, 2))
    yield Case("tie/wide 2x3", tags, tie(2, 3, [8, 2], 0.25, 1))
    yield Case("tie/rcond 1", tags, tie(3, 2, [2, 1], 1.0, 0))
    yield Case("tie/rcond 1 of equal values", tags, tie(3, 3, [1, 1, 1], 1.0, 0))
    yield Case("tie/just above", tags, tie(3, 3, [1, 0.5, 0.25], 0.5 - 2**-20, 2))
    yield Case("tie/just below", tags, tie(3, 3, [1, 0.5, 0.25], 0.5 + 2**-20, 1))
    yield Case("tie/rcond above 1", tags, tie(3, 2, [2, 1], 7.0, 0))
    yield Case("tie/rcond 0", tags, tie(3, 3, [1, 2**-30, 0], 0.0, 2))
    yield Case("tie/negative rcond", tags, tie(3, 3, [1, 2**-20, 2**-60], -1.0, 2))


def _straddled() -> Iterator[Case]:
    # LAPACK divides and conquers from 26 columns on, and where the singular values reach down to eps its gelsd is then
    # less exact there than a singular value decomposition. That is where the cutoffs of least squares usually lie.
    for m, n in ((40, 60), (40, 100), (60, 60), (60, 40), (20, 30)):
        p = min(m, n)
        most, default = 3 * p // 4, max(m, n) * 2.0**-52
        for name, rcond, high, low, least in (
            ("4.8e-14", 4.8e-14, 4.9e-14, 4.5e-14, 1e-16),
            ("default cutoff", None, 1.3 * default, 0.7 * default, 1e-17),
            ("1e-9", 1e-9, 1e-9 + 1e-13, 1e-9 - 1e-13, 1e-16),
        ):
            recipe = straddled(
                m, n, np.r_[np.geomspace(1, high, most), np.geomspace(low, least, p - most)], rcond, most
            )
            # Extended precision takes long for complex numbers.
            quick = {"quick"} if (m, n, name) == (40, 60, "4.8e-14") else set()
            yield Case(f"straddled/{name} {m}x{n}", frozenset({"straddled"} | quick), recipe, ("float64",))
            if m != n and max(m, n) <= 60:
                yield Case(f"straddled/{name} {m}x{n} complex", frozenset({"straddled"}), recipe, ("complex128",))


#: Powers of two from one end of the range to the other; past some of them squares, fourth powers, products vanish.
_SCALES = {"double": (-996, -400, -332, -100, -75, 0, 100, 146, 550, 996), "single": (-110, -60, 0, 60, 103)}
#: For four right-hand sides, the second of which is zero.
_OWN_SCALES = {"double": (-963, 0, 900, -500), "single": (-100, 0, 90, -50)}
_DTYPES_OF = {"double": ("float64", "complex128"), "single": ("float32", "complex64")}


def _scales() -> Iterator[Case]:
    small = ((5, 3), (3, 5), (4, 4))
    for precision, scales in _SCALES.items():
        own = _OWN_SCALES[precision]
        for (m, n), scale in itertools.product(small, scales):
            for name, of_b in (("b alike", (scale,)), ("b ordinary", (0,)), ("b at its own", own)):
                for rcond in (0.0, 0.1):
                    quick = (rcond, name) == (0.1, "b at its own") and scale in (-332, 146, -60)
                    yield _scaled(precision, m, n, rcond, scale, of_b, name, quick)
        for (m, n), scale in itertools.product(small, (scales[1], scales[-2])):
            for other in (None, 1e-15, 1e-3, 0.5, 1.0, 2.0):
                yield _scaled(precision, m, n, other, scale, own, "b at its own", False)
        for (m, n), scale in itertools.product(((32, 8), (8, 32)), scales):
            yield _scaled(precision, m, n, 0.1, scale, own, "b at its own", False)
        for scale in (scales[1], 0):
            yield _overflowing(precision, scale)
    # Large enough for every other method that a solver may have.
    own = _OWN_SCALES["double"]
    for (m, n), scale, rcond in itertools.product(((100, 100), (70, 70)), (-996, -75, 100, 996), (1e-3, 0.1, 0.5)):
        yield _scaled("double", m, n, rcond, scale, own, "b at its own", (m, scale, rcond) == (70, -75, 0.1))
    for (m, n), scale in itertools.product(((400, 200), (200, 400)), (-700, 146)):
        yield _scaled("double", m, n, 0.1, scale, own, "b at its own", False)
    yield from _vanishing_products()
    yield from _unlike_columns()
    for m, n in ((10, 3), (3, 10), (5, 5)):
        # Small integers times the smallest number that there is.
        tags = frozenset({"scaled", "subnormal", "deficient"})
        recipe = at_scales(_inconsistent(deficient(m, n)), -149, (-149, 0, 90, -149))
        yield Case(f"scaled/2**-149, deficient {m}x{n} single", tags, recipe, _DTYPES_OF["single"])


def _scaled(
    precision: str, m: int, n: int, rcond: float | None, scale: int, of_b: tuple[int, ...], name: str, quick: bool
) -> Case:
    """Singular values on both sides of the cutoff, where it leaves any, and well away from it."""
    p = min(m, n)
    above = (p + 1) // 2
    if rcond is None or rcond < 1e-10:
        recipe = spectrum(m, n, np.geomspace(1, 0.1, p), rcond)
    elif rcond < 1:
        s = np.r_[np.geomspace(1, min(2 * rcond, 0.8), above), np.geomspace(rcond / 2, rcond / 5, p - above)]
        recipe = spectrum(m, n, s, rcond, above)
    else:
        recipe = spectrum(m, n, np.geomspace(1, 0.1, p), rcond, 0)
    tags = frozenset({"scaled", *(["quick"] if quick else [])})
    title = f"scaled/2**{scale}, rcond {rcond}, {name} {m}x{n} {precision}"
    return Case(title, tags, at_scales(recipe, scale, of_b), _DTYPES_OF[precision])


def _overflowing(precision: str, of_b: int) -> Case:
    """Entries that are numbers, and a largest singular value that is none."""
    top = 1024 if precision == "double" else 128

    def recipe(rng: np.random.Generator, complex_: bool) -> Problem:
        p = spectrum(6, 4, np.geomspace(1, 0.1, 4))(rng, complex_)
        p = dataclasses.replace(p, a=p.a / np.max([np.abs(part).max() for part in parts(p.a)]) * 0.9)
        return at_scales(lambda *_: p, top, (of_b, of_b, top - 40, of_b))(rng, complex_)

    tags = frozenset({"scaled", *(["quick"] if of_b == 0 else [])})
    return Case(
        f"scaled/largest singular value overflows, b 2**{of_b} 6x4 {precision}", tags, recipe, _DTYPES_OF[precision]
    )


def _vanishing_products() -> Iterator[Case]:
    """A and b whose products are below what there is, and answers that are numbers like any others."""
    for of_a, of_b in ((-266, -830), (-399, -648), (-100, -963), (-332, -997), (380, -650)):
        for m, n in ((1, 1), (6, 3), (3, 6)):
            quick = {"quick"} if m == 6 and of_a in (-266, -332) else set()
            yield Case(
                f"scaled/product of 2**{of_a} and 2**{of_b} {m}x{n}",
                frozenset({"scaled"} | quick),
                at_scales(full_rank(m, n), of_a, (of_b,)),
                _DTYPES_OF["double"],
            )
    for of_b in (0, 550, -700):
        yield Case(
            f"scaled/all but deficient, b 2**{of_b} 8x3",
            frozenset({"scaled"}),
            at_scales(spectrum(8, 3, np.array([1, 1e-3, 3e-7])), 0, (of_b,)),
            _DTYPES_OF["double"],
        )


def _unlike_columns() -> Iterator[Case]:
    """Columns, or rows, that are so much smaller than others that they do not count; and such that just do."""
    own = (-300, 0, 300, 0)
    for m, n in ((6, 4), (4, 6), (5, 5)):
        for far, of_a in ((700, 0), (600, -400), (900, 90)):
            some = 2
            columns, rows = (*[0] * some, *[-far] * (n - some)), (*[0] * some, *[-far] * (m - some))
            for name, of_columns, of_rows in (("columns", columns, (0,)), ("rows", (0,), rows)):
                yield Case(
                    f"scaled/{name} 2**-{far} of others, 2**{of_a} {m}x{n}",
                    frozenset({"scaled"}),
                    at_scales(_gaussian(m, n, None), of_a, own, of_columns, of_rows, some),
                    _DTYPES_OF["double"],
                )
        for of_a in (-900, -300, 0, 300, 900):
            yield Case(
                f"scaled/columns of 2**0 to 2**-12, 2**{of_a} {m}x{n}",
                frozenset({"scaled"}),
                at_scales(_gaussian(m, n, 0.0), of_a, own, (0, -3, -12, -7), (0,), min(m, n)),
                _DTYPES_OF["double"],
            )


def _inconsistent(recipe: Callable[[np.random.Generator, bool], Problem]) -> Callable[..., Problem]:
    """The same problem, no right-hand side of which is in the range of A once it is rounded."""
    return lambda rng, complex_: dataclasses.replace(recipe(rng, complex_), consistent=0)


def _gaussian(m: int, n: int, rcond: float | None) -> Callable[[np.random.Generator, bool], Problem]:
    def recipe(rng: np.random.Generator, complex_: bool) -> Problem:
        a = gaussian(rng, complex_, m, n)
        b, consistent = right_sides(rng, complex_, a)
        return Problem(a, b, rcond, min(m, n), consistent)

    return recipe


def _answers() -> Iterator[Case]:
    tags = frozenset({"answer", "ratios", "quick"})
    nine = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    t = np.arange(1.0, 11.0)
    column_twice = np.stack([np.ones(10), t, t], axis=1)
    e1_e7 = np.isin(np.arange(10), [0, 6])[:, None]
    yield Case(
        "answer/1 to 9 against itself",
        tags | {"deficient", "default cutoff"},
        known(nine, nine, np.array([[5, 2, -1], [2, 2, 2], [-1, 2, 5]]) / 6, 2),
    )
    yield Case("answer/zeros 2x1", tags | {"deficient"}, known(np.zeros((2, 1)), [[1], [2]], [[0]], 0))
    yield Case("answer/one row", tags | {"full rank"}, known([[2, 3]], [[8]], [[16 / 13], [24 / 13]], 1))
    yield Case(
        "answer/ones 4x4",
        tags | {"deficient", "default cutoff"},
        known(np.ones((4, 4)), np.ones((4, 4)), np.full((4, 4), 0.25), 1),
    )
    yield Case(
        "answer/zero column",
        tags | {"deficient"},
        known([[0, 1], [0, 2], [0, 3]], [[2], [4], [6]], [[0], [2]], 1),
    )
    yield Case(
        "answer/column given twice",
        tags | {"deficient", "default cutoff"},
        known(column_twice, e1_e7, [[2 / 5], [-1 / 55], [-1 / 55]], 2),
    )
    yield Case("answer/arange 10000000x1", frozenset({"large"}), _arange, ("float32",))
    yield Case("answer/small column 500000x3", frozenset({"large", "default cutoff"}), _small_column, ("float32",))
