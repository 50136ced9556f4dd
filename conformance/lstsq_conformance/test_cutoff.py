"""Which singular values count: the default of each precision, the caller's number, and ties."""

from __future__ import annotations

import numpy as np
import pytest

from lstsq_conformance.cases import Case
from lstsq_conformance.reference import eps_of, real_of
from lstsq_conformance.target import Target


@pytest.mark.contract("cutoff")
@pytest.mark.cases("tie")
def test_tie_is_zero(target: Target, case: Case, dtype: str, driver: str) -> None:
    problem = case.build(dtype)
    answer = target.answer(case, dtype, driver)
    s = np.sort(np.abs(np.diagonal(problem.a)).astype(real_of(dtype)))[::-1]
    np.testing.assert_array_equal(answer.s, s)
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
def test_negative_is_eps(target: Target, dtype: str, driver: str) -> None:
    eps = eps_of(dtype)
    for factor, rank in ((0.5, 1), (1, 1), (2, 2)):
        answer = target.solve(np.diag(np.array([1, factor * eps], dtype)), np.ones((2, 1), dtype), -1, driver)
        assert int(answer.rank) == rank, f"the last singular value is {factor:g} eps"


@pytest.mark.contract("cutoff")
def test_each_batch_element_has_its_own_largest_singular_value(target: Target, dtype: str, driver: str) -> None:
    a = np.stack([np.diag([1e6, 1]), np.diag([1, 0.5]), np.diag([1e-6, 1e-8])]).astype(dtype)
    answer = target.solve(a, np.ones((3, 2, 1), dtype), 1e-3, driver)
    np.testing.assert_array_equal(answer.rank, [1, 2, 2])
