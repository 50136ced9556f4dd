"""NIST's linear regression data sets, all eleven, in digits of agreement with the certified values.

A solver cannot have more digits than the rounding of the problem to its dtype leaves, so two things are asked. Against
the exact solution of the *rounded* problem: an error within what one rounding of A can cause, times 30. Against the
*certified* values: at least the digits that such an error leaves, or that NumPy has.
"""

from __future__ import annotations

import numpy as np
import pytest

from lstsq_conformance.nist import DataSet, load, names
from lstsq_conformance.ratios import LIMIT
from lstsq_conformance.reference import NumpyArray, eps_of
from lstsq_conformance.target import Target


def _exact(data: DataSet) -> tuple[NumpyArray, NumpyArray, float]:
    """Of the problem that is rounded to float64: its solution, its singular values and its sum of squares."""
    x, s, residual = (data.rounded[key] for key in ("solution", "singular_values", "residual_sum_of_squares"))
    return np.array(x, float), np.array(s, float), float(residual)


@pytest.mark.contract("solution")
@pytest.mark.dtypes("float64")
@pytest.mark.parametrize("name", names())
def test_exact_solution_of_the_rounded_problem(target: Target, dtype: str, driver: str, name: str) -> None:
    data = load(name)
    exact, s, residual = _exact(data)
    answer = target.solve(data.a, data.b, 0.0, driver)
    size = max(data.a.shape)
    error = np.linalg.norm(answer.x - exact)
    unit = size * eps_of(dtype) * s[0] / s[-1]
    bound = unit * (np.linalg.norm(exact) + np.sqrt(residual) / s[-1])
    # Beyond condition 1/eps nothing is promised of x; of what it leaves over, everything is.
    if unit * LIMIT < 1:
        assert error / bound < LIMIT, f"error of x: ratio {error / bound:.3g}, limit {LIMIT:g}"
    np.testing.assert_allclose(answer.s, s, rtol=0, atol=LIMIT * size * eps_of(dtype) * s[0])
    norm = np.linalg.norm(data.b) + s[0] * np.linalg.norm(exact)
    ratio = abs(np.sqrt(answer.residuals[0]) - np.sqrt(residual)) / (size * eps_of(dtype) * norm)
    assert ratio < LIMIT, f"norm of the residual: ratio {ratio:.3g}, limit {LIMIT:g}"


@pytest.mark.contract("cutoff")
@pytest.mark.dtypes("float64")
@pytest.mark.parametrize("name", names())
def test_default_cutoff(target: Target, dtype: str, driver: str, name: str) -> None:
    data = load(name)
    _, s, residual = _exact(data)
    rank, truncated = (data.rounded["truncated_default_rcond"][key] for key in ("rank", "solution"))
    truncated = np.array(truncated, float)
    answer = target.solve(data.a, data.b, driver=driver)
    assert int(answer.rank) == rank
    smallest = s[rank - 1]
    unit = max(data.a.shape) * eps_of(dtype) * s[0] / smallest
    if unit * LIMIT < 1:
        bound = unit * (np.linalg.norm(truncated) + np.sqrt(residual) / smallest)
        ratio = np.linalg.norm(answer.x - truncated) / bound
        assert ratio < LIMIT, f"error of x: ratio {ratio:.3g}, limit {LIMIT:g}"


@pytest.mark.contract("solution")
@pytest.mark.parametrize("name", [name for name in names() if name != "Filip"])
def test_digits_of_the_certified_values(target: Target, dtype: str, driver: str, name: str) -> None:
    data = load(name)
    turned = 1 + 1j if dtype.startswith("complex") else 1.0
    # Columns of one size: what their scale does to single precision is not the solver's doing.
    scale = np.abs(data.a).max(axis=0)
    a, b = (data.a / scale).astype(dtype), (turned * data.b).astype(dtype)
    answer = target.solve(a, b, 0.0, driver)
    s = np.linalg.svd(a.astype(complex), compute_uv=False)
    certified = turned * np.array(data.certified, float) * scale
    r = np.sqrt(_exact(data)[2]) / s[-1]
    # The rounding of A and b to the dtype, and of the solver, in norm; then in the smallest coefficient.
    loss = s[0] / s[-1] * (1 + r / np.linalg.norm(certified)) * np.linalg.norm(certified) / np.abs(certified).min()
    expected = -np.log10(LIMIT * np.sqrt(len(b)) * eps_of(dtype) * loss)
    achieved = -np.log10(np.clip((np.abs(answer.x - certified) / np.abs(certified)).max(), 1e-15, None))
    assert achieved > expected, f"{achieved:.1f} digits; the condition allows {expected:.1f}"
