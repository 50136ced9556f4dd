"""With ``singular_values=False`` `s` is None, and everything else is as accurate and as complete as with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lstsq import LinAlgError
from lstsq_conformance import ratios
from lstsq_conformance.cases import Case, gaussian
from lstsq_conformance.ratios import LIMIT, Answer
from lstsq_conformance.reference import NumpyArray, eps_of
from lstsq_conformance.target import Array, Target


def _solve(target: Target, a: NumpyArray, b: NumpyArray, rcond: float | None = None, **options: Any) -> Answer:
    result = target.lstsq(target.array(a), target.array(b), rcond, singular_values=False, **options)
    assert result.s is None
    return _answer(target, result[:3])


def _answer(target: Target, found: tuple[Array, ...]) -> Answer:
    x, residuals, rank = map(target.numpy, found)
    return Answer(x, residuals, rank, np.empty(0))


def _assert_same(got: Answer, expected: Answer, dtype: str) -> None:
    """For small, well-conditioned problems: 100 roundings."""
    close = 100 * eps_of(dtype)
    for field in ("x", "residuals"):
        one, other = getattr(got, field), getattr(expected, field)
        assert (one.shape, one.dtype) == (other.shape, other.dtype), field
        np.testing.assert_allclose(one, other, rtol=close, atol=close, err_msg=field)
    assert (got.rank.shape, got.rank.dtype) == (expected.rank.shape, expected.rank.dtype)
    np.testing.assert_array_equal(got.rank, expected.rank)


@pytest.mark.contract("singular values")
@pytest.mark.cases("ratios")
def test_the_answer_is_as_good(target: Target, case: Case, dtype: str, driver: str) -> None:
    problem = case.build(dtype)
    answer = _solve(target, problem.a, problem.b, problem.rcond, driver=driver)
    assert int(answer.rank) == problem.rank
    for ratio in (ratios.solution, ratios.minimum_norm, ratios.residuals):
        value = ratio(problem, answer)
        assert value < LIMIT, f"{ratio.__name__} ratio {value:.3g}, limit {LIMIT:g}"


@pytest.mark.contract("singular values")
@pytest.mark.parametrize(
    ("a_shape", "b_shape"),
    [
        ((5, 3), (5,)),
        ((3, 3), (3, 2)),
        ((2, 5, 3), (2, 5, 1)),
        ((3, 5), (4, 3, 2)),
        ((2, 4, 4), (4,)),
        *(((0, 3), (0, 2)), ((5, 0), (5,)), ((5, 3), (2, 5, 0)), ((0, 5, 3), (5, 2))),
    ],
    ids=str,
)
def test_the_form_is_the_same(
    target: Target, dtype: str, driver: str, a_shape: tuple[int, ...], b_shape: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(len(a_shape) + len(b_shape))
    a, b = (gaussian(rng, dtype.startswith("complex"), *shape).astype(dtype) for shape in (a_shape, b_shape))
    _assert_same(_solve(target, a, b, driver=driver), target.solve(a, b, driver=driver), dtype)


@pytest.mark.contract("singular values")
@pytest.mark.parametrize(("m", "n"), [(5, 3), (3, 3), (3, 5)])
def test_what_is_not_finite_is_told_as_ever(target: Target, dtype: str, driver: str, m: int, n: int) -> None:
    rng = np.random.default_rng(m)
    a, b = rng.standard_normal((m, n)).astype(dtype), rng.standard_normal((m, 2)).astype(dtype)
    b[0, 0] = np.nan
    _assert_same(_solve(target, a, b, driver=driver), target.solve(a, b, driver=driver), dtype)
    a[0, 0] = np.inf
    if target.claims.nonfinite == "raises":
        with pytest.raises(LinAlgError):
            _solve(target, a, b, driver=driver)
    else:
        _assert_same(_solve(target, a, b, driver=driver), target.solve(a, b, driver=driver), dtype)


@pytest.mark.contract("singular values")
def test_numpy_resid_works_with_it(target: Target, dtype: str) -> None:
    for rank in (3, 2):
        a = np.eye(5, 3)
        a[:, rank:] = 0
        answer = _solve(target, a.astype(dtype), np.ones(5, dtype), numpy_resid=True)
        np.testing.assert_allclose(answer.residuals, [2] if rank == 3 else [], rtol=100 * eps_of(dtype))


@pytest.mark.contract("singular values")
@pytest.mark.costly
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.claims(name)) for name in ("jit", "vmap", "checkpoint")]
)
def test_transformations_follow(target: Target, dtype: str, driver: str, name: str) -> None:
    rng = np.random.default_rng(4)
    a, b = (rng.standard_normal((3, *shape)).astype(dtype) for shape in ((5, 3), (5, 2)))
    seen = []

    def solve(a: Array, b: Array) -> tuple[Array, ...]:
        result = target.lstsq(a, b, None, driver, singular_values=False)
        seen.append(result.s)
        return tuple(result[:3])

    got = target.transform(name)(solve)(target.array(a), target.array(b))
    assert set(seen) == {None}
    _assert_same(_answer(target, got), target.solve(a, b, driver=driver), dtype)


@pytest.mark.contract("singular values")
@pytest.mark.costly
@pytest.mark.claims("grad")
def test_gradients_are_the_same(target: Target, dtype: str, driver: str) -> None:
    xp, rng = target.xp, np.random.default_rng(5)
    a, b = (target.array(rng.standard_normal(shape).astype(dtype)) for shape in ((5, 3), (5, 2)))

    def gradients(**options: Any) -> list[NumpyArray]:
        def total(a: Array, b: Array) -> Array:
            result = target.lstsq(a, b, None, driver, **options)
            return xp.sum(xp.real(result.x)) + xp.sum(result.residuals)

        return [target.numpy(target.transform("grad")(total, i)(a, b)) for i in range(2)]

    for got, expected in zip(gradients(singular_values=False), gradients()):
        assert np.abs(expected).max() > 0.1
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e3 * eps_of(dtype) * np.abs(expected).max())
