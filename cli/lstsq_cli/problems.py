"""The problem that solvers are compared on, where it comes from no file: drawn at random, or NIST's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lstsq_cli.errors import UserError

NumpyArray = np.ndarray[Any, Any]

DTYPES = ("float32", "float64", "complex64", "complex128")


@dataclass(frozen=True)
class Problem:
    """A matrix ``a (M, N)`` and right-hand sides ``b (M, K)``, with names for what they mean."""

    name: str
    a: NumpyArray
    b: NumpyArray
    #: One for each column of `a`.
    columns: tuple[str, ...]
    #: The known solution ``(N, K)``, and who says so.
    known: NumpyArray | None = None
    known_by: str = ""
    #: The name of what b is, where it has one.
    target: str = ""
    #: Rows of a file that were left out, for a missing cell; and columns that nobody asked to leave out, and why.
    dropped: int = 0
    left_out: tuple[str, ...] = ()

    @property
    def headline(self) -> str:
        """Size and target, in a line."""
        (m, n), k = self.a.shape, self.b.shape[1]
        target = f", {k} right-hand sides" if k > 1 else f", target {self.target}" if self.target else ""
        return f"{m} × {n}{target}"

    @property
    def losses(self) -> tuple[str, ...]:
        """What of a file is not in it, a line each."""
        rows = f"left out: {self.dropped} row{'s' if self.dropped > 1 else ''} with a missing cell"
        return (*([rows] if self.dropped else []), *(f"left out: the column {told}" for told in self.left_out))

    def astype(self, dtype: str) -> Problem:
        """The problem rounded to this dtype.

        Raises
        ------
        UserError
            If numbers are lost: an imaginary part, or a number beyond the range of the dtype.
        """
        converted = []
        for name, array in (("a", self.a), ("b", self.b)):
            if np.iscomplexobj(array) and not dtype.startswith("complex"):
                raise UserError(f"{name} is complex; got --dtype {dtype}, expected complex64 or complex128.")
            with np.errstate(over="ignore"):
                rounded = array.astype(dtype)
            if not np.isfinite(rounded).all():
                raise UserError(
                    f"{name} holds numbers beyond the range of {dtype}; scale them, or use --dtype float64."
                )
            converted.append(rounded)
        return replace(self, a=converted[0], b=converted[1])


def default_dtype(problem: Problem) -> str:
    """The dtype that the numbers came in, as one that is solved in: integers and halves are widened."""
    dtype = np.result_type(problem.a, problem.b)
    name: str = dtype.name
    if name in DTYPES:
        return name
    return "complex128" if dtype.kind == "c" else "float32" if name == "float16" else "float64"


def random(m: int, n: int, condition: float, seed: int, dtype: str = "float64") -> Problem:
    """A random matrix of this condition number, its singular values in geometric progression, and b with noise."""
    if m < 1 or n < 1:
        raise UserError(f"--random: got {m} {n}, expected a number of rows and of columns from 1 up.")
    if not (condition >= 1 and np.isfinite(condition)):
        raise UserError(f"--cond: got {condition:g}, expected a number from 1 up.")
    from lstsq_conformance.cases import gaussian, with_spectrum

    rng, complex_ = np.random.default_rng(seed), dtype.startswith("complex")
    smallest = min(m, n)
    s = np.geomspace(1, 1 / condition, smallest) if smallest > 1 else np.ones(1)
    a = with_spectrum(rng, complex_, m, n, s)
    b = a @ np.ones((n, 1)) + 0.01 * gaussian(rng, complex_, m, 1)
    columns = tuple(f"x{i}" for i in range(n))
    return Problem(f"random {m} × {n}, condition {condition:g}, seed {seed}", a, b, columns)


def nist(name: str) -> Problem:
    """One of NIST's linear regression problems (StRD), with its certified coefficients; upper or lower case."""
    from lstsq_conformance import nist as data

    found = {known.lower(): known for known in data.names()}.get(name.lower())
    if found is None:
        raise UserError(f"--nist: there is no {name!r}; expected one of {', '.join(data.names())}.")
    a, b, columns, certified, *_ = data.load(found)
    known = np.array(certified, float)[:, None]
    return Problem(f"NIST {found}", a, b[:, None], columns, known, "NIST", target="y")
