"""The conformance suite is itself tested: it must catch every planted fault and name its row, and pass the honest."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from served import Run, served

from lstsq_conformance import cases, ratios, reference
from lstsq_conformance.ranges import scaled

Running = Callable[..., tuple[int, str]]
#: What every run of pytest is given.
_OPTIONS = ("-q", "-p", "no:cacheprovider", "--tb=line", "--pyargs")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """The process of all runs. None may leave anything behind that another would fail by: at last the honest passes."""
    with served("pytest") as run:
        yield run
        modules = [f"lstsq_conformance.test_{name}" for name in ("values", "cutoff", "contract")]
        options = ("--lstsq-backend", "planted-honest", "--lstsq-quick", "--lstsq-dtype", "float64")
        code, output = run(*_OPTIONS, *modules, *options, cwd=tmp_path_factory.mktemp("honest"))
        assert code == 0, output


@pytest.fixture
def run(server: Run, tmp_path: Path) -> Running:
    return lambda *arguments: server(*_OPTIONS, *arguments, cwd=tmp_path)


@pytest.fixture
def run_alone(tmp_path: Path) -> Iterator[Running]:
    """The same, in a process of its own."""
    with served("pytest") as server:
        yield lambda *arguments: server(*_OPTIONS, *arguments, cwd=tmp_path)


def _broken_rows(output: str) -> set[str]:
    _, _, summary = output.partition("broken rows of the contract")
    return set(re.findall(r"^([a-z ]+) \(\d+ failures\):", summary, re.MULTILINE))


#: One dtype is enough for most.
_DTYPES = {"single-precision": "float32", "factors-in-single": "float32", "conjugation-forgotten": "complex128"}
#: Fault, where the suite finds it, the row that it must name.
_FAULTS = [
    ("rcond-ignored", "test_cutoff", "cutoff"),
    ("cutoff-strict", "test_cutoff", "cutoff"),
    ("no-minimum-norm", "test_values", "solution"),
    ("residuals-not-squared", "test_values", "residuals"),
    ("residuals-of-the-wrong-side", "test_values", "residuals"),
    ("batch-leaks", "test_batch", "batch"),
    ("single-precision", "test_values", "arithmetic"),
    ("conjugation-forgotten", "test_values", "solution"),
    ("nan-swallowed", "test_nonfinite", "nonfinite"),
    ("s-unsorted", "test_values", "singular values"),
    ("rank-off-at-tie", "test_cutoff", "cutoff"),
    ("float-rank", "test_contract", "dtypes"),
    ("nan-column-spreads", "test_nonfinite", "nonfinite"),
    ("nan-column-swallowed", "test_nonfinite", "nonfinite"),
    ("nan-column-takes-the-rank", "test_nonfinite", "nonfinite"),
    ("negative-is-the-spacing", "test_cutoff", "cutoff"),
    ("scale-of-b-shared", "test_values", "solution"),
    ("squares-underflow", "test_values", "solution"),
    ("sloppy-at-the-cutoff", "test_cutoff", "cutoff"),
    ("neighbour-overflows", "test_values", "residuals"),
    ("no-svd", "test_errors", "drivers"),
    ("rank-guessed-without-s", "test_without_s", "singular values"),
    ("results-elsewhere", "test_contract", "namespaces"),
    ("product-in-single", "test_residual", "residual"),
    ("rank-not-known", "test_deficiency", "deficiency"),
    ("rcond-ignored", "test_pinv", "pinv"),
    ("conjugation-forgotten", "test_pinv", "pinv"),
    ("factors-forget-the-cutoff", "test_factorization", "factorisation"),
    ("factors-in-single", "test_factorization", "factorisation"),
    ("penalty-in-the-residuals", "test_factorization", "factorisation"),
]

#: The same for what the frontend does with weights and a ridge, with the plugin that plants it: fault, tests, row.
_WEIGHTED_FAULTS = [
    ("weights-in-the-place-of-their-roots", "test_weights::test_moderate_weights", "weights"),
    ("light-rows-not-refined", "test_weights::test_weights_far_apart", "weights"),
    ("null-space-of-light-rows-not-refined", "test_weights::test_weights_far_apart", "weights"),
    ("absent-rows-counted", "test_weights::test_a_weight_of_zero_drops_its_row_whatever_it_holds", "weights"),
    ("penalty-among-the-residuals", "test_ridge::test_one_number", "ridge"),
    ("rank-with-the-penalty", "test_ridge::test_one_number", "ridge"),
    ("heavy-penalty-hides-columns", "test_ridge::test_one_for_each_column", "ridge"),
]

#: The same for what only transformations show: fault, tests, row.
_JAX_FAULTS = [
    ("no-third-term", "test_gradients::test_gradient", "deficient and 5x3", "gradients"),
    ("truncated-forgotten", "test_gradients::test_gradient", "truncated and 5x3", "gradients"),
    ("wrong-axis", "test_transforms::test_vmap_over_any_axis", "", "transforms"),
]


def test_honest_backend_passes(run: Running) -> None:
    """In the dtype that most faults are planted in; in each dtype it is what the backend `numpy` is."""
    options = ("--lstsq-backend", "planted-honest", "--lstsq-quick", "--lstsq-dtype", "float64")
    code, output = run("lstsq_conformance", *options)
    assert code == 0, output


def test_honest_backend_passes_on_another_device(run: Running) -> None:
    options = ("--lstsq-backend", "planted-two-devices", "--lstsq-quick", "--lstsq-dtype", "float64")
    code, output = run("lstsq_conformance.test_contract", *options, "--lstsq-device", "gpu")
    assert code == 0, output


def test_every_array_is_on_the_device_that_is_asked_for(run: Running) -> None:
    modules = [f"lstsq_conformance.test_{name}" for name in ("cutoff", "empty", "nonfinite", "without_s")]
    options = ("--lstsq-backend", "planted-gpu-alone", "--lstsq-quick", "--lstsq-dtype", "float64")
    code, output = run(*modules, *options, "--lstsq-device", "cuda")
    assert code == 0, output
    code, output = run(*modules, *options, "--exitfirst")
    assert "the array is on the other device" in output, output


@pytest.mark.parametrize(("fault", "module", "row"), _FAULTS, ids=["-".join(where[:2]) for where in _FAULTS])
def test_planted_fault_is_caught(run: Running, fault: str, module: str, row: str) -> None:
    options = ("--lstsq-quick", "--lstsq-dtype", _DTYPES.get(fault, "float64"))
    code, output = run(f"lstsq_conformance.{module}", "--lstsq-backend", f"planted-{fault}", *options)
    assert code == 1, output
    assert row in _broken_rows(output), output


def test_writing_to_the_input_is_caught(run_alone: Running) -> None:
    """Alone: what it writes to are problems that the process keeps for its other tests."""
    options = ("--lstsq-backend", "planted-writes-to-its-input", "--lstsq-quick", "--lstsq-dtype", "float64")
    code, output = run_alone("lstsq_conformance.test_contract", *options)
    assert code == 1, output
    assert "shapes" in _broken_rows(output), output


@pytest.mark.parametrize(("fault", "tests", "selection", "row"), _JAX_FAULTS, ids=[fault for fault, *_ in _JAX_FAULTS])
def test_planted_fault_of_a_transformation_is_caught(
    run: Running, fault: str, tests: str, selection: str, row: str
) -> None:
    pytest.importorskip("jax")
    options = ("--lstsq-quick", "--lstsq-dtype", "float64", "-k", selection)
    code, output = run(f"lstsq_conformance.{tests}", "--lstsq-backend", f"planted-{fault}", *options)
    assert code == 1, output
    assert _broken_rows(output) == {row}, output
    # The fault, and not that the backend is planted: what the fault does not touch passes.
    assert " passed" in output, output


@pytest.mark.parametrize(("fault", "tests", "row"), _WEIGHTED_FAULTS, ids=[fault for fault, *_ in _WEIGHTED_FAULTS])
def test_planted_fault_of_weights_is_caught(run: Running, fault: str, tests: str, row: str) -> None:
    options = ("--lstsq-backend", "planted-honest", "--lstsq-quick", "--lstsq-dtype", "float64")
    planted = ("-p", "planted_weights", "--planted-fault", fault)
    code, output = run(f"lstsq_conformance.{tests}", *options, *planted)
    assert code == 1, output
    assert _broken_rows(output) == {row}, output


def test_vector_kept_as_matrix_is_caught(run_alone: Running) -> None:
    code, output = run_alone(
        "lstsq_conformance.test_contract",
        *("--lstsq-backend", "planted-honest", "--lstsq-quick", "-p", "planted_frontend"),
    )
    assert code == 1, output
    assert "shapes" in _broken_rows(output), output


@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["alone", "xdist"])
def test_without_a_backend_there_is_one_clear_error(run: Running, workers: tuple[str, ...]) -> None:
    code, output = run("lstsq_conformance", *workers)
    assert code == pytest.ExitCode.USAGE_ERROR
    assert "add --lstsq-backend NAME" in output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--lstsq-backend", "nobody"], "unknown backend 'nobody'"),
        (["--lstsq-backend", "numpy", "--lstsq-driver", "magic"], "magic is not claimed"),
        (["--lstsq-backend", "numpy", "--lstsq-dtype", "float8"], "float8 is not claimed"),
        (["--lstsq-backend", "numpy", "--lstsq-xfail", "absent.txt"], "cannot read absent.txt"),
        (["--lstsq-backend", "numpy", "--lstsq-device", "gpu"], "gpu is not claimed by the backend; it claims cpu."),
        (
            ["--lstsq-backend", "array_api", "--lstsq-namespace", "no_such_library", "--lstsq-device", "cuda"],
            "--lstsq-device cuda: no_such_library finds no gpu on this machine; it finds no device at all.",
        ),
        (
            ["--lstsq-backend", "array_api", "--lstsq-namespace", "array_api_strict", "--lstsq-device", "gpu"],
            "--lstsq-device gpu: array_api_strict finds no gpu on this machine; it finds cpu.",
        ),
    ],
    ids=["backend", "driver", "dtype", "file", "unclaimed device", "no device", "absent device"],
)
def test_wrong_options_are_usage_errors(run: Running, options: list[str], message: str) -> None:
    code, output = run("lstsq_conformance.test_errors", *options)
    assert code == pytest.ExitCode.USAGE_ERROR
    assert message in output
    assert "Traceback" not in output


def test_known_failures_are_strict(run: Running, tmp_path: Path) -> None:
    file = tmp_path / "known.txt"
    names = ("test_singular_values*", "test_scales_of_a_and_of_each_right_hand_side*")
    file.write_text("# ours\n" + "".join(f"test_values.py::{name} # s is ascending\n" for name in names))
    arguments = ("lstsq_conformance.test_values", "--lstsq-quick", "--lstsq-xfail", str(file), "-k", "5x3")
    code, output = run(*arguments, "--lstsq-backend", "planted-s-unsorted")
    assert code == 0, output
    assert "xfailed" in output
    code, output = run(*arguments, "--lstsq-backend", "planted-honest")
    assert code == 1, "a known failure that passes must be an error"
    assert "XPASS(strict)" in output


@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["alone", "xdist"])
def test_stale_known_failure_is_an_error(run: Running, tmp_path: Path, workers: tuple[str, ...]) -> None:
    file = tmp_path / "known.txt"
    file.write_text("test_values.py::test_of_long_ago* # nobody remembers\n")
    arguments = ("--lstsq-backend", "numpy", "--lstsq-xfail", str(file), "-k", "test_of_long_ago", *workers)
    code, output = run("lstsq_conformance", *arguments)
    assert code == pytest.ExitCode.TESTS_FAILED, output
    assert "matches no test" in output


def test_known_failure_needs_a_reason(run: Running, tmp_path: Path) -> None:
    file = tmp_path / "known.txt"
    file.write_text("test_values.py::test_rank*\n")
    code, output = run("lstsq_conformance", "--lstsq-backend", "numpy", "--lstsq-xfail", str(file))
    assert code == pytest.ExitCode.USAGE_ERROR
    assert "line 1" in output


@pytest.mark.parametrize("named", [(), ("-p", "lstsq_conformance.plugin")], ids=["installed", "and named"])
def test_tests_of_others_load_the_plugin_and_nothing_else_of_ours(tmp_path: Path, named: tuple[str, ...]) -> None:
    (tmp_path / "test_theirs.py").write_text(
        "import sys\n\n\ndef test_what_is_loaded():\n"
        "    ours = {name for name in sys.modules if name.startswith('lstsq')}\n"
        "    assert ours == {'lstsq_conformance', 'lstsq_conformance.plugin'}\n"
        "    assert not {'numpy', 'jax', 'mlx'} & set(sys.modules)\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", *named]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr


# The registry and the oracle: what everything is judged by.

_SMALL = [*cases.select("ratios"), *cases.select("scaled")]


@pytest.mark.parametrize("case", _SMALL, ids=[case.name for case in _SMALL])
def test_rank_of_every_case_is_beyond_doubt(case: cases.Case) -> None:
    for dtype in case.dtypes:
        problem = case.build(dtype)
        truth = problem.truth
        assert int(truth.kept.sum()) == problem.rank
        cutoff = reference.cutoff(problem.rcond, dtype, *problem.a.shape) * truth.s[0]
        everything = problem.rcond is not None and problem.rcond >= 1
        if "tie" in case.tags or truth.s[0] == 0 or everything:
            continue
        # No rounding error of a backward stable solver can carry a singular value over the cutoff.
        noise = 4 * reference.eps_of(dtype) * truth.s[0]
        assert (np.abs(truth.s - cutoff) > noise).all() or cutoff <= noise


@pytest.mark.parametrize("dtype", cases.DTYPES)
def test_oracle_gives_the_known_answers(dtype: str) -> None:
    for case in cases.select("answer"):
        problem = case.build(dtype)
        assert problem.answer is not None
        x = scaled(problem.truth.x, problem.powers)
        np.testing.assert_allclose(x, problem.answer, rtol=0, atol=1e-14)


def test_every_tag_is_used() -> None:
    assert {tag for tag in cases.TAGS if not cases.select(tag)} == set()


def test_residual_is_exact_where_double_precision_loses_everything() -> None:
    a, x = np.array([[1.0, 2.0**-53, -1.0]]), np.array([[1.0], [1.0], [1.0]])
    np.testing.assert_array_equal(reference.residual(a, x, np.array([[2.0**-53]])), [[0.0]])


@pytest.mark.parametrize(("of_a", "of_b"), [(0, 0), (970, 970), (-900, 100), (500, -500), (0, 1000)])
def test_ratios_do_not_depend_on_scale(of_a: int, of_b: int) -> None:
    a, b = (array.copy() for array in cases.find("full rank/5x3").build("float64").base)
    x, _, rank, s = np.linalg.lstsq(a, b, rcond=None)
    squares = reference.solve(a, b, 1e-10).residuals
    problem = cases.Problem(np.ldexp(a, of_a), np.ldexp(b, of_b), None, 3)
    with np.errstate(over="ignore", under="ignore"):
        answer = ratios.Answer(
            np.ldexp(x, of_b - of_a), np.ldexp(squares, 2 * of_b), np.asarray(rank), np.ldexp(s, of_a)
        )
        wrong = answer._replace(x=answer.x * (1 + 1e-9 * np.eye(3, 4)))
    for ratio in (ratios.singular_values, ratios.solution, ratios.minimum_norm, ratios.residuals, ratios.optimality):
        assert ratio(problem, answer) < 1, ratio.__name__
    assert 1e4 < ratios.solution(problem, wrong) < 1e8
    assert ratios.singular_values(problem, answer._replace(s=answer.s * 2)) > ratios.LIMIT
    if abs(of_b) < 500:
        assert ratios.residuals(problem, answer._replace(residuals=answer.residuals * 1.1)) > ratios.LIMIT


def test_what_the_dtype_cannot_hold_is_not_wrong() -> None:
    problem = cases.Problem(np.array([[2.0**-600], [0.0]]), np.array([[2.0**600, 1.0], [1.0, 1.0]]), None, 1)
    right = ratios.Answer(np.array([[np.inf, 2.0**600]]), np.array([1.0, 1.0]), np.array(1), np.array([2.0**-600]))
    assert max(ratio(problem, right) for ratio in (ratios.solution, ratios.residuals, ratios.optimality)) < 1
    for x in (-np.inf, 1e308, 0.0, np.nan):
        changed = right.x.copy()
        changed[0, 0] = x
        assert ratios.solution(problem, right._replace(x=changed)) > ratios.LIMIT, x
    # Infinite where it is a number.
    assert ratios.solution(problem, right._replace(x=np.full((1, 2), np.inf))) > ratios.LIMIT
    assert ratios.residuals(problem, right._replace(residuals=np.array([1.0, np.inf]))) > ratios.LIMIT


_STRADDLED = cases.select("straddled")


@pytest.mark.parametrize("case", _STRADDLED, ids=[case.name for case in _STRADDLED])
def test_rank_next_to_a_close_cutoff_is_beyond_doubt(case: cases.Case) -> None:
    problem = case.build(case.dtypes[0])
    exact = problem.exact
    assert exact.rank == problem.rank
    cutoff = reference.cutoff(problem.rcond, problem.dtype, *problem.a.shape) * exact.s[0]
    assert (np.abs(exact.s - cutoff) > 8 * 2.0**-52 * exact.rounding).all()
    # The data fix x: there is something to judge.
    assert (2.0**-52 * exact.changes < 0.2 * np.linalg.norm(exact.x, axis=0)).all()


def test_judgement_next_to_a_close_cutoff_knows_the_data() -> None:
    problem = cases.find("straddled/4.8e-14 40x60").build("float64")
    x = problem.exact.x
    scale = reference.eps_of("float64") * problem.exact.changes
    direction = np.random.default_rng(0).standard_normal(x.shape)
    direction /= np.linalg.norm(direction, axis=0)
    for factor in (0.0, 1.0, 20.0, 100.0):
        answer = ratios.Answer(
            np.ldexp(x + factor * scale * direction, problem.powers), np.zeros(2), np.array(0), np.zeros(40)
        )
        assert ratios.close_to_cutoff(problem, answer) == pytest.approx(factor, rel=0.01, abs=0.01)
