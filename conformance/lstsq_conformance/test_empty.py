"""Nothing to solve, or no rows to solve it with: dimensions of size 0."""

from __future__ import annotations

import numpy as np
import pytest

from lstsq_conformance.reference import NumpyArray, eps_of, real_of
from lstsq_conformance.target import Target


@pytest.mark.contract("empty")
@pytest.mark.parametrize(
    ("m", "n", "k"), [(0, 3, 2), (3, 0, 2), (0, 0, 2), (3, 2, 0), (2, 3, 0), (0, 3, 0), (3, 0, 0), (0, 0, 0)]
)
@pytest.mark.parametrize("batch", [(), (2,), (0,), (2, 0)], ids=str)
def test_no_rows_columns_or_right_hand_sides(
    target: Target, dtype: str, driver: str, m: int, n: int, k: int, batch: tuple[int, ...]
) -> None:
    a, b = np.ones((*batch, m, n), dtype), 2 * np.ones((*batch, m, k), dtype)
    answer = target.solve(a, b, driver=driver)
    _check_form(answer.x, (*batch, n, k), dtype)
    _check_form(answer.residuals, (*batch, k), real_of(dtype))
    _check_form(answer.s, (*batch, min(m, n)), real_of(dtype))
    assert answer.rank.shape == batch
    if m == 0 or n == 0:
        np.testing.assert_array_equal(answer.x, 0)
        np.testing.assert_array_equal(answer.rank, 0)
        # The sum of squares may come from a norm, which is rounded.
        np.testing.assert_allclose(answer.residuals, 4 * m, rtol=4 * eps_of(dtype))
    else:
        np.testing.assert_array_equal(answer.rank, 1)
        np.testing.assert_allclose(answer.s[..., 0], np.sqrt(m * n), rtol=1e-5)


@pytest.mark.batches
@pytest.mark.contract("empty")
def test_empty_batch(target: Target, dtype: str, driver: str) -> None:
    answer = target.solve(np.ones((0, 5, 3), dtype), np.ones((0, 5, 2), dtype), driver=driver)
    _check_form(answer.x, (0, 3, 2), dtype)
    _check_form(answer.residuals, (0, 2), real_of(dtype))
    _check_form(answer.s, (0, 3), real_of(dtype))
    assert answer.rank.shape == (0,)


@pytest.mark.batches
@pytest.mark.contract("empty")
def test_empty_batch_by_broadcasting(target: Target) -> None:
    answer = target.solve(np.ones((5, 3), target.dtype), np.ones((0, 5, 2), target.dtype))
    assert (answer.x.shape, answer.residuals.shape) == ((0, 3, 2), (0, 2))
    assert (answer.rank.shape, answer.s.shape) == ((0,), (0, 3))


@pytest.mark.contract("empty")
def test_vector_without_rows(target: Target) -> None:
    answer = target.solve(np.ones((0, 3), target.dtype), np.ones(0, target.dtype))
    np.testing.assert_array_equal(answer.x, np.zeros(3))
    np.testing.assert_array_equal(answer.residuals, [0])
    assert answer.s.shape == (0,)


@pytest.mark.contract("empty")
def test_vector_without_columns(target: Target) -> None:
    answer = target.solve(np.ones((3, 0), target.dtype), np.array([1, 2, 2], target.dtype))
    assert answer.x.shape == (0,)
    np.testing.assert_allclose(answer.residuals, [9])


def _check_form(array: NumpyArray, shape: tuple[int, ...], dtype: str) -> None:
    assert (array.shape, str(array.dtype)) == (shape, dtype)
