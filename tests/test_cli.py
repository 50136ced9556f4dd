"""The command line: problems and their files, metrics, both pages, and how commands end."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from html.parser import HTMLParser

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

import lstsq_cli
from lstsq import Solution
from lstsq_cli import app, data, peers, problems, solvers, timing
from lstsq_cli.compare import comparison, measure, metrics, peak, tables
from lstsq_cli.conformance import suite
from lstsq_cli.conformance import tables as conformance_tables
from lstsq_cli.errors import UserError
from lstsq_cli.tables.reading import Reading
from lstsq_conformance import nist

RNG = np.random.default_rng(5)
QUICK = ["--backend", "numpy", "--driver", "gelsd", "--no-memory", "--repeats", "1"]


def invoke(*arguments, code=0):
    result = CliRunner().invoke(app.app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result


def run_lstsq(*arguments, **options):
    command = [sys.executable, "-m", "lstsq_cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def compare(problem, rcond=None):
    found, refused = solvers.find(["numpy"], ["gelsd"], problem.a.dtype.name)
    return comparison.compare(problem, found, refused, rcond, 1, False, lambda label, left: None)


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    """Installs a backend whose `solve` is given."""

    def install(body):
        site = tmp_path / "site"
        (site / "strange-1.0.dist-info").mkdir(parents=True)
        (site / "strange-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: strange\nVersion: 1\n")
        (site / "strange-1.0.dist-info" / "entry_points.txt").write_text(
            "[lstsq.backends]\nstrange = strange:Strange\n"
        )
        (site / "strange.py").write_text(
            "from lstsq_numpy import NumpyBackend\n"
            "class Strange(NumpyBackend):\n"
            "    name = 'strange'\n"
            "    serves = ('strange',)\n"
            "    def solve(self, a, b, rcond, driver):\n"
            f"        {body}\n"
            "        return super().solve(a, b, rcond, driver)\n"
        )
        path = os.pathsep.join([str(site), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
        monkeypatch.setenv("PYTHONPATH", path)
        return {**os.environ, "PYTHONPATH": path}

    return install


class Clock:
    """In the place of the module `time`: seconds pass in `sleep` alone, in which the threads compute for so long."""

    def __init__(self, computed):
        self.computed, self.looks, self.now = computed, 0, 0.0

    def process_time(self):
        return sum(self.computed[: self.looks])

    def sleep(self, seconds):
        self.looks += 1
        self.now += seconds


class Page(HTMLParser):
    """What a page refers to, and what it has."""

    def __init__(self, page):
        super().__init__()
        self.sources, self.links, self.anchors, self.tags = [], [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        named = dict(attributes)
        self.tags.append(tag)
        self.sources += [named["src"]] if "src" in named else []
        self.links += [named["href"]] if "href" in named else []
        self.anchors += [named["id"]] if "id" in named else []


class TestProblems:
    def test_nist_problems_are_those_that_were_certified(self):
        names = ["Norris", "Pontius", "NoInt1", "NoInt2", "Filip", "Longley", *(f"Wampler{i}" for i in range(1, 6))]
        assert list(nist.names()) == names
        for name in names:
            problem = problems.nist(name.lower())
            assert problem.a.shape[1] == len(problem.columns) == len(problem.known)
            # Their own coefficients leave their own residual, in which rounding the coefficients has its part.
            left = np.sum((problem.b - problem.a @ problem.known) ** 2)
            rounding = (1e-13 * np.abs(problem.a) @ np.abs(problem.known)).max() ** 2 * len(problem.a)
            assert left == pytest.approx(float(nist.load(name).certified_residual), rel=1e-6, abs=rounding)

    def test_random_has_its_condition_and_its_seed(self):
        problem = problems.random(30, 4, 1e3, seed=3)
        assert np.linalg.cond(problem.a) == pytest.approx(1e3)
        np.testing.assert_array_equal(problem.a, problems.random(30, 4, 1e3, seed=3).a)
        assert not np.array_equal(problem.a, problems.random(30, 4, 1e3, seed=4).a)

    def test_rounding_to_a_dtype_loses_nothing_silently(self):
        with pytest.raises(UserError, match="a is complex"):
            problems.random(3, 2, 1, 0, "complex128").astype("float64")
        with pytest.raises(UserError, match="beyond the range of float32"):
            problems.Problem("", np.array([[1e300]]), np.ones((1, 1)), ("x",)).astype("float32")


class TestFiles:
    def write(self, path, text):
        path.write_text(text, encoding="utf-8")
        return path

    @pytest.mark.parametrize(
        ("name", "text", "options", "message"),
        [
            ("t.csv", "u,y\n1,2\n3,tall\n", (), r"t.csv, line 3, column 'y': got 'tall', expected a number\. Mend"),
            ("t.csv", 'u,y\n"1\n2",2\n3,4\n', (), r"line 3, column 'u': got '1\\n2'"),
            (
                "t.csv",
                "u,y\n1,\n3,4\n",
                (),
                r"line 2, column 'y': the cell is missing\. --drop-missing leaves such rows out",
            ),
            ("t.csv", "u,y\n\n1,2\n3,nan\n", (), r"line 4, column 'y': the cell is missing"),
            ("t.csv", "u,y\n1,2\n3\n", (), r"line 3: got 1 cells, expected 2"),
            ("t.csv", "u,y\n1,2\n", ("--target", "z"), r"--target: there is no column 'z'; expected one of u, y"),
            ("t.csv", "u,y\n1,2\n", ("--target", "2"), r"there is no column '2'.* an index from 0 to 1"),
            ("t.csv", "u,y\n1,2\n", ("--drop", "y", "--target", "y"), r"column 'y' is the target, and --drop names it"),
            ("t.csv", "y\n1\n2\n", (), r"no column is left for the matrix"),
            ("t.csv", "u,y\n", (), r"nothing to solve: 0 rows are left"),
            ("t.csv", "u,u,y\n1,2,3\n", ("--target", "u"), r"2 columns are called 'u'; expected one of .* 0, 1\."),
            ("t.csv", "u;y\n1,5;2\n", (), r"line 2, column 'u': got '1,5'.* --decimal , reads numbers like 1,5\."),
            ("t.csv", "1,5;2\n1;2\n", (), r"line 1: got '1,5', expected a number with a decimal point"),
            ("t.csv", "u,y\n1,2\n", ("--seed", "1"), r"--cond and --seed are for --random"),
            ("t.csv", "", (), r"the file is empty"),
            ("t.npy", "", (), r"t.npy: the file is no array of numbers"),
            ("t.npz", "junk", (), r"no .npz file"),
            ("t.parquet", "junk", (), r"cannot be read as Parquet"),
            ("t.xlsx", "junk", (), r"'.xlsx' says no format that is read; expected .csv"),
        ],
    )
    def test_what_is_wrong_is_said_in_a_line(self, tmp_path, name, text, options, message):
        result = invoke("compare", self.write(tmp_path / name, text), *options, *QUICK, code=2)
        assert re.search(message, result.stderr)
        assert result.stderr.count("\n") == 1
        assert result.stdout == ""

    def test_tables_without_their_reader_say_what_to_install(self, tmp_path, monkeypatch):
        for name in [name for name in sys.modules if name.startswith(("pyarrow", "lstsq_cli.tables."))]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        for name in ("t.parquet", "t.csv"):
            with pytest.raises(UserError, match="run `pip install pyarrow`"):
                data.read(self.write(tmp_path / name, ""), Reading())


class TestMetrics:
    @pytest.mark.parametrize("shape", [(12, 4), (5, 5)])
    @pytest.mark.parametrize("wrong", [1e-1, 1e-3, 1e-6])
    def test_backward_error_is_the_optimal_one(self, shape, wrong):
        a, b = RNG.standard_normal(shape), RNG.standard_normal((shape[0], 1))
        x = np.linalg.lstsq(a, b)[0] * (1 + wrong * RNG.standard_normal((shape[1], 1)))
        # Waldén, Karlson and Sun (1995), theorem 2.1: where only A is moved.
        r = b - a @ x
        phi = np.linalg.norm(r) / np.linalg.norm(x)
        side = phi * (np.eye(shape[0]) - r @ r.T / (r.T @ r))
        optimal = min(phi, np.linalg.svd(np.hstack([a, side]), compute_uv=False)[shape[0] - 1]) / np.linalg.norm(a)
        told = metrics.judge(metrics.make_stick(a, b, 1e-14), x).backward_error
        # The estimate is known to be within (√5 - 1)/2 of it, and in practice much nearer.
        assert 0.6 * optimal < told < 1.62 * optimal

    @pytest.mark.parametrize("scale", [1.0, 1e-150, 1e200])
    def test_a_good_answer_is_good_at_every_scale(self, scale):
        a, b = RNG.standard_normal((9, 3)), RNG.standard_normal((9, 2))
        x = np.linalg.lstsq(a, b)[0]
        told = metrics.judge(metrics.make_stick(scale * a, scale * b, 1e-14), x)
        # LAPACK's own limit of a good answer: 30 roundings of its largest dimension.
        assert max(told.backward_error, told.optimality, told.excess) < 30 * 9 * 2.0**-52
        assert told.residual == pytest.approx(scale * np.linalg.norm(b - a @ x))

    def test_excess_is_what_minimum_norm_forbids(self):
        a, b = np.array([[1.0, 1.0], [1.0, 1.0], [0.0, 0.0]]), np.array([[2.0], [2.0], [1.0]])
        stick = metrics.make_stick(a, b, 1e-14)
        assert stick.rank == 1
        assert metrics.judge(stick, np.array([[1.0], [1.0]])).excess < 1e-14
        longer = metrics.judge(stick, np.array([[2.0], [0.0]]))
        assert longer.backward_error < 1e-14
        assert longer.excess == pytest.approx(np.sqrt(0.5))

    def test_what_the_cutoff_takes_away_is_no_error(self):
        a, b = np.diag([1.0, 1e-3]), np.ones((2, 1))
        told = metrics.judge(metrics.make_stick(a, b, 1e-2), np.array([[1.0], [0.0]]))
        assert (told.backward_error, told.optimality, told.residual) == pytest.approx((0, 0, 1), abs=1e-14)

    def test_digits(self):
        eps = 2.0**-52
        assert metrics.digits(np.array([1.0, 2.0]), np.array([1.0, 2.002]), eps) == pytest.approx(3, abs=1e-3)
        assert metrics.digits(np.array([1.0, 1e-17]), np.array([1.0, 0.0]), eps) == -np.log10(eps)
        assert metrics.digits(np.array([1.0, 1e-9]), np.array([1.0, -1e-9]), eps) == 0
        assert metrics.digits(np.array([np.nan]), np.array([1.0]), eps) == 0

    @pytest.mark.skipif(
        not os.access("/proc/self/clear_refs", os.W_OK),
        reason="where a peak cannot be reset, the number is a lower bound",
    )
    def test_peak_memory_is_what_the_solver_takes(self, stranger):
        stranger("import numpy; a_thousand_copies = numpy.ones(1000 * a.size)")
        found = peak.measure(problems.random(200, 100, 10, 0), solvers.Solver("strange", None, "gelsd"), None)
        assert found.note == ""
        # And what BLAS takes for itself, when the second problem is the first that is large enough for it.
        assert 160_000_000 <= found.bytes < 2 * 160_000_000

    def test_peak_memory_says_why_there_is_none(self):
        found = peak.measure(problems.random(4, 2, 10, 0), solvers.Solver("numpy", None, "nonesuch"), None)
        assert found.bytes is None
        assert "unknown driver 'nonesuch'" in found.note


class TestCompare:
    def test_json_is_all_of_stdout(self):
        result = json.loads(invoke("compare", "--nist", "Norris", *QUICK, "--json").stdout)
        (solver,) = result["solvers"]
        assert (solver["label"], solver["rank"], result["problem"]["columns"]) == ("numpy gelsd", 2, ["intercept", "x"])
        assert solver["digits_of_known_x"] > 10
        assert solver["residual_norm"] ** 2 == pytest.approx(26.6173985294224, rel=1e-10)
        assert solver["residuals"] == pytest.approx([26.6173985294224], rel=1e-10)
        assert solver["seconds_all"] >= solver["seconds_x"] > 0

    def test_json_of_complex_numbers(self):
        options = ["--random", 5, 2, "--dtype", "complex64", *QUICK]
        result = json.loads(invoke("compare", *options, "--json").stdout)
        assert np.shape(result["solvers"][0]["x"]) == (2, 1, 2)

    def test_every_backend_and_driver_takes_part(self):
        labels = [solver.label for solver in solvers.find([], [], "float64")[0]]
        assert labels[0] == "numpy gelsd"
        for name, namespace in solvers.available(solvers.subjects([]), all_wanted=False):
            claims = app_backend(name).capabilities
            if "float64" in claims.dtypes:
                assert {solvers.Solver(name, namespace, driver).label for driver in claims.drivers} <= set(labels)

    def test_device(self):
        options = ["--nist", "Norris", "--backend", "numpy", "--backend", "mlx", "--driver", "svd", "--no-memory"]
        result = json.loads(invoke("compare", *options, "--device", "cpu", "--json").stdout)
        assert [(solver["label"], solver["device"]) for solver in result["solvers"]] == [
            ("numpy svd", "cpu"),
            ("mlx svd", "cpu"),
        ]
        assert "float64, on the cpu, rank 2" in " ".join(invoke("compare", *options, "--device", "cpu").stdout.split())
        for device in ("gpu", "cuda"):
            message = invoke("compare", "--nist", "Norris", "--backend", "numpy", "--device", device, code=2).stderr
            assert "no backend is left to solve with (numpy: it solves on no gpu)" in message
        message = invoke("compare", "--random", 5, 2, "--backend", "array_api_strict", "--device", "gpu", code=2).stderr
        assert "array_api_strict finds no gpu on this machine" in message

    def test_memory_of_a_gpu_is_not_measured(self):
        found = peak.measure(problems.random(5, 2, 1, 0), solvers.Solver("mlx", None, "svd", "gpu"), None)
        assert found.bytes is None
        assert "a GPU has its own" in found.note

    def test_unknown_names_list_those_there_are(self):
        for options, message in [
            (["--backend", "nonesuch"], "unknown backend 'nonesuch'; installed backends: .*numpy"),
            (["--driver", "nonesuch"], "no backend here has a driver 'nonesuch'; there are gelsd"),
            (["--nist", "nonesuch"], "there is no 'nonesuch'; expected one of Norris"),
        ]:
            options = options if "--nist" in options else ["--nist", "Norris", *options]
            assert re.search(message, invoke("compare", *options, code=2).stderr)

    @pytest.mark.parametrize(
        "options", [[], ["--nist", "Norris", "--random", 3, 2], ["--nist", "Norris", "--target", "y"]]
    )
    def test_one_problem_is_wanted(self, options):
        assert "FILE" in invoke("compare", *options, code=2).stderr

    @pytest.mark.parametrize("width", [80, 200])
    def test_tables_fit(self, width):
        problem = problems.random(60, 40, 1e20, 0)
        shown = Console(width=width, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
        result = compare(problem)
        tables.show(result, shown, rows=12)
        text = shown.export_text()
        assert max(map(len, text.splitlines())) <= width
        assert "… 28 more coefficients: --rows 40 shows all" in text
        # The values on both sides of the cutoff are there, whatever is left out.
        assert result.rank < 40
        for i in (result.rank, result.rank + 1):
            assert re.search(rf"^ *{i} +{re.escape(f'{result.s[i - 1]:.6g}')}", text, re.MULTILINE)

    def test_a_failing_solver_takes_nothing_with_it(self, monkeypatch):
        backend = type(app_backend("numpy"))
        solve = backend.solve
        calls = iter([True])

        def fail_once(self, a, b, rcond, driver):
            if next(calls, False):
                raise ArithmeticError("no luck")
            return solve(self, a, b, rcond, driver)

        monkeypatch.setattr(backend, "solve", fail_once)
        problem, solver = problems.random(5, 2, 1, 0), solvers.Solver("numpy", None, "gelsd")
        result = comparison.compare(problem, [solver, solver], [], None, 1, False, lambda label, left: None)
        assert len(result.entries) == 1
        assert result.absent[0].reason == "ArithmeticError: no luck"

    def test_page_is_one_file_with_its_plots(self, tmp_path):
        target = tmp_path / "page.html"
        invoke("compare", "--nist", "Longley", "--nist", "Longley", *QUICK, "--html", target)
        page = target.read_text(encoding="utf-8")
        found = Page(page)
        assert len(found.sources) == 4
        assert all(source.startswith("data:image/svg+xml;base64,") for source in found.sources)
        assert found.links == ["data:,"]  # The icon, which a browser would ask for.
        assert "url(" not in page
        assert "-34822" in page  # Its condition number of 5e9 leaves so many digits in double precision.

    def test_plots_of_every_kind_of_problem(self):
        from lstsq_cli.compare import page

        for problem in (
            problems.random(3000, 70, 1e20, 0),
            problems.random(4, 9, 10, 0, "complex128"),
            problems.Problem("zeros", np.zeros((3, 2)), np.ones((3, 2)), ("u", "v")),
            problems.Problem("<one>", np.ones((1, 1)), np.zeros((1, 1)), ("<u>",)),
        ):
            html = page.page(compare(problem))
            assert len(Page(html).sources) == 4
            assert "<one>" not in html
            assert "<u>" not in html

    def test_where_the_page_cannot_go_is_said_before_the_work(self, tmp_path):
        for target in (tmp_path, tmp_path / "none" / "page.html"):
            result = invoke("compare", "--nist", "Norris", "--html", target, code=2)
            assert "cannot be written" in result.stderr

    def test_the_page_is_not_written_over_the_data(self, tmp_path):
        path = tmp_path / "t.csv"
        path.write_text("u,y\n1,2\n3,4\n")
        assert "the FILE that is read" in invoke("compare", path, *QUICK, "--html", path, code=2).stderr
        assert path.read_text() == "u,y\n1,2\n3,4\n"

    def test_plots_draw_once_what_they_cannot_tell_apart(self):
        from lstsq_cli.compare import plots

        labels = ["numpy gelsd"] * 3
        same = np.array([1.0, 5.0, np.nan])
        assert plots._told_apart(labels, [same, same + 0.03, same]) == [("all 3 solvers", 0)]
        told = plots._told_apart(labels, [same, same + 0.3, same - 0.01])
        assert told == [("numpy gelsd, numpy gelsd", 0), ("numpy gelsd", 1)]

    def test_a_driver_that_declines_is_told_from_one_that_fails(self, monkeypatch):
        backend = type(app_backend("numpy"))
        monkeypatch.setattr(
            backend, "solve", lambda self, a, b, rcond, driver: Solution(b[:2] * np.nan, b[0], 0, b[:2, 0])
        )
        problem, solver = problems.random(5, 2, 1, 0), solvers.Solver("numpy", None, "gelsd")
        for declines, reason in (((), "x is not finite"), (("gelsd",), "it declines what it cannot certify")):
            claims = dataclasses.replace(backend.capabilities, declines=declines)
            monkeypatch.setattr(backend, "capabilities", claims)
            (answer,) = measure.measure(problem, [solver], None, 1, lambda label, left: None)
            assert answer.failure == reason

    @pytest.mark.parametrize(
        ("seconds", "each", "made", "timed"), [(0.001, 1, 6, 3), (0.001, 5, 18, 15), (0.1, 5, 7, 6)]
    )
    def test_a_brief_call_is_timed_after_one_that_is_not(self, monkeypatch, seconds, each, made, timed):
        monkeypatch.setattr(timing, "wait_until_idle", lambda: None)
        calls = []
        times = timing.in_turns({"one": lambda: calls.append(1) or (seconds,)}, rounds=3, each=each)
        assert (len(calls), times) == (made, {"one": [(seconds,)] * timed})

    def test_every_call_has_its_turn_and_none_begins_when_time_is_over(self, monkeypatch):
        monkeypatch.setattr(timing, "wait_until_idle", lambda: None)
        told = []
        calls = {name: lambda: (1.0,) for name in ("one", "other")}
        times = timing.in_turns(calls, rounds=9, budget=-1.0, told=lambda *turn: told.append(turn))
        assert {name: len(taken) for name, taken in times.items()} == {"one": 3, "other": 3}
        assert [left for _, left in told] == [18, 18, 16, 16, 14, 14]
        assert {name for name, _ in told[:2]} == {name for name, _ in told[2:4]} == set(calls)

    def test_as_many_calls_are_timed_as_asked_for(self):
        solver, problem = solvers.Solver("numpy", None, "gelsd"), problems.random(5, 2, 1, 0)
        for repeats in (1, 4):
            (answer,) = measure.measure(problem, [solver], None, repeats, lambda label, left: None)
            assert len(answer.seconds_x) == len(answer.seconds_all) == repeats

    def test_a_turn_begins_when_the_threads_of_the_one_before_are_idle(self, monkeypatch):
        clock = Clock([timing.LOOK, 2 * timing.LOOK, 0.5 * timing.LOOK, 0.0])
        monkeypatch.setattr(timing, "time", clock)
        timing.wait_until_idle()
        assert (clock.looks, clock.now) == (4, pytest.approx(4 * timing.LOOK))

    def test_a_thread_that_never_sleeps_does_not_stop_everything(self, monkeypatch):
        clock = Clock([timing.LOOK] * 1000)
        monkeypatch.setattr(timing, "time", clock)
        timing.wait_until_idle()
        assert clock.looks == timing.LOOKS

    def test_excess_is_held_against_the_gap_at_the_cutoff(self):
        result = compare(problems.random(9, 3, 1e20, 0))
        wide, narrow = (
            dataclasses.replace(result, truth=dataclasses.replace(result.truth, s=np.array(s), rank=2))
            for s in ([1.0, 0.5, 1e-17], [1.0, 2e-14, 1e-14])
        )
        assert (wide.is_large_excess(1e-12), narrow.is_large_excess(1e-12)) == (True, False)
        assert narrow.is_large_excess(0.9) is False
        assert wide.is_large_excess(1e-15) is False

    def test_who_computes_in_single_precision_is_named(self):
        found, refused = solvers.find(["numpy", "jax"], ["svd"], "float32")
        problem = problems.random(9, 3, 10, 0).astype("float32")
        result = comparison.compare(problem, found, refused, None, 1, False, lambda label, left: None)
        assert result.singly == ["jax svd"]
        assert any(line.startswith("jax svd: promises no more than single") for line in tables.notes(result))
        assert compare(problems.random(9, 3, 10, 0)).singly == []


class TestConformance:
    @pytest.fixture(autouse=True)
    def _one_file_of_the_suite(self, monkeypatch):
        monkeypatch.setattr(suite, "SUITE", ("--pyargs", "lstsq_conformance.test_errors"))

    def test_an_honest_backend_passes(self, monkeypatch):
        steps = []
        monkeypatch.setattr(app._Progress, "step", lambda self, *step: steps.append(step))
        result = invoke("conformance", "--backend", "numpy", "--json")
        told = json.loads(result.stdout)
        assert told["passed"]
        assert told["runs"]["numpy"]["passed"] == sum(cell["passed"] for cell in told["cells"]) > 5
        assert "errors" in {cell["row"] for cell in told["cells"]}
        # First how many there are, then each as it ends.
        assert steps == [("numpy", len(steps) - 1), *[("numpy", None)] * (len(steps) - 1)]

    def test_a_wrong_one_fails_with_a_page_of_its_failures(self, tmp_path, stranger):
        environment = stranger("driver = driver.upper(); raise RuntimeError('<sorry>')")
        code = (
            "from lstsq_cli import main; from lstsq_cli.conformance import suite; import sys\n"
            "suite.SUITE = ('--pyargs', 'lstsq_conformance.test_empty')\n"
            "sys.argv = ['lstsq', 'conformance', '--backend', 'strange', '--driver', 'gelsd', '--html', 'page.html']\n"
            "main()\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 1, done.stderr
        assert re.search(r"empty +✗ \d+/\d+", done.stdout)
        assert "RuntimeError: <sorry>" in done.stdout
        page = (tmp_path / "page.html").read_text(encoding="utf-8")
        found = Page(page)
        assert found.anchors
        assert {link.removeprefix("#") for link in found.links} == {"data:,", *found.anchors}
        assert "&lt;sorry&gt;" in page
        assert "<sorry>" not in page

    def test_a_backend_that_dies_has_failed_where_it_died(self, stranger, monkeypatch):
        stranger("import os; os.abort()")
        matrix = suite.Matrix()
        monkeypatch.setattr(suite, "SUITE", ("--pyargs", "lstsq_conformance.test_empty"))
        suite.run(matrix, ("strange", None), ["gelsd"], [], None, None, 1, lambda label, left: None)
        ((_, cell),) = [(place, cell) for place, cell in matrix.cells.items() if cell.failures]
        assert cell.failures[0].test.startswith("test_empty.py::")
        assert "the process ended here with signal 6" in cell.failures[0].message

    def test_a_function_of_another_library_is_held_to_the_contract(self, monkeypatch):
        monkeypatch.setattr(
            suite, "SUITE", ("--pyargs", "lstsq_conformance.test_empty", "lstsq_conformance.test_errors")
        )
        # That it fails is no failure of ours: the exit code is 0.
        told = json.loads(invoke("conformance", "--peer", "numpy.linalg", "--dtype", "float64", "--json").stdout)
        (cell,) = told["cells"]
        assert (cell["backend"], cell["row"], told["passed"]) == ("numpy.linalg", "empty", False)
        assert cell["passed"] > 3
        assert "Failed: numpy.linalg gives no residuals here" in {failure["message"] for failure in cell["failures"]}
        assert told["versions"] == {"numpy.linalg": f"numpy {np.__version__}"}

    def test_where_every_test_is_skipped_nothing_is_claimed(self):
        cells = [suite.Cell(Counter(counts)) for counts in ({"skipped": 3}, {"skipped": 3, "passed": 2})]
        assert [conformance_tables.written(cell) for cell in cells] == ["–", "✓ 2"]

    def test_one_that_does_not_return_is_left_out_and_the_rest_is_run(self, tmp_path, monkeypatch):
        forever = tmp_path / "test_forever.py"
        forever.write_text(
            "import time, pytest\n"
            "def test_before(): pass\n"
            "@pytest.mark.parametrize('seconds', [600, 601])\n"
            "def test_forever(seconds): time.sleep(seconds)\n"
            "def test_after(): pass\n"
        )
        monkeypatch.setattr(suite, "SUITE", (str(forever),))
        monkeypatch.setattr(suite, "PATIENCE", 2.0)
        matrix = suite.Matrix(of_peers=True)
        suite.run_peer(matrix, peers.find("numpy.linalg"), [], 1, lambda label, left: None)
        assert dict(matrix.counts["numpy.linalg"]) == {"passed": 2, "failed": 1}
        (failure,) = [failure for _, _, cell in matrix.failing() for failure in cell.failures]
        assert failure.test == "test_forever.py::test_forever[600]"
        assert failure.message == "it does not return in 2 seconds"

    def test_what_cannot_run_is_said(self):
        for options, message in [
            (["--peer", "nonesuch"], "there is no 'nonesuch'; expected one of numpy.linalg, scipy.linalg gelsd"),
            (["--peers", "--backend", "numpy"], "--peers takes no --backend"),
            (["--backend", "nonesuch"], "unknown backend 'nonesuch'; installed backends: "),
            (["--backend", "numpy", "--driver", "nonesuch"], "nonesuch is not claimed by the backend; it claims gelsd"),
            (["--backend", "numpy", "--driver", "nonesuch"], "numpy: --driver: nonesuch"),
            (
                ["--backend", "numpy", "--device", "gpu"],
                "numpy: --device: gpu is not claimed by the backend; it claims cpu",
            ),
            (["--namespace", "torch"], "--namespace is for one --backend"),
            (["--backend", "numpy", "--namespace", "torch"], "the backend numpy serves numpy; got 'torch'"),
            (["--backend", "numpy", "--html", "/nonesuch/page.html"], "cannot be written"),
        ]:
            assert message in invoke("conformance", *options, code=2).stderr


class TestBackends:
    def test_lists_versions_and_what_is_missing(self):
        told = json.loads(invoke("backends", "--json").stdout)
        by_name = {library["name"]: library for library in told["backends"]}
        assert f"numpy {np.__version__}" in by_name["numpy"]["versions"]
        for library in told["backends"]:
            # Either there, with a version, or missing, with what to do.
            assert bool(library["missing"]) != bool(library["drivers"])
        assert "numpy" in invoke("backends").stdout

    def test_lists_the_devices_that_are_here(self):
        from lstsq_cli import solvers

        by_name = {library["name"]: library for library in json.loads(invoke("backends", "--json").stdout)["backends"]}
        for name in ("numpy", "jax", "mlx"):
            assert by_name[name]["devices"] == list(solvers.devices(name, None))
            assert by_name[name]["devices"][0] == "cpu"
        lines = [line.strip() for line in invoke("backends").stdout.splitlines()]
        assert any(line.split()[:1] == ["cpu"] for line in lines)

    def test_names_the_line_that_installs(self, monkeypatch):
        from lstsq_cli import backends

        find_spec = backends.importlib.util.find_spec
        monkeypatch.setattr(
            backends.importlib.util, "find_spec", lambda name: None if name in ("pyarrow", "cupy") else find_spec(name)
        )
        shown = invoke("backends").stdout
        assert "tables from files is missing: pip install pyarrow" in shown
        assert "array_api on cupy is missing: pip install cupy" in shown


class TestEnding:
    def test_no_traceback_and_code_2(self, tmp_path):
        (tmp_path / "t.csv").write_text("u,y\n1,x\n2,3\n")
        done = run_lstsq("compare", tmp_path / "t.csv")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"lstsq: {tmp_path / 't.csv'}, line 2, column 'y': got 'x'")
        assert run_lstsq("nonesuch").returncode == 2
        assert run_lstsq("compare", "--repeats", "0").returncode == 2

    def test_without_typer_it_says_what_to_install(self):
        code = "import sys; sys.modules['typer'] = None; import lstsq_cli; lstsq_cli.main()"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert done.stderr == "lstsq: the command line needs typer; run `pip install typer rich`.\n"

    @pytest.mark.skipif(os.name != "posix", reason="signals")
    @pytest.mark.parametrize("command", ["compare", "conformance"])
    def test_an_interrupted_run_ends_with_code_2(self, tmp_path, command):
        # The command runs as it is; only what takes time is replaced by something that takes for ever.
        code = (
            "import sys, time, lstsq_cli, pathlib\n"
            "from lstsq_cli.compare import comparison\n"
            "from lstsq_cli.conformance import suite\n"
            "def forever(*arguments):\n"
            f"    pathlib.Path({str(tmp_path / 'begun')!r}).touch()\n"
            "    time.sleep(600)\n"
            "comparison.compare = suite.run = forever\n"
            "lstsq_cli.main()\n"
        )
        options = ["--nist", "Norris"] if command == "compare" else ["--backend", "numpy"]
        assert _interrupted(code, command, *options, begun=tmp_path / "begun") == (2, "", "lstsq: interrupted.\n")

    @pytest.mark.skipif(os.name != "posix", reason="signals")
    def test_an_interrupt_leaves_no_process_and_no_folder(self, tmp_path):
        """Only the command hears of it, as of `kill -INT`; the process that runs the suite is a test that waits."""
        begun, tests, temporary = tmp_path / "begun", tmp_path / "test_forever.py", tmp_path / "temporary"
        temporary.mkdir()
        tests.write_text(
            "import os, pathlib, time\n"
            "def test_forever():\n"
            f"    pathlib.Path({str(begun)!r}).write_text(str(os.getpid()))\n"
            "    time.sleep(600)\n"
        )
        code = (
            "import tempfile, lstsq_cli\n"
            "from lstsq_cli.conformance import suite\n"
            f"tempfile.tempdir = {str(temporary)!r}\n"
            f"suite.SUITE = ({str(tests)!r},)\n"
            "lstsq_cli.main()\n"
        )
        ended = _interrupted(code, "conformance", "--backend", "numpy", begun=begun)
        assert ended == (2, "", "lstsq: interrupted.\n")
        with pytest.raises(ProcessLookupError):
            os.kill(int(begun.read_text()), 0)
        assert list(temporary.iterdir()) == []

    @pytest.mark.skipif(os.name != "posix", reason="signals")
    @pytest.mark.parametrize("where", ["in a long call", "in a destructor", "in a library that drops exceptions"])
    def test_an_interrupt_that_python_would_lose(self, tmp_path, where):
        begun = tmp_path / "begun"
        lost = {
            "in a long call": "numpy.linalg.svd(numpy.eye(3000) + 1)",
            "in a destructor": "Lost()",
            "in a library that drops exceptions": "with contextlib.suppress(BaseException): time.sleep(600)",
        }
        code = (
            "import contextlib, pathlib, time, lstsq_cli, numpy\n"
            "from lstsq_cli.compare import comparison\n"
            "class Lost:\n"
            "    def __del__(self):\n"
            "        time.sleep(600)\n"
            "def forever(*arguments):\n"
            f"    pathlib.Path({str(begun)!r}).touch()\n"
            f"    {lost[where]}\n"
            "    time.sleep(600)\n"
            "comparison.compare = forever\n"
            "lstsq_cli.main()\n"
        )
        assert _interrupted(code, "compare", "--nist", "Norris", begun=begun) == (2, "", "lstsq: interrupted.\n")

    def test_output_that_nobody_reads(self):
        done = subprocess.run(
            f"{sys.executable} -m lstsq_cli backends | true", shell=True, capture_output=True, text=True, check=False
        )
        assert done.stderr == ""


def _interrupted(code, *arguments, begun):
    """How this program ends, and what it says, if it gets Ctrl-C a while after it has made the file `begun`."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Where the tests run in the background of a shell, they ignore Ctrl-C, and would hand that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not begun.exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=60)
    return process.returncode, out, error


def app_backend(name):
    from lstsq import get_backend

    return get_backend(name)


def test_importing_the_package_imports_nothing_heavy():
    code = "import lstsq_cli, sys; print([m for m in ('typer', 'rich', 'numpy', 'matplotlib') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert lstsq_cli.main is not None
