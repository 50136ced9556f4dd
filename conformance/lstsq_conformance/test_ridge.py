"""``lstsq(..., ridge=...)`` against exact arithmetic: one number or one for each column, 0, deficient, with weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lstsq import LinAlgError
from lstsq_conformance import reference, reference_exact
from lstsq_conformance.ratios import LIMIT, Answer
from lstsq_conformance.reference import NumpyArray, eps_of
from lstsq_conformance.reference_exact import Weighted
from lstsq_conformance.target import Array, Target
from lstsq_conformance.test_weights import assert_right, matrix

pytestmark = [pytest.mark.contract("ridge"), pytest.mark.costly]

_KINDS = pytest.mark.parametrize(("kind", "m", "n"), [("full rank", 8, 4), ("deficient", 8, 4), ("full rank", 3, 5)])


def _solve(target: Target, a: NumpyArray, b: NumpyArray, driver: str | None = None, **factors: Any) -> Answer:
    real = reference.real_of(target.inside(str(a.dtype)))
    given = {
        name: target.array(value.astype(real)) if isinstance(value, np.ndarray) else value
        for name, value in factors.items()
    }
    return target.solve(a, b, None, driver, **given)


def _assert_right(target: Target, answer: Answer, truth: Weighted, a: NumpyArray, b: NumpyArray) -> None:
    """x, and the residuals, the rank and s that are those of the data."""
    assert_right(target, answer, truth, a.shape, str(a.dtype))
    data = target.solve(a, b)
    np.testing.assert_allclose(answer.s, data.s, atol=LIMIT * eps_of(str(a.dtype)) * data.s.max())
    assert answer.rank == data.rank


@_KINDS
def test_one_number(target: Target, dtype: str, driver: str, kind: str, m: int, n: int) -> None:
    a, b = matrix(kind, m, n, dtype)
    for ridge in (0.25, np.array(4.0)):
        truth = reference_exact.solve(a, b, np.ones(m), float(ridge))
        _assert_right(target, _solve(target, a, b, driver, ridge=ridge), truth, a, b)


@_KINDS
def test_one_for_each_column(target: Target, dtype: str, driver: str, kind: str, m: int, n: int) -> None:
    a, b = matrix(kind, m, n, dtype)
    for ridge in (np.arange(float(n)), np.array([0.0, 1.0, 1e20, 0.0, 2.0][:n])):
        truth = reference_exact.solve(a, b, np.ones(m), ridge)
        _assert_right(target, _solve(target, a, b, driver, ridge=ridge), truth, a, b)


@_KINDS
def test_zero_is_no_ridge(target: Target, dtype: str, driver: str, kind: str, m: int, n: int) -> None:
    a, b = matrix(kind, m, n, dtype)
    expected, truth = target.solve(a, b, driver=driver), reference_exact.solve(a, b, np.ones(m))
    for got, wanted in zip(_solve(target, a, b, driver, ridge=0), expected):
        np.testing.assert_array_equal(got, wanted)
    _assert_right(target, _solve(target, a, b, driver, ridge=np.zeros(n)), truth, a, b)


def test_with_weights(target: Target, dtype: str, driver: str) -> None:
    a, b = matrix("full rank", 8, 4, dtype)
    for largest in (2.0, 1e8 if eps_of(target.inside(dtype)) < 1e-10 else 1e4):
        weights, ridge = np.where(np.arange(8) < 2, largest, np.arange(8.0) % 3), np.array([0.0, 1.0, 0.5, 2.0])
        answer = _solve(target, a, b, driver, weights=weights, ridge=ridge)
        truth = reference_exact.solve(a, b, weights, ridge)
        assert_right(target, answer, truth, a.shape, dtype)


def test_without_data_x_is_zero(target: Target, dtype: str, driver: str) -> None:
    a, b = matrix("full rank", 8, 4, dtype)
    answer = _solve(target, a, b, driver, weights=np.zeros(8), ridge=1.0)
    assert not any(part.any() for part in answer)
    answer = _solve(target, 0 * a, b, driver, ridge=np.array([0.0, 1.0, 0.0, 1.0]))
    assert not answer.x.any()
    assert answer.rank == 0


@pytest.mark.batches
def test_batches(target: Target, dtype: str, driver: str) -> None:
    a, b = matrix("full rank", 8, 4, dtype)
    for ridge in (np.array([[0.0, 0, 0, 0], [1, 0, 2, 3]]), np.zeros((2, 4))):
        answer = _solve(target, a, b, driver, ridge=ridge)
        assert [part.shape for part in answer] == [(2, 4, 2), (2, 2), (2,), (2, 4)]
        for i in range(2):
            truth = reference_exact.solve(a, b, np.ones(8), ridge[i])
            _assert_right(target, Answer(*(part[i] for part in answer)), truth, a, b)


@pytest.mark.parametrize("wrong", [-1.0, np.inf, np.nan])
def test_a_ridge_that_is_none(target: Target, dtype: str, wrong: float) -> None:
    a, b = matrix("full rank", 8, 4, dtype)
    with pytest.raises(ValueError, match=r"ridge holds .*; expected finite numbers from 0 up"):
        target.solve(a, b, ridge=wrong)


def test_shapes_that_do_not_fit(target: Target, dtype: str) -> None:
    a, b = matrix("full rank", 8, 4, dtype)
    for shape in ((1,), (3,), (4, 1)):
        with pytest.raises(LinAlgError, match=r"expected one number, or \(..., N\), one for each of the 4 columns"):
            _solve(target, a, b, ridge=np.ones(shape))


def test_without_s_and_by_numpys_rule(target: Target) -> None:
    a, b = matrix("full rank", 8, 4, target.dtype)
    assert target.lstsq(target.array(a), target.array(b), ridge=1.0, singular_values=False).s is None
    assert target.solve(a, b[:, 0], ridge=1.0, numpy_resid=True).residuals.shape == (1,)


@pytest.mark.parametrize(("m", "n", "k"), [(0, 3, 1), (3, 0, 2), (3, 2, 0)])
def test_empty(target: Target, m: int, n: int, k: int) -> None:
    dtype = target.dtype
    answer = _solve(target, np.ones((m, n), dtype), np.ones((m, k), dtype), ridge=2.0)
    assert (answer.x.shape, answer.residuals.tolist()) == ((n, k), [m if n == 0 else 0.0] * k)
    assert answer.rank == min(m, n, 1)


@pytest.mark.claims("jit")
def test_traced_ridge(target: Target) -> None:
    dtype = reference.real_of(target.dtype)
    a, b = matrix("deficient", 8, 4, dtype)

    def solve(a: Array, b: Array, ridge: Array) -> tuple[Array, ...]:
        return tuple(target.lstsq(a, b, ridge=ridge))

    compiled = target.transform("jit")(solve)
    for ridge in (np.arange(4.0), np.zeros(4), np.array([0.0, 1.0, 1e20, 2.0])):
        answer = target.to_answer(compiled(*map(target.array, (a, b, ridge.astype(dtype)))))
        _assert_right(target, answer, reference_exact.solve(a, b, np.ones(8), ridge), a, b)
    answer = target.to_answer(compiled(*map(target.array, (a, b, np.array([0, -1, 0, 0], dtype)))))
    assert np.isnan(answer.x).all()


@pytest.mark.claims("grad")
def test_gradients(target: Target) -> None:
    """With respect to A, b, the weights and the ridge; at 0, from which these can only grow, from the right."""
    dtype, xp = reference.real_of(target.dtype), target.xp
    a, b = matrix("full rank", 6, 3, dtype)
    weights, ridge = np.array([1.0, 2.0, 0.5, 0.0, 3.0, 1.0]), np.array([0.0, 1.0, 0.25])
    of_x = np.random.default_rng(0).standard_normal((3, 2))

    def value(a: Array, b: Array, weights: Array, ridge: Array) -> Array:
        found = target.lstsq(a, b, weights=weights, ridge=ridge)
        return xp.sum(target.array(of_x.astype(dtype)) * found.x) + xp.sum(found.residuals)

    def exact(a: NumpyArray, b: NumpyArray, weights: NumpyArray, ridge: NumpyArray) -> NumpyArray:
        """By the normal equations, which are smooth at 0."""
        slopes = np.swapaxes(a, -1, -2) * weights[..., None, :]
        x = np.linalg.solve(slopes @ a + ridge[..., None] * np.eye(3), slopes @ b)
        squares = weights[..., None] * (b - a @ x) ** 2
        return np.asarray(np.sum(of_x * x, axis=(-2, -1)) + np.sum(squares, axis=(-2, -1)))

    native = [target.array(array.astype(dtype)) for array in (a, b, weights, ridge)]
    got = [target.numpy(part) for part in target.transform("grad")(value, (0, 1, 2, 3))(*native)]
    at = [array.astype(dtype).astype(float) for array in (a, b, weights, ridge)]
    for i, name in enumerate(("a", "b", "weights", "ridge")):

        def along(one: NumpyArray, i: int = i) -> NumpyArray:
            moved = [*at[:i], one, *at[i + 1 :]]
            return exact(moved[0], moved[1], moved[2], moved[3])

        expected = reference.gradient(along, at[i], 1e-4)
        tolerance = 1e4 * max(eps_of(dtype), 1e-12) * max(1.0, np.abs(expected).max())
        np.testing.assert_allclose(got[i], expected, rtol=0, atol=tolerance, err_msg=f"with respect to {name}")
