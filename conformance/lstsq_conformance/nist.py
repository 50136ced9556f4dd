"""NIST's linear regression data sets (StRD): eleven problems, and what is certified of them."""

from __future__ import annotations

import functools
import json
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np

from lstsq_conformance.reference import NumpyArray

_FOLDER = files("lstsq_conformance") / "data" / "nist"


class DataSet(NamedTuple):
    """One data set, as a least-squares problem in float64, and what is known of it."""

    a: NumpyArray
    b: NumpyArray
    #: What each column of `a` is.
    columns: tuple[str, ...]
    #: The coefficients and their sum of squares as published, with every digit that is printed.
    certified: tuple[str, ...]
    certified_residual: str
    #: What is exact of the problem with this `a` and `b`, by the names in certified.json.
    rounded: dict[str, Any]


@functools.cache
def _known() -> dict[str, dict[str, Any]]:
    everything = json.loads((_FOLDER / "certified.json").read_text(encoding="utf-8"))
    return {name: facts for name, facts in everything.items() if isinstance(facts, dict)}


def names() -> tuple[str, ...]:
    """The names of the data sets, as NIST spells and orders them."""
    return tuple(_known())


@functools.cache
def load(name: str) -> DataSet:
    """One data set by its name.

    Raises
    ------
    KeyError
        If there is no such data set; `names` has those that there are.
    """
    facts = _known()[name]
    lines = (_FOLDER / f"{name}.csv").read_text(encoding="utf-8").splitlines()
    rows = np.loadtxt(lines, delimiter=",", skiprows=1)
    predictors, degree = rows[:, :-1], facts["polynomial_degree"]
    if degree is not None:
        a = predictors ** np.arange(degree + 1)
        columns = ("intercept", "x", *(f"x^{power}" for power in range(2, degree + 1)))
    else:
        a = np.column_stack([np.ones(len(rows)), predictors]) if facts["intercept"] else predictors
        columns = ("intercept",) * facts["intercept"] + tuple(lines[0].split(",")[:-1])
    residual = facts["residual_sum_of_squares"]
    return DataSet(a, rows[:, -1], columns, tuple(facts["estimate"]), residual, facts["float64_design"])
