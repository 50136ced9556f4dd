"""Which singular values count: the default of each precision, the caller's number, and ties."""

from __future__ import annotations

import numpy as np
import pytest

from lstsq_conformance import ratios
from lstsq_conformance.cases import Case, Problem
from lstsq_conformance.ratios import LIMIT, Answer
from lstsq_conformance.reference import eps_of, real_of
from lstsq_conformance.target import Array, Target


@pytest.mark.contract("cutoff")
@pytest.mark.cases("tie")
def test_tie_is_zero(target: Target, case: Case, dtype: str, driver: str) -> None:
    problem = case.build(dtype)
    answer = target.answer(case, dtype, driver)
    s = np.sort(np.abs(np.diagonal(problem.a)).astype(real_of(dtype)))[::-1]
    # Where everything is zero, whatever the singular values are, they need not be exact.
    everything = problem.rcond is not None and problem.rcond >= 1
    np.testing.assert_allclose(answer.s, s, rtol=4 * eps_of(dtype) if everything else 0, atol=0)
    assert int(answer.rank) == problem.rank
    # On a diagonal the minimum-norm solution is a quotient or a zero, exactly.
    expected = np.zeros_like(answer.x)
    for i in range(problem.rank or 0):
        expected[i] = problem.b[i] / problem.a[i, i]
    np.testing.assert_allclose(answer.x, expected, rtol=8 * eps_of(dtype), atol=0)


@pytest.mark.contract("cutoff")
@pytest.mark.parametrize(("m", "n"), [(3, 3), (10, 3), (3, 10), (40, 4), (4, 40)])
def test_default_lies_between_half_and_twice_what_it_should(
    target: Target, dtype: str, driver: str, m: int, n: int
) -> None:
    growth = max(m, n) if real_of(dtype) == "float64" else min(max(m, n), 16)
    cutoff = growth * eps_of(dtype)
    for factor, rank in ((0.5, 2), (2, 3)):
        a = np.zeros((m, n), dtype)
        a[:3, :3] = np.diag([1, 0.5, factor * cutoff])
        answer = target.solve(a, np.ones((m, 1), dtype), driver=driver)
        assert int(answer.rank) == rank, f"the last singular value is {factor:g} of the default cutoff"
        # A singular value that counts at 1e-15 gives a solution of 1e15, and one that does not gives a zero.
        assert (np.abs(answer.x[2, 0]) > 1 / (4 * cutoff)) == (rank == 3)


@pytest.mark.contract("cutoff")
@pytest.mark.parametrize(("m", "n"), [(4, 3), (3, 4)])
def test_named_cutoff_decides(target: Target, dtype: str, driver: str, m: int, n: int) -> None:
    a = np.zeros((m, n), dtype)
    np.fill_diagonal(a, [8, 1, 0.125])
    for rcond, rank in ((0.5, 1), (0.1, 2), (0.01, 3), (0, 3), (1e-30, 3), (1, 0), (2, 0), (1e30, 0)):
        answer = target.solve(a, np.ones((m, 2), dtype), rcond, driver)
        assert int(answer.rank) == rank, f"rcond {rcond}"
        kept = np.arange(min(m, n)) < rank
        expected = np.where(kept, 1 / np.array([8, 1, 0.125]), 0)
        np.testing.assert_allclose(answer.x[:3, 0], expected, rtol=8 * eps_of(dtype), err_msg=f"rcond {rcond}")


@pytest.mark.contract("cutoff")
def test_zero_cuts_off_nothing_but_zeros(target: Target, dtype: str, driver: str) -> None:
    a = np.diag(np.array([1, eps_of(dtype) ** 1.5, 0], dtype))
    answer = target.solve(a, np.ones((3, 1), dtype), 0, driver)
    assert int(answer.rank) == 2


@pytest.mark.contract("cutoff")
@pytest.mark.parametrize(("m", "n"), [(2, 2), (4, 2), (2, 4), (40, 2)])
def test_negative_is_half_the_spacing_of_numbers(target: Target, dtype: str, driver: str, m: int, n: int) -> None:
    eps = eps_of(dtype)
    # Between LAPACK's machine precision and the spacing of the numbers a singular value counts.
    for factor, rank in ((0.25, 1), (0.5, 1), (0.75, 2), (1, 2), (2, 2)):
        a = np.zeros((m, n), dtype)
        np.fill_diagonal(a, [1, factor * eps])
        for rcond in (-1, -1e-30, -np.inf):
            answer = target.solve(a, np.ones((m, 1), dtype), rcond, driver)
            assert int(answer.rank) == rank, f"the last singular value is {factor:g} eps, rcond {rcond:g}"
            assert (answer.x[1, 0] != 0) == (rank == 2)


@pytest.mark.contract("cutoff")
@pytest.mark.cases("straddled")
def test_cutoff_between_two_close_singular_values(target: Target, case: Case, dtype: str, driver: str) -> None:
    check_close_to_cutoff(case.build(dtype), target.answer(case, dtype, driver))


def check_close_to_cutoff(problem: Problem, answer: Answer) -> None:
    """The rank, and x as near to the truth as the data allow."""
    assert int(answer.rank) == problem.rank
    for ratio in (ratios.close_to_cutoff, ratios.residuals, ratios.singular_values):
        value = ratio(problem, answer)
        assert value < LIMIT, f"{ratio.__name__} ratio {value:.3g}, limit {LIMIT:g}"


@pytest.mark.batches
@pytest.mark.contract("cutoff")
def test_each_batch_element_has_its_own_largest_singular_value(target: Target, dtype: str, driver: str) -> None:
    a = np.stack([np.diag([1e6, 1]), np.diag([1, 0.5]), np.diag([1e-6, 1e-8])]).astype(dtype)
    answer = target.solve(a, np.ones((3, 2, 1), dtype), 1e-3, driver)
    np.testing.assert_array_equal(answer.rank, [1, 2, 2])


def _reals(target: Target, rcond: float) -> list[Array]:
    """This number as an array without dimensions, in each real dtype of the run."""
    return [target.array(np.array(rcond, dtype)) for dtype in dict.fromkeys(map(real_of, target.dtypes))]


@pytest.mark.contract("cutoff")
@pytest.mark.parametrize(("m", "n"), [(4, 3), (3, 4)])
def test_cutoff_as_an_array(target: Target, dtype: str, driver: str, m: int, n: int) -> None:
    a = np.zeros((m, n), dtype)
    np.fill_diagonal(a, [8, 1, 0.125])
    b = np.ones((m, 2), dtype)
    for number, rank in ((0.5, 1), (0.125, 1), (0.0625, 2), (0, 3), (1, 0), (2, 0), (-1, 3)):
        for rcond in _reals(target, number):
            answer = target.to_answer(target.lstsq(target.array(a), target.array(b), rcond, driver))
            assert int(answer.rank) == rank, f"rcond {rcond}"
            expected = np.where(np.arange(3) < rank, 1 / np.array([8, 1, 0.125]), 0)
            np.testing.assert_allclose(answer.x[:3, 0], expected, rtol=8 * eps_of(dtype), err_msg=f"rcond {rcond}")


@pytest.mark.contract("cutoff")
def test_cutoff_as_an_array_that_is_no_number(target: Target) -> None:
    a, b = np.eye(2, dtype=target.dtype), np.ones(2, target.dtype)
    for wrong in (np.array([0.1, 0.2], target.dtype), np.ones((1, 1), target.dtype)):
        with pytest.raises((TypeError, ValueError), match="rcond"):
            target.lstsq(target.array(a), target.array(b), target.array(wrong))
