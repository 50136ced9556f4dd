"""NaN and inf: never a finite wrong answer, and never a neighbour's trouble.

A matrix that is not finite has no answer. A right-hand side that is not finite has none either, and is the only one:
rank and singular values are the matrix's.
"""

from __future__ import annotations

import numpy as np
import pytest

from lstsq import LinAlgError
from lstsq_conformance.ratios import Answer
from lstsq_conformance.reference import NumpyArray
from lstsq_conformance.target import Target

_BAD = pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
_SHAPES = pytest.mark.parametrize(("m", "n"), [(1, 1), (5, 3), (3, 3), (3, 5), (60, 40)])


def _problem(m: int, n: int, dtype: str, *batch: int, k: int = 2) -> tuple[NumpyArray, NumpyArray]:
    rng = np.random.default_rng(m)
    return rng.standard_normal((*batch, m, n)).astype(dtype), rng.standard_normal((*batch, m, k)).astype(dtype)


def _is_lost(answer: Answer) -> bool:
    everything = (np.isnan(field).all() for field in (answer.x, answer.residuals, answer.s))
    return all(everything) and not np.any(answer.rank)


def _assert_spoilt(answer: Answer, clean: Answer, columns: NumpyArray) -> None:
    """NaN in these right-hand sides, ``(..., K)`` of them being marked, and nowhere else anything but `clean`."""
    np.testing.assert_array_equal(answer.rank, clean.rank, err_msg="rank is that of a")
    np.testing.assert_allclose(answer.s, clean.s, rtol=1e-4, err_msg="s is that of a")
    x, residuals = np.moveaxis(answer.x, -2, 0), answer.residuals
    assert np.isnan(x[:, columns]).all(), f"x of a right-hand side that is not finite: {x[:, columns]}"
    assert np.isnan(residuals[columns]).all(), f"its residual: {residuals[columns]}"
    healthy = ~columns
    for name, got, expected in (
        ("x", x[:, healthy], np.moveaxis(clean.x, -2, 0)[:, healthy]),
        ("residuals", residuals[healthy], clean.residuals[healthy]),
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5, err_msg=f"{name} of the other right-hand sides")


@pytest.mark.contract("nonfinite")
@pytest.mark.nonfinite("raises")
@_BAD
@_SHAPES
def test_matrix_raises(target: Target, dtype: str, driver: str, bad: float, m: int, n: int) -> None:
    a, b = _problem(m, n, dtype)
    a[m // 2, 0] = bad
    with pytest.raises(LinAlgError):
        target.solve(a, b, driver=driver)
    # With a right-hand side that is not finite, too.
    b[m // 2, 0] = bad
    with pytest.raises(LinAlgError):
        target.solve(a, b, driver=driver)


@pytest.mark.batches
@pytest.mark.contract("nonfinite")
@pytest.mark.nonfinite("raises")
@_BAD
@pytest.mark.parametrize("place", [0, 1, 2])
def test_matrix_in_a_batch_raises(target: Target, dtype: str, driver: str, bad: float, place: int) -> None:
    a, b = _problem(5, 3, dtype, 3)
    a[place, 2, 1] = bad
    with pytest.raises(LinAlgError):
        target.solve(a, b, driver=driver)


@pytest.mark.contract("nonfinite")
@pytest.mark.nonfinite("nan")
@_BAD
@_SHAPES
def test_matrix_gives_nan_and_rank_zero(target: Target, dtype: str, driver: str, bad: float, m: int, n: int) -> None:
    for spoil_b in (False, True):
        a, b = _problem(m, n, dtype)
        a[m // 2, 0] = bad
        if spoil_b:
            b[m // 2, 0] = bad
        answer = target.solve(a, b, driver=driver)
        assert _is_lost(answer), f"a holds {bad}; got {answer}"


@pytest.mark.contract("nonfinite")
@pytest.mark.nonfinite("nan")
@pytest.mark.dtypes("complex64", "complex128")
def test_an_imaginary_part_of_the_matrix_is_enough(target: Target, dtype: str, driver: str) -> None:
    a, b = _problem(5, 3, dtype)
    a[2, 1] = complex(1, np.nan)
    assert _is_lost(target.solve(a, b, driver=driver))


@pytest.mark.batches
@pytest.mark.contract("nonfinite")
@pytest.mark.nonfinite("nan")
@_BAD
@pytest.mark.parametrize("place", [0, 1, 2])
def test_neighbours_of_a_matrix_are_untouched(target: Target, dtype: str, driver: str, bad: float, place: int) -> None:
    a, b = _problem(5, 3, dtype, 3)
    clean = target.solve(a, b, driver=driver)
    a[place, 2, 1] = bad
    answer = target.solve(a, b, driver=driver)
    for i in range(3):
        element = Answer(*(field[i] for field in answer))
        if i == place:
            assert _is_lost(element), f"element {i} holds {bad}; got {element}"
            continue
        for got, expected in zip(element, (field[i] for field in clean)):
            np.testing.assert_allclose(got, expected, rtol=1e-4, err_msg=f"element {i} is not the spoilt one")


@pytest.mark.contract("nonfinite")
@_BAD
@_SHAPES
def test_right_hand_side_spoils_itself_alone(
    target: Target, dtype: str, driver: str, bad: float, m: int, n: int
) -> None:
    a, b = _problem(m, n, dtype, k=3)
    clean = target.solve(a, b, driver=driver)
    for spoilt in ([0], [1], [2], [0, 2], [0, 1, 2]):
        columns = np.isin(np.arange(3), spoilt)
        changed = b.copy()
        changed[m // 2, columns] = bad
        _assert_spoilt(target.solve(a, changed, driver=driver), clean, columns)


@pytest.mark.contract("nonfinite")
@_BAD
@pytest.mark.parametrize(("m", "n"), [(5, 3), (3, 3), (3, 5)])
def test_vector_that_is_not_finite(target: Target, dtype: str, driver: str, bad: float, m: int, n: int) -> None:
    a, b = _problem(m, n, dtype, k=1)
    clean = target.solve(a, b, driver=driver)
    vector = b[:, 0].copy()
    vector[m - 1] = bad
    answer = target.solve(a, vector, driver=driver)
    assert answer.x.shape == (n,)
    assert answer.residuals.shape == (1,)
    _assert_spoilt(answer._replace(x=answer.x[:, None]), clean, np.array([True]))


@pytest.mark.contract("nonfinite")
@_BAD
def test_right_hand_side_of_a_deficient_matrix(target: Target, dtype: str, driver: str, bad: float) -> None:
    for m, n in ((6, 4), (4, 6), (5, 5)):
        a, b = _problem(m, n, dtype)
        a[:, 1], a[:, 2] = a[:, 0], 0
        if driver in target.claims.declines:
            continue
        clean = target.solve(a, b, 1e-3, driver)
        assert int(clean.rank) == min(m, n - 2)
        b[0, 1] = bad
        _assert_spoilt(target.solve(a, b, 1e-3, driver), clean, np.array([False, True]))


@pytest.mark.contract("nonfinite")
@_BAD
def test_right_hand_side_of_zeros(target: Target, dtype: str, driver: str, bad: float) -> None:
    a, b = np.zeros((3, 2), dtype), np.ones((3, 2), dtype)
    clean = target.solve(a, b, driver=driver)
    b[1, 0] = bad
    _assert_spoilt(target.solve(a, b, driver=driver), clean, np.array([True, False]))


@pytest.mark.contract("nonfinite")
@pytest.mark.dtypes("complex64", "complex128")
@pytest.mark.parametrize("bad", [complex(1, np.nan), complex(np.nan, 1), complex(0, np.inf), complex(-np.inf, 0)])
def test_an_imaginary_part_of_b_is_enough(target: Target, dtype: str, driver: str, bad: complex) -> None:
    a, b = _problem(5, 3, dtype)
    clean = target.solve(a, b, driver=driver)
    b[2, 1] = bad
    _assert_spoilt(target.solve(a, b, driver=driver), clean, np.array([False, True]))


@pytest.mark.batches
@pytest.mark.contract("nonfinite")
@_BAD
@pytest.mark.parametrize(("m", "n"), [(5, 3), (4, 4), (3, 5), (70, 66)])
def test_right_hand_side_in_a_batch(target: Target, dtype: str, driver: str, bad: float, m: int, n: int) -> None:
    a, b = _problem(m, n, dtype, 2, 3)
    clean = target.solve(a, b, driver=driver)
    columns = np.zeros((2, 3, 2), bool)
    columns[0, 1, 0] = columns[1, 2, 1] = columns[1, 0, :] = True
    b[:, :, 1][columns] = bad
    _assert_spoilt(target.solve(a, b, driver=driver), clean, columns)


@pytest.mark.batches
@pytest.mark.contract("nonfinite")
@_BAD
@pytest.mark.parametrize(("m", "n"), [(5, 3), (3, 5)])
def test_one_matrix_with_many_right_hand_sides(
    target: Target, dtype: str, driver: str, bad: float, m: int, n: int
) -> None:
    a, b = _problem(m, n, dtype)
    stack = np.stack([b, b + 1, b + 2])
    columns = np.zeros((3, 2), bool)
    columns[1, 1] = columns[2, 0] = True
    # As a matrix, and as a batch of one.
    for matrix in (a, a[None]):
        clean = target.solve(matrix, stack, driver=driver)
        spoilt = stack.copy()
        spoilt[:, 2][columns] = bad
        _assert_spoilt(target.solve(matrix, spoilt, driver=driver), clean, columns)


@pytest.mark.batches
@pytest.mark.contract("nonfinite")
@_BAD
def test_one_vector_with_many_matrices(target: Target, dtype: str, driver: str, bad: float) -> None:
    a, b = _problem(5, 3, dtype, 4, k=1)
    vector = b[0, :, 0].copy()
    clean = target.solve(a, vector, driver=driver)
    vector[0] = bad
    answer = target.solve(a, vector, driver=driver)
    spoilt = answer._replace(x=answer.x[..., None])
    _assert_spoilt(spoilt, clean._replace(x=clean.x[..., None]), np.ones((4, 1), bool))


@pytest.mark.batches
@pytest.mark.contract("nonfinite")
@pytest.mark.nonfinite("nan")
def test_a_matrix_and_a_right_hand_side_of_one_batch(target: Target, dtype: str, driver: str) -> None:
    a, b = _problem(5, 3, dtype, 3)
    clean = target.solve(a, b, driver=driver)
    a[0, 1, 1], b[2, 3, 0] = np.nan, np.inf
    answer = target.solve(a, b, driver=driver)
    assert _is_lost(Answer(*(field[0] for field in answer)))
    got, expected = (Answer(*(field[1:] for field in whole)) for whole in (answer, clean))
    columns = np.zeros((2, 2), bool)
    columns[1, 0] = True
    _assert_spoilt(got, expected, columns)
