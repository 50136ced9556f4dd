"""The truth, against mpmath; what is said of answers that are wrong in a known way; and the adapters of the peers."""

from __future__ import annotations

import dataclasses
import itertools

import mpmath
import numpy as np
import pytest

import lstsq
from lstsq_cli import peers, problems, solvers
from lstsq_cli.compare import comparison, measure, truth, verdict
from lstsq_conformance import nist

RNG = np.random.default_rng(18)
START = RNG.bit_generator.state


@pytest.fixture(autouse=True)
def same_numbers():
    """In whatever order and company the tests run."""
    RNG.bit_generator.state = START


EPS = 2.0**-52


def compare(a, b, *chosen, rcond=None):
    problem = problems.Problem("drawn", a, b, tuple(f"x{i}" for i in range(a.shape[1])))
    solvers.prepare(a.dtype.name)
    found = chosen or (solvers.Solver("numpy", None, "gelsd"),)
    return comparison.compare(problem, found, (), rcond, 1, False, lambda label, left: None)


def peer(label):
    found = peers.find(label)
    return solvers.Solver(found.host, found.namespace, found.method, None, label)


def dummies(m=60):
    """A constant and an indicator for each of four groups, whose sum it is: rank 5 of 6."""
    group = np.arange(m) % 4
    rng = np.random.default_rng(0)
    a = np.column_stack([np.ones(m), *(group == i for i in range(4)), rng.standard_normal(m)])
    return a, a @ np.arange(1.0, 7.0)[:, None] + rng.standard_normal((m, 1))


def hilbert(n=12):
    a = 1 / (np.arange(n)[:, None] + np.arange(n) + 1.0)
    return a, a @ np.ones((n, 1))


def exactly(a, b, rank):
    """The truncated solution, its residual and the singular values, by the eigenvalues of the Gram matrix."""
    with mpmath.workdps(60):
        tall = a.shape[0] >= a.shape[1]
        m, right = mpmath.matrix(a.tolist()), mpmath.matrix(b.tolist())
        if a.dtype.kind == "c":
            squares, vectors = mpmath.eighe(m.H * m if tall else m * m.H)
        else:
            squares, vectors = mpmath.eigsy(m.T * m if tall else m * m.T)
        x = mpmath.zeros(a.shape[1], b.shape[1])
        order = sorted(range(len(squares)), key=lambda i: -squares[i])
        for i in order[:rank]:
            q = vectors[:, i]
            x += q * (q.H * (m.H * right)) / squares[i] if tall else m.H * (q * (q.H * right)) / squares[i]
        left = right - m * x
        norms = [float(mpmath.norm(left[:, j])) for j in range(b.shape[1])]
        s = [float(mpmath.sqrt(abs(squares[i]))) for i in order]
        return np.array(x.tolist(), complex if a.dtype.kind == "c" else float), np.array(norms), np.array(s)


class TestTruth:
    @pytest.mark.parametrize(
        ("problem", "rank"),
        [
            (lambda: (nist.load("Longley").a, nist.load("Longley").b[:, None]), 7),
            (lambda: (nist.load("Filip").a, nist.load("Filip").b[:, None]), 10),
            (dummies, 5),
            (hilbert, 11),
            (lambda: (dummies()[0].T.copy(), RNG.standard_normal((6, 2))), 5),
            (lambda: (RNG.standard_normal((4, 9)) * 1e-150, RNG.standard_normal((4, 2)) * 1e100), 4),
            (lambda: (RNG.standard_normal((7, 3)) + 1j * RNG.standard_normal((7, 3)), np.eye(7, 2) + 0j), 3),
        ],
        ids=["Longley", "Filip", "dummies", "Hilbert", "wide and deficient", "scaled", "complex"],
    )
    def test_is_that_of_mpmath(self, problem, rank):
        a, b = problem()
        found = truth.find(a, b, EPS * max(a.shape))
        x, residuals, s = exactly(a, b, rank)
        assert found.rank == rank
        assert "106 bits" in found.method
        size = np.abs(x).max()
        np.testing.assert_allclose(found.solution.x / size, x / size, rtol=0, atol=8 * EPS)
        np.testing.assert_allclose(found.s, s, rtol=0, atol=8 * EPS * s[0])
        np.testing.assert_allclose(found.solution.residuals, residuals, rtol=8 * EPS, atol=EPS * np.linalg.norm(b))

    def test_many_rows_are_reduced_block_by_block(self):
        a, b = RNG.integers(-9, 10, (20_000, 4)).astype(float), RNG.integers(-9, 10, (20_000, 1)).astype(float)
        found = truth.find(a, b, EPS)
        # Sums of such integers are exact, and the Gram matrix has a condition near 1.
        np.testing.assert_allclose(found.solution.x, np.linalg.solve(a.T @ a, a.T @ b), rtol=1e-12)
        np.testing.assert_allclose(found.s**2, np.linalg.eigvalsh(a.T @ a)[::-1], rtol=1e-12)

    def test_what_is_too_large_is_refined_in_double_precision(self, monkeypatch):
        a, b = nist.load("Longley").a, nist.load("Longley").b[:, None]
        exact = truth.find(a, b, EPS * 16).solution
        monkeypatch.setattr(truth, "_COLUMNS", 3)
        found = truth.find(a, b, EPS * 16)
        assert "double precision" in found.method
        assert found.rank == 7
        # The condition number is 5e9, and double precision alone has 11 digits.
        np.testing.assert_allclose(found.solution.x, exact.x, rtol=1e-14)
        np.testing.assert_allclose(found.solution.residuals, exact.residuals, rtol=1e-14)
        # And what is larger yet is not refined, which is said.
        monkeypatch.setattr(truth, "_REFINED", 3)
        found = truth.find(a, b, EPS * 16)
        assert found.method == "SVD in double precision, to 5 digits or more"
        np.testing.assert_allclose(found.solution.x, exact.x, rtol=1e-5)


class TestVerdict:
    def judged(self, result, **changes):
        (entry,) = result.entries
        if "x" in changes:
            changes["metrics"] = comparison.metrics.judge(result.stick, changes["x"])
            changes["x_digits"] = comparison.metrics.digits(changes["x"], result.truth.solution.x, result.eps)
        return verdict.of(result, dataclasses.replace(entry, **changes))

    def test_right(self):
        for a, b in (dummies(), hilbert(), (RNG.standard_normal((5, 9)), RNG.standard_normal((5, 2)))):
            result = compare(a, b)
            assert self.judged(result) == (verdict.RIGHT, "")
            assert self.judged(result, rank=None, s=None, residuals=None).kind == verdict.RIGHT

    def test_each_fault_has_its_name(self):
        result = compare(*dummies())
        x, none = result.truth.solution.x, np.array([1.0, -1, -1, -1, -1, 0])[:, None]
        for changes, kind, why in [
            ({"rank": 6}, verdict.WRONG, "x is right, and it says rank 6, and it is 5"),
            ({"residuals": result.entries[0].residuals * 1.5}, verdict.WRONG, "x is right, and the residuals that"),
            ({"x": x + none}, verdict.LONGER, " times as long"),
            ({"x": x + 1e13 * none}, verdict.WRONG, "e+12 times as long; its residual is "),
            ({"x": x * (1 + 1e-5)}, verdict.WRONG, "x is right to 5.0 digits only"),
            ({"x": x * 0.5}, verdict.WRONG, "times the smallest"),
        ]:
            found = self.judged(result, **changes)
            assert found.kind == kind
            assert why in found.why

    def test_another_cutoff_is_not_called_wrong(self):
        a, b = np.diag([1.0, 0.5, 1e-12]), np.ones((3, 1))
        result = compare(a, b)
        assert result.rank == 3
        found = self.judged(result, x=np.array([[1.0], [2.0], [0.0]]), rank=2)
        assert found == (verdict.OTHER_CUTOFF, "keeps 2 of 3 singular values, and the contract 3")
        # Whoever says one rank and solves with another is wrong.
        assert self.judged(result, x=np.array([[1.0], [2.0], [0.0]]), rank=3).kind == verdict.WRONG
        # And who has no cutoff keeps them all.
        result = compare(a, b, rcond=1e-6)
        found = self.judged(result, x=np.array([[1.0], [2.0], [1e12]]), rank=None)
        assert found == (verdict.OTHER_CUTOFF, "keeps 3 of 3 singular values, and the contract 2")

    def test_single_precision_is_held_against_its_own_rounding(self):
        a, b = RNG.standard_normal((30, 3)).astype("float32"), RNG.standard_normal((30, 1)).astype("float32")
        result = compare(a, b)
        x = result.truth.solution.x
        assert self.judged(result, x=(x * (1 + 2e-7))).kind == verdict.RIGHT
        assert self.judged(result, x=(x * (1 + 2e-4))).kind == verdict.WRONG

    def test_one_that_answers_differently_from_call_to_call(self, monkeypatch):
        a, b = dummies()
        right = np.linalg.lstsq(a, b)
        half = (right[0] / 2, None, 4, None)
        for answers in ((right, half), (half, right)):
            calls = itertools.cycle(answers)
            monkeypatch.setattr(measure, "function", lambda solver, rcond, calls=calls: lambda a, b: next(calls))
            problem = problems.Problem("drawn", a, b, tuple("uvwxyz"))
            found = comparison.compare(problem, [peer("numpy.linalg")], (), None, 3, False, lambda *_: None)
            (entry,) = found.entries
            told = verdict.of(found, entry)
            assert (entry.unsteady, entry.rank, told.kind) == (True, 4, verdict.WRONG)
            assert told.why.startswith("not the same at each call, and at worst: it says rank 4")
        calls = itertools.cycle([right, (right[0] * (1 + 1e-12), *right[1:])])
        monkeypatch.setattr(measure, "function", lambda solver, rcond: lambda a, b: next(calls))
        assert not compare(a, b, peer("numpy.linalg")).entries[0].unsteady

    def test_who_gives_no_answer_is_named(self, monkeypatch):
        def refuse(solver, rcond):
            raise ArithmeticError("no luck.\nMore of it.")

        function = solvers.function
        monkeypatch.setattr(measure, "function", lambda s, r: (refuse if s.peer else function)(s, r))
        result = compare(*dummies(), solvers.Solver("numpy", None, "gelsd"), peer("numpy.linalg"))
        assert "no answer: numpy.linalg: ArithmeticError: no luck." in list(verdict.lines(result))

    def test_a_backend_that_cannot_tell_what_ran_has_answered_all_the_same(self, monkeypatch):
        backend = type(lstsq.get_backend("numpy"))

        def fail(*given):
            raise RuntimeError("no report.")

        monkeypatch.setattr(backend, "ran", fail)
        result = compare(*dummies())
        assert list(verdict.ways(result)) == ["numpy gelsd: it does not tell, for RuntimeError: no report."]
        assert self.judged(result).kind == verdict.RIGHT

    def test_lines_name_everyone_once(self):
        result = compare(*dummies(), *(solvers.Solver("numpy", None, driver) for driver in ("gelsd", "svd")))
        first, *_, data = list(verdict.lines(result))
        assert first.startswith("right: all 2: ")
        assert "lies between σ5" in data
        assert "and σ6, 0 σ₁" in data
        assert (len(verdict.alike(result)), verdict.unlike(result)) == (2, [])
        broken = dataclasses.replace(result.entries[1], rank=2)
        told = list(verdict.lines(dataclasses.replace(result, entries=(result.entries[0], broken))))
        assert told[0].startswith("right: numpy gelsd: ")
        assert told[1] == "wrong: numpy svd: x is right, and it says rank 2, and it is 5."

    def test_certified_values_that_the_cutoff_drops(self):
        problem = problems.nist("Filip")
        found = (solvers.Solver("numpy", None, "svd"),)
        told = [
            list(verdict.lines(comparison.compare(problem, found, (), rcond, 1, False, lambda *_: None)))[-1]
            for rcond in (None, 0.0)
        ]
        assert "keeps all 11 singular values, and this cutoff 10; --rcond 0 keeps them all" in told[0]
        assert "digits of the certified x" in told[1]


class TestPeers:
    @pytest.mark.parametrize("label", [found.label for found in peers.PEERS])
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_each_solves_in_the_dtype_of_its_input(self, label, dtype):
        if not peers.find(label).installed:
            pytest.skip(f"{peers.find(label).requires} is not installed")
        there, refused = solvers.find_peers(dtype)
        if label in {refusal.label for refusal in refused}:
            pytest.skip(next(refusal.reason for refusal in refused if refusal.label == label))
        assert peer(label) in there
        rng = np.random.default_rng(0)
        a, b = rng.standard_normal((20, 4)).astype(dtype), rng.standard_normal((20, 2)).astype(dtype)
        result = compare(a, b, peer(label))
        (entry,) = result.entries
        assert verdict.of(result, entry) == (verdict.RIGHT, "")
        assert entry.x.dtype == dtype
        gives = peers.find(label).gives
        assert {part for part in peers.EVERYTHING if getattr(entry, part) is not None} == set(gives)

    @pytest.mark.parametrize(
        ("label", "right"),
        [
            ("numpy.linalg", True),
            ("scipy.linalg gelsd", True),
            # What they answer, or whether they do, is decided by the rounding of a pivot that should be 0.
            ("dask.array", False),
            ("torch.linalg gels", False),
            ("torch.linalg gelsd", True),
            ("lineax QR", False),
            ("lineax SVD", True),
        ],
    )
    def test_indicators_of_every_group(self, label, right):
        pytest.importorskip(peers.find(label).requires)
        result = compare(*dummies(), peer(label))
        kinds = [verdict.of(result, entry).kind for entry in result.entries]
        assert (kinds == [verdict.RIGHT]) == right

    def test_scipys_cutoff_does_not_grow_with_the_rows(self):
        problem = problems.nist("Filip")
        found = tuple(peer(f"scipy.linalg {driver}") for driver in ("gelsd", "gelsy", "gelss"))
        result = comparison.compare(problem, found, (), None, 1, False, lambda *_: None)
        assert {verdict.of(result, entry).kind for entry in result.entries} == {verdict.OTHER_CUTOFF}

    def test_they_take_part_unless_a_backend_is_named(self, monkeypatch):
        from typer.testing import CliRunner

        from lstsq_cli import app

        asked = []
        monkeypatch.setattr(solvers, "find_peers", lambda *given: asked.append(given) or ((), ()))
        runner, options = CliRunner(), ["compare", "--nist", "Norris", "--no-memory", "--repeats", "1"]
        for more, count in ((["--backend", "numpy"], 0), (["--backend", "numpy", "--peers"], 1), (["--no-peers"], 0)):
            asked.clear()
            monkeypatch.setattr(solvers, "subjects", lambda names: [("numpy", None)])
            assert runner.invoke(app.app, [*options, *more]).exit_code == 0
            assert len(asked) == count
