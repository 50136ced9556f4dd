"""NIST's linear regression data sets, all eleven, in digits of agreement with the certified values.

A solver cannot have more digits than the rounding of the problem to its dtype leaves, so two things are asked. Against
the exact solution of the *rounded* problem: an error within what one rounding of A can cause, times 30. Against the
*certified* values: at least the digits that such an error leaves, or that NumPy has.
"""

from __future__ import annotations

import csv
import functools
import json
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np
import pytest

from lstsq_conformance.ratios import LIMIT
from lstsq_conformance.reference import NumpyArray, eps_of
from lstsq_conformance.target import Target

NAMES = (
    "Norris",
    "Pontius",
    "NoInt1",
    "NoInt2",
    "Filip",
    "Longley",
    "Wampler1",
    "Wampler2",
    "Wampler3",
    "Wampler4",
    "Wampler5",
)


class DataSet(NamedTuple):
    """One data set, as a least-squares problem in float64, and what is known of it."""

    a: NumpyArray
    b: NumpyArray
    #: As published.
    certified: NumpyArray
    #: The exact solution of the problem with this `a` and `b`, and its sum of squares and singular values.
    exact: NumpyArray
    residual: float
    s: NumpyArray
    #: The rank that the default cutoff of float64 leaves, and the solution at that rank.
    rank: int
    truncated: NumpyArray


@functools.cache
def load(name: str) -> DataSet:
    """Read one data set."""
    folder = files("lstsq_conformance") / "data" / "nist"
    rows = [list(map(float, row)) for row in list(csv.reader((folder / f"{name}.csv").read_text().splitlines()))[1:]]
    known: dict[str, Any] = json.loads((folder / "certified.json").read_text())[name]
    table = np.array(rows)
    x, y = table[:, :-1], table[:, -1]
    if known["polynomial_degree"] is not None:
        a = x ** np.arange(known["polynomial_degree"] + 1)
    else:
        a = np.concatenate([np.ones((len(x), 1)), x], axis=1) if known["intercept"] else x
    rounded = known["float64_design"]
    cut = rounded["truncated_default_rcond"]
    return DataSet(
        a,
        y,
        np.array(known["estimate"], float),
        np.array(rounded["solution"], float),
        float(rounded["residual_sum_of_squares"]),
        np.array(rounded["singular_values"], float),
        cut["rank"],
        np.array(cut["solution"], float),
    )


def digits(x: NumpyArray, certified: NumpyArray) -> float:
    """Digits of the least accurate coefficient, NIST's log relative error, at most 15."""
    error = np.abs(x.astype(float) - certified) / np.abs(certified)
    return float(-np.log10(np.clip(error.max(), 1e-15, None)))


@pytest.mark.contract("solution")
@pytest.mark.dtypes("float64")
@pytest.mark.parametrize("name", NAMES)
def test_exact_solution_of_the_rounded_problem(target: Target, dtype: str, driver: str, name: str) -> None:
    data = load(name)
    answer = target.solve(data.a, data.b, 0.0, driver)
    size = max(data.a.shape)
    error = np.linalg.norm(answer.x - data.exact)
    unit = size * eps_of(dtype) * data.s[0] / data.s[-1]
    bound = unit * (np.linalg.norm(data.exact) + np.sqrt(data.residual) / data.s[-1])
    # Beyond condition 1/eps nothing is promised of x; of what it leaves over, everything is.
    if unit * LIMIT < 1:
        assert error / bound < LIMIT, f"error of x: ratio {error / bound:.3g}, limit {LIMIT:g}"
    np.testing.assert_allclose(answer.s, data.s, rtol=0, atol=LIMIT * size * eps_of(dtype) * data.s[0])
    norm = np.linalg.norm(data.b) + data.s[0] * np.linalg.norm(data.exact)
    ratio = abs(np.sqrt(answer.residuals[0]) - np.sqrt(data.residual)) / (size * eps_of(dtype) * norm)
    assert ratio < LIMIT, f"norm of the residual: ratio {ratio:.3g}, limit {LIMIT:g}"


@pytest.mark.contract("cutoff")
@pytest.mark.dtypes("float64")
@pytest.mark.parametrize("name", NAMES)
def test_default_cutoff(target: Target, dtype: str, driver: str, name: str) -> None:
    data = load(name)
    answer = target.solve(data.a, data.b, driver=driver)
    assert int(answer.rank) == data.rank
    smallest = data.s[data.rank - 1]
    unit = max(data.a.shape) * eps_of(dtype) * data.s[0] / smallest
    if unit * LIMIT < 1:
        bound = unit * (np.linalg.norm(data.truncated) + np.sqrt(data.residual) / smallest)
        ratio = np.linalg.norm(answer.x - data.truncated) / bound
        assert ratio < LIMIT, f"error of x: ratio {ratio:.3g}, limit {LIMIT:g}"


@pytest.mark.contract("solution")
@pytest.mark.parametrize("name", [name for name in NAMES if name != "Filip"])
def test_digits_of_the_certified_values(target: Target, dtype: str, driver: str, name: str) -> None:
    data = load(name)
    if dtype.startswith("complex"):
        data = data._replace(b=data.b * (1 + 1j), certified=data.certified * (1 + 1j))
    # Columns of one size: what their scale does to single precision is not the solver's doing.
    scale = np.abs(data.a).max(axis=0)
    a, b = (data.a / scale).astype(dtype), data.b.astype(dtype)
    answer = target.solve(a, b, 0.0, driver)
    s = np.linalg.svd(a.astype(complex), compute_uv=False)
    certified = data.certified * scale
    r = np.sqrt(data.residual) / s[-1]
    # The rounding of A and b to the dtype, and of the solver, in norm; then in the smallest coefficient.
    loss = s[0] / s[-1] * (1 + r / np.linalg.norm(certified)) * np.linalg.norm(certified) / np.abs(certified).min()
    expected = -np.log10(LIMIT * np.sqrt(len(b)) * eps_of(dtype) * loss)
    achieved = -np.log10(np.clip((np.abs(answer.x - certified) / np.abs(certified)).max(), 1e-15, None))
    assert achieved > expected, f"{achieved:.1f} digits; the condition allows {expected:.1f}"
