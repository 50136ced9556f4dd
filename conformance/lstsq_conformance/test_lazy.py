"""Under jit the shapes are known before the values, and the answer is the eager answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lstsq_conformance.cases import Case
from lstsq_conformance.reference import eps_of, real_of
from lstsq_conformance.target import Target
from lstsq_conformance.test_values import check_known_answer

pytestmark = pytest.mark.costly


@pytest.mark.contract("lazy")
@pytest.mark.claims("jit")
@pytest.mark.cases("answer")
def test_known_answer_under_jit(target: Target, case: Case, dtype: str, driver: str) -> None:
    problem = case.build(dtype)

    def solve(a: Any, b: Any) -> tuple[Any, ...]:
        return tuple(target.lstsq(a, b, problem.rcond, driver))

    result = target.transform("jit")(solve)(target.array(problem.a), target.array(problem.b))
    check_known_answer(problem, target.to_answer(result))


@pytest.mark.contract("lazy")
@pytest.mark.claims("jit")
def test_one_trace_serves_every_rank(target: Target, dtype: str, driver: str) -> None:
    def solve(a: Any, b: Any) -> tuple[Any, ...]:
        return tuple(target.lstsq(a, b, driver=driver))

    compiled = target.transform("jit")(solve)
    b = np.array([[1, 2], [3, 5], [2, 2], [4, 1]], dtype)
    full = np.array([[1, 0], [1, 1], [1, 2], [1, 3]], dtype)
    for a in (full, full * np.array([1, 0], dtype), np.zeros((4, 2), dtype), full):
        lazy, eager = target.to_answer(compiled(target.array(a), target.array(b))), target.solve(a, b, driver=driver)
        for got, expected in zip(lazy, eager):
            np.testing.assert_allclose(got, expected, rtol=1e3 * eps_of(dtype), atol=1e3 * eps_of(dtype))


@pytest.mark.batches
@pytest.mark.contract("lazy")
@pytest.mark.claims("jit")
def test_vectors_and_batches_under_jit(target: Target, dtype: str, driver: str) -> None:
    rng = np.random.default_rng(2)
    for a_shape, b_shape in (((5, 3), (5,)), ((2, 5, 3), (5,)), ((5, 3), (2, 5, 1)), ((0, 3), (0,)), ((5, 3), (5, 0))):
        a, b = rng.standard_normal(a_shape).astype(dtype), rng.standard_normal(b_shape).astype(dtype)

        def solve(a: Any, b: Any) -> tuple[Any, ...]:
            return tuple(target.lstsq(a, b, driver=driver))

        lazy = target.to_answer(target.transform("jit")(solve)(target.array(a), target.array(b)))
        eager = target.solve(a, b, driver=driver)
        for name, got, expected in zip(eager._fields, lazy, eager):
            assert (got.shape, got.dtype) == (expected.shape, expected.dtype), name
            np.testing.assert_allclose(got, expected, rtol=1e3 * eps_of(dtype), atol=1e3 * eps_of(dtype))


@pytest.mark.contract("lazy")
@pytest.mark.claims("jit")
def test_one_output_alone_under_jit(target: Target, dtype: str, driver: str) -> None:
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal((5, 3)).astype(dtype), rng.standard_normal((5, 2)).astype(dtype)
    eager = target.solve(a, b, driver=driver)
    for field in eager._fields:

        def solve(a: Any, b: Any, field: str = field) -> Any:
            return getattr(target.lstsq(a, b, driver=driver), field)

        got = target.numpy(target.transform("jit")(solve)(target.array(a), target.array(b)))
        expected = getattr(eager, field)
        np.testing.assert_allclose(got, expected, rtol=1e3 * float(np.finfo(real_of(dtype)).eps))
