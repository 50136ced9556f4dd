"""The numbers: every case of the registry by the scale-free ratios, and the known answers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from lstsq_conformance import ratios
from lstsq_conformance.cases import Case, Problem
from lstsq_conformance.ratios import LIMIT, Answer
from lstsq_conformance.reference import eps_of, real_of
from lstsq_conformance.target import Target


def _judge(ratio: Callable[[Problem, Answer], float], target: Target, case: Case, dtype: str, driver: str) -> None:
    value = ratio(case.build(dtype), target.answer(case, dtype, driver))
    assert value < LIMIT, f"{ratio.__name__} ratio {value:.3g}, limit {LIMIT:g}"


@pytest.mark.contract("solution")
@pytest.mark.cases("ratios")
def test_solution(target: Target, case: Case, dtype: str, driver: str) -> None:
    _judge(ratios.solution, target, case, dtype, driver)


@pytest.mark.contract("solution")
@pytest.mark.cases("ratios")
def test_residual_is_orthogonal_to_range(target: Target, case: Case, dtype: str, driver: str) -> None:
    _judge(ratios.optimality, target, case, dtype, driver)


@pytest.mark.contract("solution")
@pytest.mark.cases("ratios")
def test_minimum_norm(target: Target, case: Case, dtype: str, driver: str) -> None:
    _judge(ratios.minimum_norm, target, case, dtype, driver)


@pytest.mark.contract("solution")
@pytest.mark.cases("ratios")
def test_consistent_systems_are_solved(target: Target, case: Case, dtype: str, driver: str) -> None:
    _judge(ratios.consistent_residual, target, case, dtype, driver)


@pytest.mark.contract("residuals")
@pytest.mark.cases("ratios")
def test_residuals(target: Target, case: Case, dtype: str, driver: str) -> None:
    _judge(ratios.residuals, target, case, dtype, driver)


@pytest.mark.contract("singular values")
@pytest.mark.cases("ratios")
def test_singular_values(target: Target, case: Case, dtype: str, driver: str) -> None:
    _judge(ratios.singular_values, target, case, dtype, driver)
    s = target.answer(case, dtype, driver).s
    assert (s[1:] <= s[:-1]).all(), f"s is not descending: {s}"


@pytest.mark.contract("cutoff")
@pytest.mark.cases("ratios")
def test_rank(target: Target, case: Case, dtype: str, driver: str) -> None:
    expected = case.build(dtype).rank
    assert int(target.answer(case, dtype, driver).rank) == expected


@pytest.mark.contract("solution")
@pytest.mark.cases("scaled")
def test_scales_of_a_and_of_each_right_hand_side(target: Target, case: Case, dtype: str, driver: str) -> None:
    judge_all(case.build(dtype), target.answer(case, dtype, driver))


@pytest.mark.contract("residuals")
def test_one_right_hand_side_overflows(target: Target, dtype: str, driver: str) -> None:
    huge = 1e160 if real_of(dtype) == "float64" else 1e25
    a, b = np.ones((3, 1), dtype), np.array([[huge, 1], [huge, 2], [3 * huge, 4]], dtype)
    for order in ([0, 1], [1, 0], [1, 0, 1]):
        answer = target.solve(a, b[:, order], driver=driver)
        expected = np.array([[np.inf, 14 / 3][column] for column in order])
        np.testing.assert_allclose(answer.residuals, expected, rtol=16 * eps_of(dtype))
        np.testing.assert_allclose(answer.x[0] / np.array([huge, 1])[order], np.array([5, 7])[order] / 3, rtol=1e-6)


@pytest.mark.contract("solution")
def test_a_solution_that_overflows_is_inf(target: Target, dtype: str, driver: str) -> None:
    tiny, huge = (1e-200, 1e200) if real_of(dtype) == "float64" else (1e-25, 1e25)
    a = np.array([[tiny, 0], [0, 1]], dtype)
    answer = target.solve(a, np.array([[huge, 1, huge], [0, 2, 2]], dtype), 0, driver)
    assert int(answer.rank) == 2
    assert np.isinf(answer.x[0, [0, 2]]).all()
    np.testing.assert_allclose(answer.x[:, 1], [1 / tiny, 2], rtol=1e-6)
    np.testing.assert_allclose(answer.x[1, 2], 2, rtol=1e-6)
    # It solves the equations, though no number says so.
    assert answer.residuals[1] == 0


@pytest.mark.contract("arithmetic")
@pytest.mark.cases("arithmetic")
@pytest.mark.solved_in_double
def test_solved_in_double(target: Target, case: Case, dtype: str, driver: str) -> None:
    _judge(ratios.double_arithmetic, target, case, dtype, driver)


@pytest.mark.contract("solution")
@pytest.mark.cases("answer")
def test_known_answer(target: Target, case: Case, dtype: str, driver: str) -> None:
    check_known_answer(case.build(dtype), target.answer(case, dtype, driver))


@pytest.mark.contract("solution")
@pytest.mark.thorough
@pytest.mark.cases("large")
def test_large_known_answer(target: Target, case: Case, dtype: str, driver: str) -> None:
    problem = case.build(dtype)
    check_known_answer(problem, target.solve(problem.a, problem.b, problem.rcond, driver))


def judge_all(problem: Problem, answer: Answer, which: str = "it") -> None:
    """The rank, and every ratio; `which` names the problem where there are several."""
    assert int(answer.rank) == problem.rank, f"the rank of {which}"
    for ratio in (
        ratios.solution, ratios.optimality, ratios.minimum_norm, ratios.consistent_residual, ratios.residuals,
        ratios.singular_values,
    ):  # fmt: skip
        value = ratio(problem, answer)
        assert value < LIMIT, f"{ratio.__name__} ratio of {which} is {value:.3g}, limit {LIMIT:g}"


def check_known_answer(problem: Problem, answer: Answer) -> None:
    """Elementwise: these are small and well conditioned, or a sum over so many rows that errors average out."""
    assert int(answer.rank) == problem.rank
    assert problem.answer is not None
    condition = answer.s[0] / answer.s[int(answer.rank) - 1] if problem.rank else 1.0
    tolerance = LIMIT * 16 * eps_of(problem.dtype) * condition
    np.testing.assert_allclose(answer.x, problem.answer, rtol=0, atol=tolerance * max(1, np.abs(problem.answer).max()))
