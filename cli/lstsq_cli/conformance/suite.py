"""Runs the conformance suite in a process of its own, so that a backend that crashes takes nothing else with it."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from lstsq_cli import interrupt
from lstsq_cli.conformance import recorder
from lstsq_cli.errors import UserError
from lstsq_cli.peers import Peer

#: What pytest is told to collect.
SUITE = ("--pyargs", "lstsq_conformance")

#: Seconds in which a function of another library returns from one test, or never.
PATIENCE = 60.0

#: The driver of tests that name none.
NO_DRIVER = ""


class Failure(NamedTuple):
    """A test that failed."""

    test: str
    message: str
    details: str

    @property
    def summary(self) -> str:
        """The message in a line: its first, or first two where the first says nothing yet."""
        lines = [line.strip() for line in self.message.splitlines() if line.strip()]
        return " ".join(lines[: 2 if lines and lines[0].endswith(":") else 1])


@dataclass
class Cell:
    """The tests of one row of the contract with one driver of one backend."""

    counts: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)

    @property
    def total(self) -> int:
        """How many tests there were that were not skipped."""
        return self.counts.total() - self.counts["skipped"]


class Column(NamedTuple):
    """What a column of the matrix is about."""

    subject: str
    driver: str
    of_peer: bool = False

    @property
    def label(self) -> str:
        """What tables call it."""
        return self.subject if self.of_peer else f"{self.subject} {self.driver or '(any driver)'}"


@dataclass
class Matrix:
    """The support matrix: rows of the contract by backend and driver."""

    columns: list[Column] = field(default_factory=list)
    cells: dict[tuple[str, Column], Cell] = field(default_factory=dict)
    #: Per subject, how many tests ended in which way, and how long its run took.
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    full: bool = False
    #: The versions of their libraries, where the subjects are functions of these.
    versions: dict[str, str] = field(default_factory=dict)
    #: Whether the subjects are functions of other libraries, each of which is one column.
    of_peers: bool = False

    @property
    def failed(self) -> bool:
        """Whether any test of any backend failed."""
        return any(cell.failures for cell in self.cells.values())

    def rows(self) -> dict[str, str]:
        """The rows of the contract that were tested, with their text, in its order."""
        from lstsq_conformance.rows import ROWS

        tested = {row for row, _ in self.cells}
        return {row: text for row, text in ROWS.items() if row in tested} | {row: "" for row in tested - set(ROWS)}

    def failing(self) -> list[tuple[str, Column, Cell]]:
        """The cells with failures, by column, and in it in the order of the contract."""
        places = [(row, column) for column in self.columns for row in self.rows() if (row, column) in self.cells]
        return [(*place, self.cells[place]) for place in places if self.cells[place].failures]

    def add(self, subject: str, event: dict[str, Any]) -> None:
        """Count a test that has ended."""
        column = Column(subject, NO_DRIVER, True) if self.of_peers else Column(subject, event["driver"])
        if column not in self.columns:
            self.columns.append(column)
        cell = self.cells.setdefault((event["row"], column), Cell())
        cell.counts[event["outcome"]] += 1
        self.counts.setdefault(subject, Counter())[event["outcome"]] += 1
        if event["outcome"] == "failed":
            cell.failures.append(Failure(event["test"], event["message"], event["details"]))


def run(
    matrix: Matrix,
    subject: tuple[str, str | None],
    drivers: Sequence[str],
    dtypes: Sequence[str],
    device: str | None,
    xfail: Path | None,
    jobs: int,
    step: Callable[[str, int | None], None],
) -> None:
    """Run the suite for one backend, on one library, and add its outcome to the matrix.

    Raises
    ------
    UserError
        If the suite cannot run: what is asked of it is unknown, or it is not installed whole.
    """
    backend, namespace = subject
    options = ["--lstsq-backend", backend]
    options += ["--lstsq-namespace", namespace] if namespace else []
    options += [part for driver in drivers for part in ("--lstsq-driver", driver)]
    options += ["--lstsq-device", device] if device else []
    options += ["--lstsq-xfail", str(xfail.absolute())] if xfail else []
    _prove(matrix, namespace or backend, options, dtypes, jobs, step)


def run_peer(
    matrix: Matrix, peer: Peer, dtypes: Sequence[str], jobs: int, step: Callable[[str, int | None], None]
) -> None:
    """Run the suite for a function of another library, and add its outcome to the matrix.

    A function that does not return, or takes its process with it, has failed that test. The others are then run without
    it, and without what else is asked in the same test.

    Raises
    ------
    UserError
        If the suite cannot run.
    """
    matrix.versions[peer.label] = f"{peer.distribution} {peer.version}"
    left_out: set[str] = set()

    def heard(event: str, test: str | None) -> None:
        if event == "end" and test is not None:
            left_out.add(test)

    with interrupt.temporary_folder() as folder:
        file = folder / "left_out"
        options = ["-p", "lstsq_cli.conformance.peer_target", "--lstsq-peer", peer.label, "--lstsq-left-out", str(file)]
        while True:
            file.write_text("\n".join(sorted(left_out)), encoding="utf-8")
            died_in = _prove(matrix, peer.label, options, dtypes, jobs, step, heard, PATIENCE if jobs == 1 else None)
            if died_in is None:
                return
            left_out.add(died_in.partition("[")[0])


def _prove(
    matrix: Matrix,
    label: str,
    options: Sequence[str],
    dtypes: Sequence[str],
    jobs: int,
    step: Callable[[str, int | None], None],
    told: Callable[[str, str | None], None] = lambda event, test: None,
    patience: float | None = None,
) -> str | None:
    """Run the suite; in which test the process died, or None.

    `told` hears of each event and its test; where a test takes longer than `patience`, the process is ended.
    """
    _check_installed(jobs)
    options = [*options, *(part for dtype in dtypes for part in ("--lstsq-dtype", dtype))]
    options += [] if matrix.full else ["--lstsq-quick"]
    options += ["-n", str(jobs)] if jobs > 1 else []
    start = time.monotonic()

    def heard(event: dict[str, Any]) -> None:
        _heard(matrix, label, event, step)
        told(event["event"], event.get("test"))

    with interrupt.temporary_folder() as folder:
        code, output, last = _run(folder, options, heard, patience)
    matrix.seconds[label] = matrix.seconds.get(label, 0.0) + time.monotonic() - start
    if code < 0 or code > 5:
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        message = f"the process ended here with {how}"
        if last.get("waited"):
            message = f"it does not return in {patience:.0f} seconds"
        test = last.get("test", "(before the first test)")
        died = {"test": test, "row": last.get("row", "(not said)"), "driver": last.get("driver", NO_DRIVER)}
        matrix.add(label, {**died, "outcome": "failed", "message": message, "details": output})
        return last.get("test")
    if code > 1:
        errors = [line for line in output.splitlines() if line.startswith("ERROR")] or output.strip().splitlines()[-1:]
        raise UserError(f"conformance of {label}: {_in_our_words(' '.join(errors)) or 'no test ran'}")
    return None


def _in_our_words(error: str) -> str:
    """What pytest says, with the options of this command line in the place of the plugin's."""
    return error.removeprefix("ERROR: ").replace("--lstsq-", "--")


def _run(
    folder: Path, options: Sequence[str], heard: Callable[[dict[str, Any]], None], patience: float | None
) -> tuple[int, str, dict[str, Any]]:
    """The exit code of pytest, what it printed, and the test that it had last begun and not ended."""
    record, log, config = folder / "record", folder / "log", folder / "pytest.ini"
    record.touch()
    # In a folder, and with a configuration, of its own: whatever project the user stands in has no part in this.
    config.write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-c", str(config), "-p", recorder.__name__, "-p", "no:cacheprovider"]
    command += ["-q", "--no-header", "--tb=short", *SUITE, *options]
    # JAX has no double precision without; whoever has set it keeps it.
    environment = {"JAX_ENABLE_X64": "1", **os.environ, recorder.VARIABLE: str(record)}
    last: dict[str, Any] = {}
    with log.open("w", encoding="utf-8") as output, record.open(encoding="utf-8") as lines:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT)
        with interrupt.ending(lambda: _end(process)):
            for event in _follow(lines, process, patience):
                if event["event"] == "waited":
                    last = {**last, "waited": True}
                    continue
                last = event if event["event"] == "start" else {} if event["event"] == "end" else last
                heard(event)
    return process.returncode, log.read_text(encoding="utf-8", errors="replace"), last


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1)
        process.kill()
        process.wait()


def _follow(lines: Any, process: subprocess.Popen[bytes], patience: float | None) -> Iterator[dict[str, Any]]:
    """The events as they are written, until the process has ended and all are read.

    Where a test takes longer than `patience` seconds the process is ended, which is an event.
    """
    rest = ""
    begun: float | None = None
    while True:
        ended = process.poll() is not None
        while line := lines.readline():
            rest += line
            if rest.endswith("\n"):
                event = json.loads(rest)
                rest, begun = "", time.monotonic() if event["event"] == "start" else None
                yield event
        if ended:
            return
        if patience is not None and begun is not None and time.monotonic() - begun > patience:
            yield {"event": "waited"}
            _end(process)
        time.sleep(0.05)


def _heard(matrix: Matrix, label: str, event: dict[str, Any], step: Callable[[str, int | None], None]) -> None:
    if event["event"] == "collected":
        step(label, event["total"])
    elif event["event"] == "end":
        matrix.add(label, event)
        failed = matrix.counts[label]["failed"]
        step(f"{label}: {failed} failed" if failed else label, None)


def _check_installed(jobs: int) -> None:
    needed = ["pytest", "hypothesis", *(["xdist"] if jobs > 1 else [])]
    missing = [module for module in needed if importlib.util.find_spec(module) is None]
    if "xdist" in missing:
        raise UserError("--jobs needs pytest-xdist; run `pip install pytest-xdist`.")
    if missing:
        raise UserError(f"the suite needs {', '.join(missing)}; run `pip install {' '.join(missing)}`.")


def to_json(matrix: Matrix) -> dict[str, Any]:
    """The matrix as what JSON can hold."""
    return {
        "passed": not matrix.failed,
        "full": matrix.full,
        **({"versions": matrix.versions} if matrix.of_peers else {}),
        "runs": {
            subject: {**counts, "seconds": round(matrix.seconds[subject], 1)}
            for subject, counts in matrix.counts.items()
        },
        "cells": [
            {
                "row": row,
                "backend": column.subject,
                "driver": column.driver or None,
                **cell.counts,
                "failures": [{"test": failure.test, "message": failure.message} for failure in cell.failures],
            }
            for (row, column), cell in matrix.cells.items()
        ],
    }
