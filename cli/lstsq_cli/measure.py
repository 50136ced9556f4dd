"""Runs solvers on a problem: their answers, and their times, taken in turns so that a slow moment is everyone's."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import lstsq
from lstsq_cli.errors import first_line
from lstsq_cli.idle import wait_until_idle
from lstsq_cli.problems import NumpyArray, Problem
from lstsq_cli.solvers import Solver, on_its_device

#: Where no number of repeats is asked for: this many at least and at most, and in between as the time allows.
FEWEST, MOST, SECONDS = 3, 25, 2.0
#: A call that takes less is timed right after another one: else what it costs to come after another solver, whose code
#: and data are in the caches, would be counted.
BRIEF = 0.01


@dataclass
class Answer:
    """What one solver says, as NumPy arrays, or why it says nothing; and its times."""

    solver: Solver
    x: NumpyArray = field(default_factory=lambda: np.empty((0, 0)))
    residuals: NumpyArray = field(default_factory=lambda: np.empty(0))
    rank: int = 0
    s: NumpyArray = field(default_factory=lambda: np.empty(0))
    failure: str | None = None
    #: Seconds from the library's arrays to an x that can be read, and to all four results.
    seconds_x: list[float] = field(default_factory=list)
    seconds_all: list[float] = field(default_factory=list)


class Run:
    """One solver on one problem, ready to be called again and again."""

    def __init__(self, solver: Solver, problem: Problem, rcond: float | None):
        self.answer = Answer(solver)
        self._solver, self._rcond = solver, rcond
        self._seconds = math.inf
        try:
            self._backend = lstsq.get_backend(solver.backend)
            with on_its_device(solver) as put:
                self._a = put(self._backend.from_numpy(problem.a, solver.namespace))
                self._b = put(self._backend.from_numpy(problem.b, solver.namespace))
        except Exception as error:
            self._fail(error)

    def call(self) -> tuple[float, float]:
        """Solve once; the first call keeps the answer. Returns the seconds to x and to everything."""
        read = self._backend.to_numpy
        with on_its_device(self._solver):
            start = time.perf_counter()
            x, residuals, rank, s = lstsq.lstsq(
                self._a, self._b, self._rcond, driver=self._solver.driver, backend=self._solver.backend
            )
            x = np.asarray(read(x))
            x_done = time.perf_counter()
            residuals, rank, s = (np.asarray(read(array)) for array in (residuals, rank, s))
            all_done = time.perf_counter()
        if not self.answer.x.size:
            self.answer.x, self.answer.residuals, self.answer.s = x.copy(), residuals.copy(), s.copy()
            self.answer.rank = int(rank)
        self._seconds = all_done - start
        return x_done - start, all_done - start

    def first(self) -> float:
        """Solve for the answer; whatever goes wrong is kept with it. Returns the seconds."""
        try:
            seconds = self.call()[1]
        except Exception as error:
            return self._fail(error)
        if not np.isfinite(self.answer.x).all():
            declines = self._solver.driver in self._backend.capabilities.declines
            self.answer.failure = "it declines what it cannot certify" if declines else "x is not finite"
        return seconds

    def again(self) -> None:
        """Solve once more, for the time."""
        wait_until_idle()
        try:
            if self._seconds < BRIEF:
                self.call()
            seconds_x, seconds_all = self.call()
        except Exception as error:
            self._fail(error)
            return
        self.answer.seconds_x.append(seconds_x)
        self.answer.seconds_all.append(seconds_all)

    def _fail(self, error: Any) -> float:
        self.answer.failure = f"{type(error).__name__}: {first_line(error)}"
        return 0.0


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
        How many timed calls of each; by default from 3 to 25, as many as two seconds take.
    step : callable
        Told the label of what runs next; and, once known, how many steps there are in all.
    """
    runs, seconds = [], 0.0
    for solver in solvers:
        step(solver.label, None)
        run = Run(solver, problem, rcond)
        # What is compiled or loaded at the first call is not part of the time.
        if run.answer.failure is None:
            run.first()
        runs.append(run)
    sound = [run for run in runs if run.answer.failure is None]
    for run in sound:
        step(run.answer.solver.label, None)
        start = time.perf_counter()
        run.again()
        seconds += time.perf_counter() - start
    rounds = repeats if repeats is not None else int(np.clip(SECONDS / max(seconds, 1e-9), FEWEST, MOST))
    for done in range(1, rounds):
        for run in sound:
            step(run.answer.solver.label, (rounds - done) * len(sound))
            run.again()
    return [run.answer for run in runs]
