"""The fuzzer is itself tested: its reference against 50 digits, its judgement on answers made right and wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest
from served import Run, served

from lstsq_conformance import pairs
from lstsq_conformance import reference_extended as extended
from lstsq_conformance.cases import with_spectrum
from lstsq_conformance.fuzz.judge import Judge
from lstsq_conformance.fuzz.kept import keep, kept
from lstsq_conformance.fuzz.problems import Group, draw
from lstsq_conformance.fuzz.shrink import shrink
from lstsq_conformance.ranges import joined, scaled
from lstsq_conformance.ratios import LIMIT, Answer
from lstsq_conformance.reference import cutoff, real_of

# The reference.


def _exact(number: pairs.Pair, *index: int) -> Any:
    return mpmath.mpf(float(number.high[index])) + mpmath.mpf(float(number.low[index]))


@pytest.mark.parametrize(
    ("m", "n", "s"),
    [
        (6, 4, [1, 0.5, 1e-9, 1e-14]),
        (4, 6, [1, 1, 1e-15, 0]),
        (7, 7, [*np.geomspace(1, 1e-16, 7)]),
        (5, 5, [1, 1, 1, 1, 1]),
        (5, 3, [1, 0, 0]),
        (1, 4, [1]),
        (4, 1, [1]),
    ],
    ids=str,
)
def test_extended_decomposition_has_thirty_digits(m: int, n: int, s: list[float]) -> None:
    rng = np.random.default_rng(m * n)
    a, b = with_spectrum(rng, False, m, n, np.array(s, float)), rng.standard_normal((m, 2))
    factors, converged = extended.decompose(a[None])
    assert converged.all()
    rank = min(2, int(np.sum(np.array(s) > 0)))
    c = extended.coefficients(factors, b[None])
    x = extended.solution(factors, c, np.array([rank]))
    r = extended.residual(a[None], x, b[None])
    with mpmath.workdps(50):
        u, sigma, v = mpmath.svd_r(mpmath.matrix(a.tolist()))
        for i in range(min(m, n)):
            assert abs(_exact(factors.s, 0, i) - sigma[i]) < mpmath.mpf(10) ** -29
        # Where singular values are equal, the solution is unique only if all of them count.
        if rank < min(m, n) and sigma[rank - 1] - sigma[rank] < 1e-10:
            return
        answer = sum(
            (v[k, :].T * ((u[:, k].T * mpmath.matrix(b.tolist())) / sigma[k]) for k in range(rank)),
            mpmath.zeros(n, 2),
        )
        rest = mpmath.matrix(b.tolist()) - mpmath.matrix(a.tolist()) * answer
        for j in range(2):
            assert all(abs(_exact(x, 0, i, j) - answer[i, j]) < mpmath.mpf(10) ** -25 for i in range(n))
            assert all(abs(_exact(r, 0, i, j) - rest[i, j]) < mpmath.mpf(10) ** -25 for i in range(m))


def test_pairs_divide_and_take_roots_to_thirty_digits() -> None:
    with mpmath.workdps(50):
        third = pairs.divide(pairs.pair(np.array([1.0])), pairs.pair(np.array([3.0])))
        assert abs(_exact(third, 0) - mpmath.mpf(1) / 3) < mpmath.mpf(10) ** -31
        root = pairs.square_root(pairs.pair(np.array([2.0])))
        assert abs(_exact(root, 0) - mpmath.sqrt(2)) < mpmath.mpf(10) ** -31


# The judge: right answers pass, at whatever scale, and each kind of wrong one is found.


def _group(seed: int, dtype: str = "float64", size: int = 20) -> Group:
    return draw(np.random.default_rng(seed), dtype, size)


def _right(group: Group) -> Answer:
    """The answers by the reference itself, rounded to the dtype."""
    judge = Judge(group)
    edge = judge.relative * judge.s[:, :1]
    rank = np.sum(judge.s > edge, axis=-1) if judge.relative < 1 else np.zeros(len(judge.s), int)
    factor = 2 if judge.complex else 1
    exact = extended.solution(judge.factors, judge.c, factor * rank)
    r = extended.residual(judge.a, exact, judge.b).high
    with np.errstate(over="ignore", under="ignore"):
        powers = judge.exponent_b - judge.exponent_a
        whole = joined(np.split(exact.high, 2, axis=-2)) if judge.complex else exact.high
        solution = scaled(whole, powers).astype(group.dtype)
        squares = scaled(np.sum(r**2, axis=-2), 2 * judge.exponent_b[:, 0])
        s = scaled(judge.s, judge.exponent_a[:, 0])
    lost, spoilt = ~judge.finite_a, ~judge.finite_a[:, None] | ~judge.finite_b
    squares, s = np.where(spoilt, np.nan, squares), np.where(lost[:, None], np.nan, s)
    real = real_of(group.dtype)
    with np.errstate(over="ignore", under="ignore"):
        x = np.where(spoilt[:, None, :], np.nan, solution).astype(group.dtype)
        return Answer(x, squares.astype(real), np.where(lost, 0, rank), s.astype(real))


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
def test_right_answers_are_right(dtype: str) -> None:
    for seed in range(12):
        group = _group(seed, dtype)
        verdict = Judge(group)(_right(group), in_double=True)
        assert not verdict.wrong().any(), (seed, verdict)


def _plain(rcond: float | None = 0.1) -> Group:
    rng = np.random.default_rng(0)
    a = with_spectrum(rng, False, 6, 4, np.array([1, 0.5, 0.01, 0.001]))
    return Group(np.stack([a, a * 2.0**-900, a]), rng.standard_normal((3, 6, 2)), rcond)


def _wrong(answer: Answer, field: str, change: Any) -> Answer:
    array = getattr(answer, field).copy()
    array[1] = change(array[1])
    return answer._replace(**{field: array})


@pytest.mark.parametrize(
    ("field", "change", "kind"),
    [
        ("rank", lambda rank: rank + 1, "rank"),
        ("x", lambda x: x * (1 + 1e-11), "x"),
        ("x", lambda x: x * np.array([1, 0]), "x"),
        ("x", lambda x: x + np.inf, "x"),
        ("x", lambda x: x * np.nan, "x"),
        ("residuals", lambda squares: squares * (1 + 1e-10), "residuals"),
        ("residuals", lambda squares: squares * 0, "residuals"),
        ("residuals", lambda squares: -squares, "residuals"),
        ("s", lambda s: s * (1 + 1e-11), "s"),
        ("s", lambda s: s * np.inf, "s"),
    ],
)
def test_wrong_answer_is_found(field: str, change: Any, kind: str) -> None:
    group = _plain()
    verdict = Judge(group)(_wrong(_right(group), field, change), in_double=True)
    assert verdict.wrong().tolist() == [False, True, False]
    assert getattr(verdict, kind)[1] > LIMIT


def test_rank_is_open_only_where_rounding_leaves_it_open() -> None:
    eps = 2.0**-52
    a = np.stack([np.diag([1, 0.5, last]) for last in (0.1, 0.1 * (1 + eps), 0.1 + 100 * eps, 0.1 - 100 * eps)])
    group = Group(a, np.ones((4, 3, 1)), 0.1)
    low, high = Judge(group).ranks(eps)
    assert low.tolist() == [2, 2, 3, 2]
    assert high.tolist() == [3, 3, 3, 2]


def test_what_the_dtype_cannot_hold_is_to_be_inf_or_small() -> None:
    a = np.array([[[2.0**-600]], [[2.0**600]], [[1.0]]])
    b = np.array([[[2.0**600]], [[2.0**-600]], [[2.0**600]]])
    x = np.array([[[np.inf]], [[0.0]], [[2.0**600]]])
    right = Answer(x, np.zeros((3, 1)), np.ones(3, int), np.abs(a[:, 0]))
    judge = Judge(Group(a, b, None))
    assert not judge(right, in_double=True).wrong().any()
    for i, value in ((0, -np.inf), (0, 1e308), (0, 0.0), (1, 1e-300), (1, np.inf), (2, np.inf), (2, 0.0)):
        changed = x.copy()
        changed[i] = value
        assert judge(right._replace(x=changed), in_double=True).wrong()[i], (i, value)


def test_nonfinite_input_is_judged_by_the_contract() -> None:
    group = _plain()
    clean = _right(group)
    a, b = group.a.copy(), group.b.copy()
    a[0, 0, 0], b[1, 2, 1] = np.nan, np.inf
    nan = [field.astype(float) for field in clean]
    x, residuals, rank, s = nan
    x[0], residuals[0], s[0], rank[0] = np.nan, np.nan, np.nan, 0
    x[1, :, 1], residuals[1, 1] = np.nan, np.nan
    right = Answer(x, residuals, rank.astype(int), s)
    judge = Judge(Group(a, b, group.rcond))
    assert not judge(right, in_double=True).wrong().any()
    spread = right._replace(x=np.where([[[False]], [[True]], [[False]]], np.nan, right.x))
    swallowed = right._replace(x=np.nan_to_num(right.x))
    rank_lost = right._replace(rank=np.array([0, 0, 2]))
    for wrong in (spread, swallowed, rank_lost):
        assert judge(wrong, in_double=True).wrong()[1]


# Shrinking and keeping.


def test_shrinks_to_what_fails() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((8, 7, 5)), rng.standard_normal((8, 7, 3))
    a[5, 3, 2] = 1e100
    small = shrink(Group(a, b, 0.1), lambda group: bool((np.abs(group.a) > 1e90).any()))
    assert small.a.shape == (1, 1, 1)
    assert small.b.shape == (1, 1, 1)


def test_shrinking_does_not_make_what_is_not_finite() -> None:
    largest = np.full((1, 1, 1), 1.7e308)
    seen: list[Group] = []

    def fails(group: Group) -> bool:
        seen.append(group)
        return len(seen) < 300

    shrink(Group(largest, largest, None), fails)
    assert all(np.isfinite(group.a).all() and np.isfinite(group.b).all() for group in seen)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
def test_what_is_kept_comes_back_exactly(tmp_path: Path, dtype: str) -> None:
    group = _group(3, dtype, 2)
    spoilt = group.b.copy()
    spoilt[0, 0, 0] = np.nan
    for b in (group.b, spoilt):
        keep(tmp_path, Group(group.a, b, group.rcond), {"seed": 3})
    back = [again for _, again in kept(tmp_path)]
    assert len(back) == 2
    for again in back:
        assert again.dtype == dtype
        np.testing.assert_array_equal(again.a, group.a)
        assert any(np.array_equal(again.b, b, equal_nan=True) for b in (group.b, spoilt))


@pytest.mark.parametrize("seed", range(8))
def test_drawn_problems_are_numbers_of_their_dtype(seed: int) -> None:
    for dtype in ("float32", "complex128"):
        group = _group(seed, dtype)
        assert group.a.dtype == group.b.dtype == dtype
        # Some are made not to be finite, and none becomes so by its scale.
        assert np.isfinite(group.a).all(axis=(-2, -1)).mean() > 0.7
        assert np.isfinite(group.b).all(axis=-2).mean() > 0.7
        assert cutoff(group.rcond, dtype, *group.a.shape[-2:]) >= 0
        again = _group(seed, dtype)
        np.testing.assert_array_equal(group.a, again.a)


# The command.


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    with served("lstsq_conformance.fuzz.__main__") as server:
        yield server


def test_what_is_right_passes(run: Run, tmp_path: Path) -> None:
    options = ("--seed", "1", "--count", "500", "--dtype", "float64", "--driver", "svd")
    code, output = run("--backend", "planted-honest", *options, cwd=tmp_path)
    assert code == 0, output
    assert output.startswith("seed 1, 500 problems; planted-honest (svd; float64)")
    assert "500 problems, 0 failures" in output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("scale-of-b-shared", "x"),
        ("rcond-ignored", "rank"),
        ("no-minimum-norm", "x"),
        ("residuals-of-the-wrong-side", "residuals"),
        ("nan-column-spreads", "nonfinite"),
        ("nan-column-takes-the-rank", "rank"),
    ],
)
def test_fault_is_found_kept_and_tried_first(run: Run, tmp_path: Path, fault: str, kind: str) -> None:
    options = ("--backend", f"planted-{fault}", "--dtype", "float64", "--driver", "svd", "--keep", "1")
    code, output = run(*options, "--seed", "1", "--count", "500", cwd=tmp_path)
    assert code == 1, output
    assert re.search(rf"^ +\d+  planted-{fault}  svd  batch  float64  {kind}$", output, re.MULTILINE), output
    files = sorted(Path(tmp_path, "fuzz-failures").glob("*.json"))
    contents = [json.loads(file.read_text()) for file in files]
    assert {"a", "b", "rcond", "dtype", "seed", "ratio"} <= set(contents[0])
    # Small enough to be read.
    assert all(np.size(content["a"]) <= 30 for content in contents), output
    again, output = run(*options, "--seed", "1", "--count", "0", cwd=tmp_path)
    assert again == 1, output
    assert str(files[0].name) in output
    mended, output = run("--backend", "planted-honest", "--driver", "svd", "--count", "0", cwd=tmp_path)
    assert mended == 0, output


def test_unknown_names_are_usage_errors(run: Run, tmp_path: Path) -> None:
    for options, message in (
        (("--backend", "nobody"), "unknown backend 'nobody'"),
        (("--backend", "numpy", "--driver", "magic"), "magic"),
        (("--backend", "numpy", "--dtype", "float8"), "float8"),
        (("--count", "-1"), "-1"),
    ):
        code, output = run(*options, cwd=tmp_path)
        assert code == 2, output
        assert message in output
        assert "Traceback" not in output
