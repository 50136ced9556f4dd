"""The examples of regression give what statsmodels, scikit-learn and NumPy give, on the packages' own data."""

import importlib
import sys
from contextlib import nullcontext
from pathlib import Path

import jax
import mlx.core as mx
import numpy as np
import pytest
import statsmodels.api as sm
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"

LIBRARIES = {
    "numpy": (np.asarray, nullcontext),
    "jax": (jax.numpy.asarray, lambda: jax.enable_x64(True)),
    "mlx": (lambda array: mx.array(array, dtype=mx.float64), lambda: mx.stream(mx.cpu)),
}
if importlib.util.find_spec("torch") is not None:
    import torch

    LIBRARIES["torch"] = (torch.tensor, nullcontext)


@pytest.fixture(scope="module")
def example():
    """Imports an example by its name; one imports another."""
    sys.path.insert(0, str(EXAMPLES))
    yield importlib.import_module
    sys.path.remove(str(EXAMPLES))


@pytest.fixture(params=LIBRARIES)
def make(request):
    """Makes arrays of each library in double precision."""
    array, context = LIBRARIES[request.param]
    with context():
        yield array


def assert_same(example, got, expected):
    got = example("linear_regression").to_numpy(got)
    np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-10 * np.abs(expected).max())


def assert_same_fit(example, fit, theirs):
    names = {"x": "params", "errors": "bse", "t": "tvalues", "p": "pvalues"}
    for ours, name in names.items():
        assert_same(example, getattr(fit, ours), getattr(theirs, name))
    assert_same(example, fit.covariance, theirs.cov_params())
    assert fit.freedom == theirs.df_resid


def data(name):
    """A data set of statsmodels, with a constant, as NumPy's arrays."""
    loaded = getattr(sm.datasets, name).load_pandas()
    return sm.add_constant(loaded.exog.to_numpy(float), prepend=True), loaded.endog.to_numpy(float)


@pytest.mark.parametrize("name", ["stackloss", "statecrime", "engel", "copper"])
def test_ols_is_that_of_statsmodels(example, name):
    a, y = data(name)
    assert_same_fit(example, example("linear_regression").fit(a, y), sm.OLS(y, a).fit())


def test_ols_and_wls_in_every_library(example, make):
    """Expenditure by credit card, whose variance grows with the income: the example of statsmodels' own page."""
    a, y = data("ccard")
    weights = 1 / a[:, 2] ** 2
    fit = example("linear_regression").fit
    assert_same_fit(example, fit(make(a), make(y)), sm.OLS(y, a).fit())
    assert_same_fit(example, fit(make(a), make(y), make(weights)), sm.WLS(y, a, weights=weights).fit())


def test_ridge_is_that_of_scikit_learn(example, make):
    columns, y = load_diabetes(return_X_y=True)
    a = np.column_stack([np.ones(len(y)), columns])
    for penalty in (1.0, 100.0):
        theirs = Ridge(alpha=penalty).fit(columns, y)
        # It has no penalty on the intercept.
        fit = example("linear_regression").fit(make(a), make(y), ridge=make(np.r_[0.0, np.full(10, penalty)]))
        assert_same(example, fit.x, np.r_[theirs.intercept_, theirs.coef_])


@pytest.mark.parametrize("weighted", [False, True])
def test_polynomials_are_those_of_numpy(example, make, weighted):
    t = np.linspace(-1, 2, 12)
    y, weights = np.cos(t), np.linspace(1, 3, 12) if weighted else None
    theirs, covariance = np.polyfit(t, y, 3, w=weights, cov=True)
    fit = example("polyfit").polyfit(make(t), make(y), 3, make(weights) if weighted else None)
    to_numpy = example("linear_regression").to_numpy
    # NumPy has the highest power first.
    assert_same(example, to_numpy(fit.x)[::-1], theirs)
    assert_same(example, to_numpy(fit.covariance)[::-1, ::-1], covariance)


def test_rows_of_weight_zero_are_not_counted(example):
    a, y = data("stackloss")
    mask = np.arange(len(y)) % 4 > 0
    got = example("linear_regression").fit(a, y, mask.astype(float))
    assert_same_fit(example, got, sm.OLS(y[mask], a[mask]).fit())
