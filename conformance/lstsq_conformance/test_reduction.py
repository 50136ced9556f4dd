"""Rows that come in blocks: whatever the blocks and their order, the answer is that for all rows at once."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

import lstsq
from lstsq import LinAlgError, Reduction
from lstsq_conformance import ratios
from lstsq_conformance.cases import Case
from lstsq_conformance.ratios import LIMIT, Answer
from lstsq_conformance.reference import NumpyArray, eps_of
from lstsq_conformance.target import Target
from lstsq_conformance.test_values import judge_all

pytestmark = pytest.mark.contract("rows in blocks")

#: A library that compiles for each shape takes its time for more blocks than this.
_MOST = 12


def _in_halves(m: int) -> list[int]:
    return [0, m // 2, m]


def _one_by_one(m: int) -> list[int]:
    """Rows one by one, and what is then left in one block."""
    return [*range(min(m, _MOST)), m]


def _at_random(m: int) -> list[int]:
    """Blocks of chance sizes, empty ones among them."""
    return [0, 0, *sorted(np.random.default_rng(m).integers(0, m, 2)), m, m]


_CUTS = pytest.mark.parametrize(
    "cuts",
    [
        _at_random,
        pytest.param(_in_halves, marks=pytest.mark.thorough),
        pytest.param(_one_by_one, marks=pytest.mark.thorough),
    ],
)


def _reduce(target: Target, a: NumpyArray, b: NumpyArray, cuts: list[int]) -> list[Reduction]:
    return [
        lstsq.reduce_rows(target.array(a[i:j]), target.array(b[i:j]), backend=target.backend.name)
        for i, j in pairwise(cuts)
    ]


def _held_in(target: Target, dtype: str) -> str:
    """The dtype of the rows that are left: double precision, where the library has it."""
    return str(target.numpy(_reduce(target, np.ones((1, 1), dtype), np.ones(1, dtype), [0, 1])[0].a).dtype)


def _add(reductions: list[Reduction]) -> Reduction:
    """One after the other."""
    total = sum(reductions)
    assert isinstance(total, Reduction)
    return total


def _merge(reductions: list[Reduction]) -> Reduction:
    """Pairs of neighbours first, then pairs of pairs, the last before the first."""
    while len(reductions) > 1:
        pairs = zip(reductions[1::2], reductions[::2])
        reductions = [later + first for later, first in pairs] + reductions[len(reductions) // 2 * 2 :]
    return reductions[0]


@pytest.mark.cases("ratios")
@pytest.mark.costly
@_CUTS
def test_ratios(target: Target, case: Case, dtype: str, cuts: Callable[[int], list[int]]) -> None:
    problem = case.build(dtype)
    reductions = _reduce(target, problem.a, problem.b, cuts(len(problem.a)))
    merged = _add(reductions) if cuts is _one_by_one else _merge(reductions)
    rcond = problem.rcond
    if rcond is not None and "tie" in case.tags:
        # The reduction has rounded: a singular value that was at the cutoff may be on either side of it now. From a
        # cutoff that is larger by more than this, it is zero as in the tie.
        rcond *= 1 + 8 * eps_of(_held_in(target, dtype))
    answer = target.to_answer(merged.solve(rcond))
    judge_all(problem, answer)
    assert (answer.s[1:] <= answer.s[:-1]).all(), f"s is not descending: {answer.s}"


@pytest.mark.cases("scaled")
@pytest.mark.costly
@pytest.mark.thorough
@_CUTS
def test_scales(target: Target, case: Case, dtype: str, cuts: Callable[[int], list[int]]) -> None:
    problem = case.build(dtype)

    def solve() -> Answer:
        reductions = _reduce(target, problem.a, problem.b, cuts(len(problem.a)))
        return target.to_answer(_merge(reductions).solve(problem.rcond))

    if "subnormal" in case.tags and _held_in(target, dtype) == dtype:
        return  # The triangle is then of such numbers, too, which do not have all their digits.
    try:
        answer = solve()
    except LinAlgError as error:
        # No row that is left could hold such a column.
        if "overflows" in case.name and "beyond the range" in str(error):
            return
        raise
    if "overflows" in case.name and np.isnan(answer.x).all():
        assert int(answer.rank) == 0
        return
    judge_all(problem, answer)


@pytest.mark.cases("arithmetic")
@pytest.mark.solved_in_double
@_CUTS
def test_single_precision_is_reduced_in_double(
    target: Target, case: Case, dtype: str, cuts: Callable[[int], list[int]]
) -> None:
    problem = case.build(dtype)
    if _held_in(target, dtype) == dtype:
        assert (target.backend.name, dtype) == ("mlx", "complex64"), "MLX alone has no double precision of this kind"
        return
    reduction = _merge(_reduce(target, problem.a, problem.b, cuts(len(problem.a))))
    value = ratios.double_arithmetic(problem, target.to_answer(reduction.solve(problem.rcond)))
    assert value < LIMIT, f"ratio {value:.3g}, limit {LIMIT:g}"


def test_the_form_is_that_of_lstsq(target: Target, dtype: str) -> None:
    rng = np.random.default_rng(0)
    for a_shape, b_shape in (
        ((7, 3), (7,)), ((7, 3), (7, 2)), ((2, 3), (2, 1)), ((3, 3), (3,)),
        ((0, 3), (0,)), ((0, 3), (0, 2)), ((4, 0), (4,)), ((4, 0), (4, 2)), ((7, 3), (7, 0)), ((0, 0), (0, 0)),
    ):  # fmt: skip
        a, b = rng.standard_normal(a_shape).astype(dtype), rng.standard_normal(b_shape).astype(dtype)
        expected = target.solve(a, b)
        for cuts in ([0, len(a)], _at_random(len(a)) if len(a) else [0, 0, 0]):
            got = target.to_answer(_add(_reduce(target, a, b, cuts)).solve())
            for name, one, other in zip(got._fields, got, expected):
                assert (one.shape, one.dtype) == (other.shape, other.dtype), f"{name} of {a_shape}, {b_shape}"
                np.testing.assert_allclose(one, other, rtol=1e3 * eps_of(dtype), atol=1e3 * eps_of(dtype), err_msg=name)


def test_the_default_cutoff_is_that_of_all_rows(target: Target, dtype: str) -> None:
    # Between the default cutoff of three rows and that of all.
    rows, small = 1000, (100 if eps_of(dtype) < 1e-10 else 8) * eps_of(dtype)
    a = np.zeros((rows, 2), dtype)
    a[0, 0], a[1, 1] = 1, small
    b = np.ones(rows, dtype)
    for part, rank in ((a[:3], 2), (a, 1)):
        answer = target.to_answer(_add(_reduce(target, part, b[: len(part)], [0, 2, len(part)])).solve())
        assert int(answer.rank) == rank, f"{len(part)} rows"


def test_numpy_resid_goes_by_all_rows(target: Target, dtype: str) -> None:
    a, b = np.eye(4, 2).astype(dtype), np.ones(4, dtype)
    for rows, shape in ((4, (1,)), (2, (0,))):
        reduction = _add(_reduce(target, a[:rows], b[:rows], [0, 1, rows]))
        assert target.numpy(reduction.solve(numpy_resid=True).residuals).shape == shape
    a[:, 1] = 0
    assert target.numpy(_add(_reduce(target, a, b, [0, 1, 4])).solve(numpy_resid=True).residuals).shape == (0,)


def test_without_singular_values(target: Target, dtype: str) -> None:
    a, b = np.eye(4, 2).astype(dtype), np.ones(4, dtype)
    result = _add(_reduce(target, a, b, [0, 1, 4])).solve(singular_values=False)
    assert result.s is None
    np.testing.assert_allclose(target.numpy(result.x), [1, 1], rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("rows", "n"), [(1, 3), (9, 3), (9, 1), (40, 20)])
def test_a_block_that_is_not_finite(target: Target, dtype: str, bad: float, rows: int, n: int) -> None:
    rng = np.random.default_rng(n)
    a, b = rng.standard_normal((60, n)).astype(dtype), rng.standard_normal((60, 2)).astype(dtype)
    clean = target.solve(a, b)
    cuts = [0, 10, 10 + rows, 60]
    for column in {0, n - 1}:
        spoilt = a.copy()
        spoilt[10 + rows - 1, column] = bad
        if target.claims.nonfinite == "raises":
            with pytest.raises(LinAlgError):
                target.to_answer(_merge(_reduce(target, spoilt, b, cuts)).solve())
        else:
            answer = target.to_answer(_merge(_reduce(target, spoilt, b, cuts)).solve())
            assert all(np.isnan(part).all() for part in (answer.x, answer.residuals, answer.s))
            assert int(answer.rank) == 0
    spoilt = b.copy()
    spoilt[10, 0] = bad
    answer = target.to_answer(_merge(_reduce(target, a, spoilt, cuts)).solve())
    assert np.isnan(answer.x[:, 0]).all()
    assert np.isnan(answer.residuals[0])
    tolerance = 1e3 * eps_of(dtype)
    np.testing.assert_allclose(answer.x[:, 1], clean.x[:, 1], rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(answer.residuals[1], clean.residuals[1], rtol=tolerance)
    np.testing.assert_allclose(answer.s, clean.s, rtol=tolerance)


def test_weights_are_scaled_rows(target: Target, dtype: str) -> None:
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal((9, 2)).astype(dtype), rng.standard_normal(9).astype(dtype)
    counts = np.arange(9) % 4
    roots = np.sqrt(counts).astype(dtype)
    weighted = target.to_answer(_add(_reduce(target, roots[:, None] * a, roots * b, [0, 4, 9])).solve())
    repeated = target.solve(np.repeat(a, counts, axis=0), np.repeat(b, counts))
    np.testing.assert_allclose(weighted.x, repeated.x, rtol=1e4 * eps_of(dtype))
    np.testing.assert_allclose(weighted.residuals, repeated.residuals, rtol=1e4 * eps_of(dtype))
