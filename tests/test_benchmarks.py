"""The problems of the plot of errors are what it says of them, and the benchmark checks and calls as it says."""

import math
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from lstsq_cli import timing

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
ACCURACY = runpy.run_path(str(BENCHMARKS / "accuracy.py"))


@pytest.fixture
def benchmarks(monkeypatch):
    """The modules of the benchmark, which are found where it is run from."""
    pytest.importorskip("typer")
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    import bench
    import device_solvers
    import problems

    yield {module.__name__: module for module in (bench, device_solvers, problems)}
    for name in ("bench", "device_solvers", "measure", "problems", "solvers"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(("m", "n", "batch"), [(20, 5, 0), (7, 7, 0), (5, 20, 0), (20, 5, 3), (7, 7, 3)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_answers_are_checked_against(benchmarks, m, n, batch, dtype):
    problem = benchmarks["problems"].Problem(m, n, k=2, batch=batch)
    a, b = problem.data(dtype)
    truth = benchmarks["bench"]._truth(a, b)
    x = np.linalg.pinv(a.astype(float)) @ b.astype(float)
    np.testing.assert_allclose(truth.x, x, rtol=1e-9, atol=1e-12)
    condition = np.max(np.linalg.cond(a.astype(float)))
    assert 10 * condition <= truth.limit <= 1e3 * max(condition, 10.0) ** 2
    error = benchmarks["bench"]._error(np.linalg.pinv(a) @ b, truth.x)
    assert error <= truth.limit * np.finfo(dtype).eps


def test_table_of_a_device(benchmarks):
    rows = [
        {"dtype": "float32", "outputs": "x", "problem": "3×2", "solver": solver, "ours": "lstsq" in solver, **found}
        for solver, found in {
            "lstsq torch": {"seconds": 0.001, "right": True},
            "torch gels": {"seconds": 0.004, "right": True},
            "torch gelsy": {"seconds": 0.002, "right": False},
            "lstsq mlx": {"seconds": 0.003, "right": True},
        }.items()
    ]
    assert benchmarks["bench"]._device_markdown(rows).splitlines() == [
        "float32, x, ms:",
        "",
        "| | torch: ours | its own | ratio | mlx: ours | best other | ratio |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| 3×2 | 1 | 2 (wrong) | 2× | 3 | 2 (wrong) | 0.667× |",
    ]


def test_a_slow_call_is_made_once():
    called = []
    calls = {name: timing.whole(lambda name=name: called.append(name)) for name in ("one", "other")}
    times = timing.in_turns(calls, rounds=3, slow=-1.0)
    assert sorted(called) == ["one", "other"]
    assert {name: len(taken) for name, taken in times.items()} == {"one": 1, "other": 1}


def test_solvers_of_each_library_on_the_processor(benchmarks):
    a, b = benchmarks["problems"].Problem(20, 5, k=2, batch=3).data("float32")
    truth = np.linalg.pinv(a.astype(float)) @ b
    found = benchmarks["device_solvers"].find("cpu")
    assert {"lstsq jax", "jax", "lstsq mlx"} <= {solver.name for solver in found}
    for solver in found:
        for x_only in (True, False):
            x = solver.to_numpy(benchmarks["bench"]._timed(solver.prepare(a, b, x_only))[0])
            np.testing.assert_allclose(x, truth, rtol=1e-4, atol=1e-5, err_msg=solver.name)


def test_arrays_are_fresh_in_each_call_and_made_before_the_clock_starts(benchmarks, monkeypatch):
    events, clock = [], iter(range(100))
    monkeypatch.setattr("time.perf_counter", lambda: (events.append("clock"), next(clock))[1])
    call = sys.modules["solvers"].OnFreshArrays(
        lambda: (events.append("make"), len(events))[::-1], lambda a, b: (events.append("solve"), a)[1]
    )
    assert benchmarks["bench"]._timed(call) == (1, 1)
    assert events == ["make", "clock", "solve", "clock"]
    for count in (1, 2):
        events.clear()
        benchmarks["bench"]._repeated(call, count)()
        assert events == ["make"] + count * ["solve"]


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
    """Of a multiple of the Hilbert matrix, whose inverse is of integers."""
    n, multiple = 8, math.lcm(*range(1, 16))
    hilbert = [[multiple // (i + j + 1) for j in range(n)] for i in range(n)]
    inverse = ACCURACY["inverse"](hilbert)
    for i in range(n):
        assert [sum(p * row[i] for p, row in zip(line, inverse)) for line in hilbert] == [j == i for j in range(n)]
    assert all((multiple * number).denominator == 1 for row in inverse for number in row)
