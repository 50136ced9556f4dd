"""NaN and inf: never a finite wrong answer, and never a neighbour's trouble."""

from __future__ import annotations

import numpy as np
import pytest

from lstsq import LinAlgError
from lstsq_conformance.ratios import Answer
from lstsq_conformance.reference import NumpyArray
from lstsq_conformance.target import Target

_BAD = pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
_SHAPES = pytest.mark.parametrize(("m", "n"), [(1, 1), (5, 3), (3, 3), (3, 5), (60, 40)])


def _problem(m: int, n: int, dtype: str, *batch: int) -> tuple[NumpyArray, NumpyArray]:
    rng = np.random.default_rng(m)
    return rng.standard_normal((*batch, m, n)).astype(dtype), rng.standard_normal((*batch, m, 2)).astype(dtype)


def _is_lost(answer: Answer) -> bool:
    everything = (np.isnan(field).all() for field in (answer.x, answer.residuals, answer.s))
    return all(everything) and not np.any(answer.rank)


@pytest.mark.contract("nonfinite")
@pytest.mark.nonfinite("raises")
@_BAD
@_SHAPES
def test_raises(target: Target, dtype: str, driver: str, bad: float, m: int, n: int) -> None:
    for spoil_b in (False, True):
        a, b = _problem(m, n, dtype)
        (b if spoil_b else a)[m // 2, 0] = bad
        with pytest.raises(LinAlgError):
            target.solve(a, b, driver=driver)


@pytest.mark.contract("nonfinite")
@pytest.mark.nonfinite("nan")
@_BAD
@_SHAPES
def test_gives_nan_and_rank_zero(target: Target, dtype: str, driver: str, bad: float, m: int, n: int) -> None:
    for spoil_b in (False, True):
        a, b = _problem(m, n, dtype)
        (b if spoil_b else a)[m // 2, 0] = bad
        answer = target.solve(a, b, driver=driver)
        assert _is_lost(answer), f"{'b' if spoil_b else 'a'} holds {bad}; got {answer}"


@pytest.mark.contract("nonfinite")
@pytest.mark.nonfinite("nan")
@pytest.mark.dtypes("complex64", "complex128")
def test_an_imaginary_part_is_enough(target: Target, dtype: str, driver: str) -> None:
    a, b = _problem(5, 3, dtype)
    a[2, 1] = complex(1, np.nan)
    assert _is_lost(target.solve(a, b, driver=driver))


@pytest.mark.contract("nonfinite")
@pytest.mark.nonfinite("nan")
@_BAD
@pytest.mark.parametrize("place", [0, 1, 2])
def test_neighbours_are_untouched(target: Target, dtype: str, driver: str, bad: float, place: int) -> None:
    a, b = _problem(5, 3, dtype, 3)
    clean = target.solve(a, b, driver=driver)
    for spoil_b in (False, True):
        a, b = _problem(5, 3, dtype, 3)
        (b if spoil_b else a)[place, 2, 1] = bad
        answer = target.solve(a, b, driver=driver)
        for i in range(3):
            element = Answer(*(field[i] for field in answer))
            if i == place:
                assert _is_lost(element), f"element {i} holds {bad}; got {element}"
                continue
            for got, expected in zip(element, (field[i] for field in clean)):
                np.testing.assert_allclose(got, expected, rtol=1e-4, err_msg=f"element {i} is not the spoilt one")


@pytest.mark.contract("nonfinite")
@pytest.mark.nonfinite("nan")
@_BAD
def test_one_matrix_with_many_right_hand_sides(target: Target, dtype: str, driver: str, bad: float) -> None:
    a, b = _problem(5, 3, dtype)
    stack = np.stack([b, b + 1, b + 2])
    clean = target.solve(a, stack, driver=driver)
    stack[1, 2, 1] = bad
    answer = target.solve(a, stack, driver=driver)
    assert _is_lost(Answer(*(field[1] for field in answer)))
    for i in (0, 2):
        for got, expected in zip(answer, clean):
            np.testing.assert_allclose(got[i], expected[i], rtol=1e-4, err_msg=f"element {i} is not the spoilt one")
