"""One comparison: a problem, what each solver says to it, and how good that is."""

from __future__ import annotations

import dataclasses
import math
import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import lstsq
from lstsq_cli import peers, timing
from lstsq_cli.compare import measure, metrics, peak, truth, verdict
from lstsq_cli.compare.metrics import Metrics, Stick
from lstsq_cli.compare.peak import Peak
from lstsq_cli.compare.truth import Truth
from lstsq_cli.problems import NumpyArray, Problem
from lstsq_cli.solvers import Refusal, Solver
from lstsq_cli.text import plain
from lstsq_conformance.ratios import LIMIT


@dataclass(frozen=True)
class Entry:
    """What one solver says, and how good that is."""

    solver: Solver
    x: NumpyArray
    #: As the solver gives them; None where a peer gives none.
    residuals: NumpyArray | None
    rank: int | None
    s: NumpyArray | None
    metrics: Metrics
    #: Digits in which the worst coefficient of x, and the norms of the residuals that it gives, agree with the truth;
    #: None for residuals that are not given, or are nothing but rounding.
    x_digits: float
    residual_digits: float | None
    #: Which way our own solver went, in words.
    ran: str
    seconds_x: list[float]
    seconds_all: list[float]
    peak: Peak
    #: Digits in which the worst coefficient agrees with the known solution.
    known_digits: float | None
    #: Whether another call gave an answer of another kind: this is the worse.
    unsteady: bool = False

    @property
    def in_double(self) -> bool:
        """Whether its backend claims to compute in double precision, whatever the dtype."""
        if self.solver.peer is not None:
            return self.x.dtype.name in peers.find(self.solver.peer).in_double
        return self.x.dtype.name in lstsq.get_backend(self.solver.backend).capabilities.solved_in_double

    @property
    def label(self) -> str:
        """What tables call it."""
        return self.solver.label

    @property
    def time_x(self) -> float:
        """The median call, to an x that can be read, in seconds."""
        return statistics.median(self.seconds_x)

    @property
    def time_all(self) -> float:
        """The median call, to all four results, in seconds."""
        return statistics.median(self.seconds_all)

    @property
    def condition(self) -> float | None:
        """Largest singular value over the smallest that counts; None from who gives none."""
        if self.s is None or self.rank is None:
            return None
        return float(self.s[0]) / float(self.s[self.rank - 1]) if self.rank else math.inf


@dataclass(frozen=True)
class Comparison:
    """Everything that is shown, in whichever form."""

    problem: Problem
    dtype: str
    rcond: float
    entries: tuple[Entry, ...]
    #: Solvers that did not take part, or failed, and why.
    absent: tuple[Refusal, ...]
    #: Those of them who were asked, and failed.
    failed: tuple[Refusal, ...]
    #: ``[i, j]``: in how many digits solvers i and j agree.
    agreement: NumpyArray
    truth: Truth
    #: What the metrics are measured with, in double precision.
    stick: Stick
    #: Processes that wanted a core when it began, for each core; None where the system does not say.
    load: float | None

    @property
    def s(self) -> NumpyArray:
        """The singular values."""
        return self.truth.s

    @property
    def rank(self) -> int:
        """How many of them the cutoff leaves."""
        return self.truth.rank

    @property
    def most_digits(self) -> float:
        """Those of the dtype."""
        return -math.log10(self.eps)

    @property
    def x_digits(self) -> float:
        """About how many digits of x the data determine in their dtype, in norm."""
        return max(0.0, -math.log10(self.eps * max(1.0, self._change(self.rank))))

    def determined(self, rank: int) -> bool:
        """Whether x with so many singular values has a sure digit in this dtype."""
        return LIMIT * self.eps * self._change(rank) < 1

    def _change(self, rank: int) -> float:
        """What roundings of 1 do to x with so many singular values, relative to its size."""
        found = self.truth.at(rank)
        some = found.norms > 0
        return float(np.max(1 + found.changes[some] / found.norms[some], initial=1.0))

    @property
    def where(self) -> str:
        """The device that was asked for, as part of a line."""
        device = self.entries[0].solver.device
        return f", on the {device}" if device else ""

    @property
    def eps(self) -> float:
        """Of the dtype of the problem."""
        return float(np.finfo(self.dtype).eps)

    @property
    def memory(self) -> bool:
        """Whether memory was asked for: then there is a number or a note."""
        return any(entry.peak != Peak(None) for entry in self.entries)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        m, n = self.problem.a.shape
        return m, n

    @property
    def best_optimality(self) -> float:
        """What rounding x alone may make of the optimality, of whichever solver: about ``eps ‖A‖ ‖x‖ / ‖r‖``."""
        problem, entry = self.problem, self.entries[0]
        reach = float(self.s[0]) * float(np.linalg.norm(entry.x.astype(np.result_type(entry.x, np.float64))))
        size = max(reach, float(np.linalg.norm(problem.b.astype(np.result_type(problem.b, np.float64)))))
        residual = max(self.entries, key=lambda entry: entry.metrics.residual).metrics.residual
        return min(1.0, self.eps * size / residual) if residual > 0 else 1.0

    @property
    def is_exact(self) -> bool:
        """Whether the fit is exact: then its residual is itself rounding, and the optimality says nothing."""
        return self.best_optimality > 1e-3

    @property
    def singly(self) -> list[str]:
        """Solvers of a problem in single precision that do not promise to compute in double."""
        single = self.dtype in ("float32", "complex64")
        return [entry.label for entry in self.entries if single and not entry.in_double]

    def is_large(self, error: float) -> bool:
        """Whether a relative error is more than a backward stable solver's rounding in this dtype."""
        return error > 30 * self.eps * min(self.shape)

    def is_large_excess(self, excess: float, rank: int | None = None) -> bool:
        """Whether this share of x in the null space is more than a backward stable solver's rounding leaves there.

        With another rank than that of the cutoff, in the null space that it leaves.

        Rounding turns the null space by ``eps σ₁`` over the gap at the cutoff (Wedin 1972).
        """
        rank = self.rank if rank is None else rank
        if rank == 0:
            return excess > 0
        below = float(self.s[rank]) if rank < len(self.s) else 0.0
        gap = (float(self.s[rank - 1]) - below) / float(self.s[0])
        return excess * gap > 30 * self.eps * min(self.shape)


def compare(
    problem: Problem,
    solvers: Sequence[Solver],
    refused: Sequence[Refusal],
    rcond: float | None,
    repeats: int | None,
    memory: bool,
    step: Callable[[str, int | None], None],
) -> Comparison:
    """Run every solver, and measure what it says. `step` is told what runs next: see `measure.measure`."""
    dtype = problem.a.dtype.name
    cutoff = lstsq.explain(problem.a, problem.b, rcond, backend="numpy").rcond
    load = os.getloadavg()[0] / (os.cpu_count() or 1) if hasattr(os, "getloadavg") else None
    step("the truth", 1 + len(solvers) * (2 + (repeats or timing.FEWEST) + memory))
    known_truth = truth.find(problem.a, problem.b, cutoff)
    stick = metrics.make_stick(problem.a, problem.b, cutoff)._replace(rank=known_truth.rank)
    eps = float(np.finfo(dtype).eps)
    answers = measure.measure(problem, solvers, rcond, repeats, step)
    absent = list(refused)
    entries: list[Entry] = []
    others: dict[int, Entry] = {}
    sound = sum(answer.failure is None for answer in answers)
    for answer in answers:
        if answer.failure is not None:
            absent.append(Refusal(answer.solver.label, answer.failure))
            continue
        step(f"{answer.solver.label}, memory" if memory else answer.solver.label, sound - len(entries))
        costs = (
            answer.seconds_x,
            answer.seconds_all,
            peak.measure(problem, answer.solver, rcond) if memory else Peak(None),
        )
        entries.append(_entry(problem, known_truth, stick, answer, answer.found, costs))
        if answer.another is not None:
            others[len(entries) - 1] = _entry(problem, known_truth, stick, answer, answer.another, costs)
    agreement = np.array([[metrics.digits(p.x, q.x, eps) for q in entries] for p in entries])
    failed = absent[len(refused) :]
    parts = (tuple(entries), tuple(absent), tuple(failed), agreement, known_truth, stick, load)
    found = Comparison(problem, dtype, cutoff, *parts)
    for i, other in others.items():
        # Of two answers to one problem the worse is what is to be expected.
        kinds = [verdict.of(found, entry).kind for entry in (entries[i], other)]
        if kinds[0] != kinds[1]:
            entries[i] = dataclasses.replace(other if kinds[0] == verdict.RIGHT else entries[i], unsteady=True)
    return dataclasses.replace(found, entries=tuple(entries))


def _entry(
    problem: Problem,
    truth: Truth,
    stick: Stick,
    answer: measure.Answer,
    found: measure.Found,
    costs: tuple[list[float], list[float], Peak],
) -> Entry:
    eps = float(np.finfo(problem.a.dtype).eps)
    return Entry(
        answer.solver,
        found.x,
        found.residuals,
        found.rank,
        found.s,
        metrics.judge(stick, found.x),
        metrics.digits(found.x, truth.solution.x, eps),
        _digits_of_residuals(problem, found.residuals, truth.solution.residuals, eps),
        answer.ran,
        *costs,
        None if problem.known is None else metrics.digits(found.x, problem.known, eps),
    )


def _digits_of_residuals(problem: Problem, given: NumpyArray | None, norms: NumpyArray, eps: float) -> float | None:
    # What is left of b where a x reaches it is rounding, and has no digits.
    reached = norms <= 1e3 * eps * np.linalg.norm(problem.b, axis=0)
    if given is None or given.shape != norms.shape or reached.all():
        return None
    return metrics.digits_of_residuals(given[~reached], norms[~reached], eps)


def to_json(comparison: Comparison) -> dict[str, Any]:
    """Everything, as what JSON can hold: complex numbers are [real, imaginary], infinities and NaN null."""
    problem = comparison.problem
    return {
        "problem": {
            "name": problem.name,
            "rows": problem.a.shape[0],
            "columns": list(problem.columns),
            "target": problem.target or None,
            "dropped_rows": problem.dropped,
            "left_out": list(problem.left_out),
            "right_hand_sides": problem.b.shape[1],
            "known_x": plain(problem.known),
            "known_by": problem.known_by or None,
        },
        "dtype": comparison.dtype,
        "rcond": comparison.rcond,
        "load_per_core": comparison.load,
        "truth": {
            "method": comparison.truth.method,
            "x": plain(comparison.truth.solution.x),
            "residual_norms": plain(comparison.truth.solution.residuals),
            "s": plain(comparison.s),
            "rank": comparison.rank,
            "digits_that_data_determine": comparison.x_digits,
        },
        "verdict": list(verdict.lines(comparison)),
        "solvers": [
            {
                "label": entry.label,
                "peer": entry.solver.peer is not None,
                "verdict": verdict.of(comparison, entry)._asdict(),
                "digits_of_x": plain(entry.x_digits),
                "digits_of_residual": plain(entry.residual_digits),
                "ran": entry.ran or None,
                "same_at_each_call": not entry.unsteady,
                "rank_right": None if entry.rank is None else entry.rank == comparison.rank,
                "backend": entry.solver.backend,
                "library": entry.solver.namespace or entry.solver.backend,
                "device": entry.solver.device,
                "driver": entry.solver.driver,
                "x": plain(entry.x),
                "residuals": plain(entry.residuals),
                "rank": entry.rank,
                "s": plain(entry.s),
                "condition": plain(entry.condition),
                "residual_norm": plain(entry.metrics.residual),
                "backward_error": plain(entry.metrics.backward_error),
                "optimality": plain(entry.metrics.optimality),
                "excess_norm": plain(entry.metrics.excess),
                "seconds_x": entry.time_x,
                "seconds_all": entry.time_all,
                "repeats": len(entry.seconds_x),
                "peak_bytes": entry.peak.bytes,
                "peak_note": entry.peak.note or None,
                "digits_of_known_x": plain(entry.known_digits),
            }
            for entry in comparison.entries
        ],
        "agreement": {
            "labels": [entry.label for entry in comparison.entries],
            "digits": plain(comparison.agreement),
        },
        "absent": [{"label": refusal.label, "reason": refusal.reason} for refusal in comparison.absent],
    }
