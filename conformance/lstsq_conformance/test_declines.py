"""Drivers that answer only what they can certify: an answer is as good as any, and to decline needs a reason."""

from __future__ import annotations

import numpy as np
import pytest

from lstsq_conformance.cases import Case, Problem, gaussian
from lstsq_conformance.points import ARGUMENTS, point
from lstsq_conformance.ratios import Answer
from lstsq_conformance.reference import real_of
from lstsq_conformance.target import Array, Target
from lstsq_conformance.test_cutoff import check_close_to_cutoff
from lstsq_conformance.test_values import judge_all

pytestmark = pytest.mark.may_decline

#: Condition below which every problem of full rank and ordinary scale is to be answered.
ALWAYS = 100.0


def _is_declined(answer: Answer) -> bool:
    """Whether it says so, and then entirely: no number that could be taken for an answer."""
    if not np.isnan(answer.x).any():
        return False
    for field in (answer.x, answer.residuals, answer.s):
        assert np.isnan(field).all()
    assert int(answer.rank) == 0
    return True


def _must_be_answered(problem: Problem) -> bool:
    s, kept = problem.truth.s, problem.truth.kept
    # A cutoff near the singular values leaves the rank in doubt, too.
    near = problem.rcond is not None and problem.rcond * ALWAYS**2 >= 1
    ordinary = max(abs(problem.exponent), *abs(problem.exponents)) < 30
    return bool(kept.all() and s[0] < ALWAYS * s[-1] and ordinary and not near)


def _judge(problem: Problem, answer: Answer) -> None:
    if _is_declined(answer):
        assert not _must_be_answered(problem), "declined, at full rank and a condition below 100"
        return
    judge_all(problem, answer)


@pytest.mark.contract("solution")
@pytest.mark.cases("ratios")
def test_answer_or_none(target: Target, case: Case, dtype: str, driver: str) -> None:
    _judge(case.build(dtype), target.answer(case, dtype, driver))


@pytest.mark.contract("solution")
@pytest.mark.cases("scaled")
def test_answer_or_none_at_every_scale(target: Target, case: Case, dtype: str, driver: str) -> None:
    _judge(case.build(dtype), target.answer(case, dtype, driver))


@pytest.mark.contract("solution")
@pytest.mark.cases("straddled")
def test_answer_or_none_close_to_the_cutoff(target: Target, case: Case, dtype: str, driver: str) -> None:
    answer = target.answer(case, dtype, driver)
    if not _is_declined(answer):
        check_close_to_cutoff(case.build(dtype), answer)


@pytest.mark.contract("solution")
@pytest.mark.parametrize(("m", "n"), [(1, 1), (1, 5), (5, 1), (6, 3), (3, 6), (40, 9), (9, 40), (200, 70), (70, 200)])
def test_what_must_be_answered(target: Target, dtype: str, driver: str, m: int, n: int) -> None:
    rng = np.random.default_rng(m + n)
    complex_ = dtype.startswith("complex")
    a = gaussian(rng, complex_, m, n)
    u, s, vh = np.linalg.svd(a, full_matrices=False)
    a = ((u * np.linspace(1, 1 / 30, len(s))) @ vh).astype(dtype)
    problem = Problem(a, gaussian(rng, complex_, m, 2).astype(dtype), None, min(m, n))
    answer = target.solve(problem.a, problem.b, driver=driver)
    assert not _is_declined(answer)
    _judge(problem, answer)


@pytest.mark.contract("batch")
@pytest.mark.parametrize("place", [0, 1])
def test_declines_one_element_alone(target: Target, dtype: str, driver: str, place: int) -> None:
    rng = np.random.default_rng(2)
    a, b = (gaussian(rng, dtype.startswith("complex"), 3, *shape).astype(dtype) for shape in ((6, 3), (6, 2)))
    a[place, :, 2] = a[place, :, 0]
    together = target.solve(a, b, driver=driver)
    for i in range(3):
        answer = Answer(*(field[i] for field in together))
        assert _is_declined(answer) == (i == place), f"element {i}"
        if i != place:
            _judge(Problem(a[i], b[i], None, 3), answer)


@pytest.mark.contract("dtypes")
def test_dtypes_are_kept(target: Target, dtype: str, driver: str) -> None:
    a = np.eye(3, dtype=dtype)
    for matrix in (a, np.zeros_like(a)):
        answer = target.solve(matrix, a, driver=driver)
        assert answer.x.dtype == dtype
        assert answer.residuals.dtype == answer.s.dtype == real_of(dtype)


@pytest.mark.contract("gradients")
@pytest.mark.claims("grad")
@pytest.mark.costly
@pytest.mark.parametrize("output", ["x", "residuals", "s"])
def test_gradient(target: Target, dtype: str, driver: str, output: str) -> None:
    at = point("full rank 5x3", dtype)
    native = target.array(at.a.astype(dtype)), target.array(at.b.astype(dtype))

    def gradient(name: str) -> list[Array]:
        def f(a: Array, b: Array) -> Array:
            found = getattr(target.lstsq(a, b, at.rcond, name), output)
            return target.xp.sum(target.xp.real(found) if "complex" in str(found.dtype) else found)

        return [target.numpy(got) for got in target.transform("grad")(f, (0, 1))(*native)]

    for argument, got, expected in zip(ARGUMENTS, gradient(driver), gradient(target.claims.default_driver)):
        limit = at.tolerance(output, argument, dtype)
        assert np.linalg.norm(got - expected) <= limit, f"d {output} / d {argument}"
