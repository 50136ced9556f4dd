"""Runs solvers on a problem: their answers, and their times, taken in turns so that a slow moment is everyone's."""

from __future__ import annotations

import itertools
import math
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import lstsq
from lstsq_cli.errors import first_line
from lstsq_cli.problems import NumpyArray, Problem
from lstsq_cli.solvers import Solver, function, on_its_device
from lstsq_cli.timing import in_turns

#: Where no number of repeats is asked for: so many rounds at most, and no new one after so many seconds.
ROUNDS, SECONDS = 5, 2.0

#: Why there is no answer from who is asked for none.
DECLINED = "it declines what it cannot certify"


@dataclass
class Found:
    """What one call gave, as NumPy arrays; None for what a peer does not give, or not here."""

    x: NumpyArray = field(default_factory=lambda: np.empty((0, 0)))
    residuals: NumpyArray | None = None
    rank: int | None = None
    s: NumpyArray | None = None


@dataclass
class Answer:
    """What one solver says, or why it says nothing; and its times."""

    solver: Solver
    #: Of the first call.
    found: Found = field(default_factory=Found)
    #: Of a later call that gave another x, if one did.
    another: Found | None = None
    #: Which way our own solver went, in words.
    ran: str = ""
    failure: str | None = None
    #: Seconds from the library's arrays to an x that can be read, and to all four results.
    seconds_x: list[float] = field(default_factory=list)
    seconds_all: list[float] = field(default_factory=list)


class Run:
    """One solver on one problem, ready to be called again and again."""

    def __init__(self, solver: Solver, problem: Problem, rcond: float | None):
        self.answer = Answer(solver)
        self._solver, self._rcond = solver, rcond
        try:
            self._backend = lstsq.get_backend(solver.backend)
            self._function = function(solver, rcond)
            with on_its_device(solver) as put:
                self._a = put(self._backend.from_numpy(problem.a, solver.namespace))
                self._b = put(self._backend.from_numpy(problem.b, solver.namespace))
        except Exception as error:
            self._fail(error)

    def call(self) -> tuple[float, float]:
        """Solve once; the first call keeps the answer, and a later one what is not the same.

        Returns the seconds to x and to everything.
        """
        read = self._backend.to_numpy
        with on_its_device(self._solver):
            start = time.perf_counter()
            x, *others = self._function(self._a, self._b)
            x = np.asarray(read(x))
            x_done = time.perf_counter()
            residuals, rank, s = (None if array is None else np.asarray(read(array)) for array in others)
            all_done = time.perf_counter()
        answer, first = self.answer, not self.answer.found.x.size
        if first or (answer.another is None and _is_another(x, answer.found.x)):
            given = int(rank) if rank is not None and rank.size else None
            found = Found(x.copy(), _copy(residuals), given, _copy(s))
            answer.found, answer.another = (found, None) if first else (answer.found, found)
        return x_done - start, all_done - start

    def first(self) -> None:
        """Solve for the answer; whatever goes wrong is kept with it."""
        try:
            self.call()
        except Exception as error:
            self._fail(error)
            return
        if self._solver.peer is None:
            self.answer.ran = self._way()
        if not np.isfinite(self.answer.found.x).all():
            declines = self._solver.peer is None and self._solver.driver in self._backend.capabilities.declines
            self.answer.failure = DECLINED if declines else "x is not finite"

    def _way(self) -> str:
        chosen: dict[str, Any] = {"driver": self._solver.driver, "backend": self._solver.backend}
        try:
            with on_its_device(self._solver):
                told = lstsq.explain(self._a, self._b, self._rcond, **chosen, run=True)
        except Exception as error:
            # The answer is there; that a backend cannot tell how it was found is no failure to find it.
            return f"it does not tell, for {type(error).__name__}: {first_line(error)}"
        # The rank and the cutoff are told of the problem.
        return "; ".join(itertools.takewhile(lambda sentence: not sentence.startswith("rank "), told.ran))

    def again(self) -> tuple[float, float]:
        """Solve once more, for the time; NaN if that fails."""
        try:
            return self.call()
        except Exception as error:
            self._fail(error)
            return math.nan, math.nan

    def _fail(self, error: Any) -> None:
        self.answer.failure = f"{type(error).__name__}: {first_line(error)}"


def _is_another(x: NumpyArray, first: NumpyArray) -> bool:
    """Whether it differs by more than the order of sums, which threads may change."""
    return not np.allclose(x, first, rtol=0, atol=1e-3 * float(np.abs(first).max(initial=0.0)), equal_nan=True)


def _copy(array: NumpyArray | None) -> NumpyArray | None:
    """None for nothing, which some libraries write as an empty array."""
    return array.copy() if array is not None and array.size else None


def measure(
    problem: Problem,
    solvers: Sequence[Solver],
    rcond: float | None,
    repeats: int | None,
    step: Callable[[str, int | None], None],
) -> list[Answer]:
    """Solve with each, then time them in turns.

    Parameters
    ----------
    repeats : int, optional
        How many timed calls of each; by default at most 25, and fewer where three rounds of all take two seconds.
    step : callable
        Told the label of what runs next; and, once known, how many steps there are in all.
    """
    # Of what a library warns, such as a deficient matrix, the verdict tells.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _measure(problem, solvers, rcond, repeats, step)


def _measure(
    problem: Problem,
    solvers: Sequence[Solver],
    rcond: float | None,
    repeats: int | None,
    step: Callable[[str, int | None], None],
) -> list[Answer]:
    runs = []
    for solver in solvers:
        step(solver.label, None)
        run = Run(solver, problem, rcond)
        # What is compiled or loaded at the first call is not part of the time.
        if run.answer.failure is None:
            run.first()
        runs.append(run)
    times = in_turns(
        {run: run.again for run in runs if run.answer.failure is None},
        rounds=ROUNDS if repeats is None else repeats,
        budget=SECONDS if repeats is None else math.inf,
        each=5 if repeats is None else 1,
        told=lambda run, left: step(run.answer.solver.label, left),
    )
    for run, taken in times.items():
        run.answer.seconds_x, run.answer.seconds_all = map(list, zip(*taken))
    return [run.answer for run in runs]
