"""A batch is a loop: no element knows of its neighbours."""

from __future__ import annotations

import numpy as np
import pytest

from lstsq_conformance.cases import Case, Problem, gaussian, select
from lstsq_conformance.ratios import Answer
from lstsq_conformance.reference import real_of
from lstsq_conformance.target import Target
from lstsq_conformance.test_values import check_known_answer, judge_all

pytestmark = pytest.mark.batches


def _with_neighbours(problem: Problem, deficient_first: bool) -> tuple[list[Problem], int]:
    """The problem between full-rank problems of its shape, or around one; and the place of the problem."""
    rng = np.random.default_rng(7)
    complex_ = problem.dtype.startswith("complex")
    (m, n), k = problem.a.shape, problem.b.shape[1]
    neighbour = Problem(
        gaussian(rng, complex_, m, n).astype(problem.dtype),
        gaussian(rng, complex_, m, k).astype(problem.dtype),
        problem.rcond,
        min(m, n),
    )
    return ([problem, neighbour, problem], 0) if deficient_first else ([neighbour, problem, neighbour], 1)


def _solve(target: Target, problems: list[Problem], driver: str) -> list[Answer]:
    a, b = np.stack([p.a for p in problems]), np.stack([p.b for p in problems])
    answer = target.solve(a, b, problems[0].rcond, driver)
    return [Answer(*(field[i] for field in answer)) for i in range(len(problems))]


@pytest.mark.contract("batch")
@pytest.mark.cases("deficient", "quick")
@pytest.mark.parametrize("deficient_first", [False, True], ids=["inside", "outside"])
def test_deficient_among_full_rank(target: Target, case: Case, dtype: str, driver: str, deficient_first: bool) -> None:
    problems, _ = _with_neighbours(case.build(dtype), deficient_first)
    for i, (problem, answer) in enumerate(zip(problems, _solve(target, problems, driver))):
        judge_all(problem, answer, f"element {i}")


@pytest.mark.contract("batch")
@pytest.mark.cases("answer")
@pytest.mark.parametrize("deficient_first", [False, True], ids=["inside", "outside"])
def test_known_answer_among_full_rank(
    target: Target, case: Case, dtype: str, driver: str, deficient_first: bool
) -> None:
    problems, place = _with_neighbours(case.build(dtype), deficient_first)
    check_known_answer(problems[place], _solve(target, problems, driver)[place])


@pytest.mark.contract("batch")
@pytest.mark.thorough
@pytest.mark.cases("large")
@pytest.mark.parametrize("deficient_first", [False, True], ids=["inside", "outside"])
def test_large_known_answer_in_a_batch(
    target: Target, case: Case, dtype: str, driver: str, deficient_first: bool
) -> None:
    problems, place = _with_neighbours(case.build(dtype), deficient_first)
    check_known_answer(problems[place], _solve(target, problems, driver)[place])


@pytest.mark.contract("batch")
@pytest.mark.parametrize(("m", "n"), [(6, 3), (4, 4), (3, 6)])
def test_batch_equals_loop(target: Target, dtype: str, driver: str, m: int, n: int) -> None:
    rng = np.random.default_rng(m)
    complex_ = dtype.startswith("complex")
    a, b = gaussian(rng, complex_, 2, 3, m, n).astype(dtype), gaussian(rng, complex_, 2, 3, m, 2).astype(dtype)
    together = target.solve(a, b, driver=driver)
    for i in np.ndindex(2, 3):
        problem = Problem(a[i], b[i], None, min(m, n))
        answer = Answer(*(field[i] for field in together))
        judge_all(problem, answer, f"element {i}")


@pytest.mark.contract("batch")
@pytest.mark.parametrize("shape", ["5x3", "3x5", "4x4"])
def test_each_element_has_its_own_scale(target: Target, dtype: str, driver: str, shape: str) -> None:
    precision = "double" if real_of(dtype) == "float64" else "single"
    ending = f", rcond 0.1, b at its own {shape} {precision}"
    problems = [case.build(dtype) for case in select("scaled") if case.name.endswith(ending)]
    assert len(problems) > 3
    for i, (problem, answer) in enumerate(zip(problems, _solve(target, problems, driver))):
        judge_all(problem, answer, f"element {i}")


@pytest.mark.contract("batch")
@pytest.mark.thorough
@pytest.mark.dtypes("float64")
def test_each_large_element_has_its_own_scale(target: Target, dtype: str, driver: str) -> None:
    problems = [case.build(dtype) for case in select("scaled") if "rcond 0.5, b at its own 70x70" in case.name]
    assert len(problems) > 3
    for i, (problem, answer) in enumerate(zip(problems, _solve(target, problems, driver))):
        judge_all(problem, answer, f"element {i}")
