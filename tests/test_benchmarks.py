"""The problems of the plot of errors are what it says of them."""

import runpy
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

ACCURACY = runpy.run_path(str(Path(__file__).resolve().parents[1] / "benchmarks" / "accuracy.py"))


@pytest.fixture(scope="module")
def problems():
    rng = np.random.default_rng(0)
    made = [ACCURACY["problem"](rng, height) for height in (0, 1, 3, 6, 9) for _ in range(4)]
    return [problem for problem in made if problem is not None]


def test_the_solution_is_exact(problems):
    """The residual is orthogonal to every column; sums of integers below 2**53 are not rounded."""
    assert len(problems) > 10
    for a, consistent, inconsistent, x, _ in problems:
        for array in (a, consistent, inconsistent):
            np.testing.assert_array_equal(array, array.astype(np.float32))
        a, consistent, inconsistent, x = (array.astype(np.int64) for array in (a, consistent, inconsistent, x))
        assert not (consistent - a @ x).any()
        residual = inconsistent - a @ x
        assert residual.any()
        assert not (a.T @ residual).any()


def test_no_two_rows_are_equal(problems):
    """Where they are, rounding errors that a solver makes alike in both cancel, and it looks better than it is."""
    for problem in problems:
        rows = {tuple(row) for row in problem.a}
        assert len(rows) == len(problem.a)
        assert not any(tuple(-entry for entry in row) in rows for row in rows)


def test_the_condition_number_is_that_of_the_matrix(problems):
    for problem in problems:
        if problem.condition < 1e6:
            assert problem.condition == pytest.approx(np.linalg.cond(problem.a), rel=1e-6)


def test_inverse():
    """Of the Hilbert matrix, whose inverse is of integers."""
    n = 8
    hilbert = [[Fraction(1, i + j + 1) for j in range(n)] for i in range(n)]
    inverse = ACCURACY["inverse"](hilbert)
    assert [sum(p * row[0] for p, row in zip(line, inverse)) for line in hilbert] == [1, *[0] * (n - 1)]
    assert all(number.denominator == 1 for row in inverse for number in row)
