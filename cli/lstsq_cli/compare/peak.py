"""The memory that one solve needs beyond its input: the peak of a process of its own, after everything is loaded.

A process's peak includes its imports, its input and whatever ran before, so each solver gets a fresh process, which
loads the library by a tiny problem, brings its input in, and only then has its peak reset and solves. Linux can reset
it. Elsewhere the peak is compared before and after, which is a lower bound: what was freed before may be used again.

``python -m lstsq_cli.compare.peak FOLDER < request.json`` is that process.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lstsq_cli import interrupt
from lstsq_cli.problems import Problem
from lstsq_cli.solvers import Solver


class Peak(NamedTuple):
    """Bytes of memory at the peak of a solve beyond those before it, or why they are not known."""

    bytes: int | None
    note: str = ""


def measure(problem: Problem, solver: Solver, rcond: float | None, timeout: float = 600.0) -> Peak:
    """Solve once in another process."""
    if solver.device == "gpu":
        return Peak(None, "not measured: this is the processor's memory, and a GPU has its own")
    with interrupt.temporary_folder() as folder:
        np.save(folder / "a.npy", problem.a)
        np.save(folder / "b.npy", problem.b)
        command = [sys.executable, "-m", "lstsq_cli.compare.peak", str(folder)]
        output, errors = folder / "output", folder / "errors"
        with (
            output.open("w") as out,
            errors.open("w") as err,
            # Its input stays open, and so tells it whether this process lives.
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out, stderr=err, text=True) as child,
            interrupt.ending(child.kill),
        ):
            with contextlib.suppress(BrokenPipeError):
                print(json.dumps([*solver, rcond]), file=child.stdin, flush=True)
            try:
                child.wait(timeout)
            except subprocess.TimeoutExpired:
                return Peak(None, f"it took longer than {timeout:.0f} s")
        printed, complained = output.read_text(), errors.read_text()
    if child.returncode != 0:
        lines = complained.strip().splitlines()
        return Peak(None, lines[-1] if lines else f"its process ended with code {child.returncode}")
    return Peak(*json.loads(printed.splitlines()[-1]))


def _solve(folder: Path, solver: Solver, rcond: float | None) -> Peak:
    import lstsq
    from lstsq_cli.solvers import function, on_its_device, prepare

    a, b = np.load(folder / "a.npy"), np.load(folder / "b.npy")
    prepare(np.result_type(a, b).name)
    backend, solve = lstsq.get_backend(solver.backend), function(solver, rcond)

    def call(a: Any, b: Any) -> None:
        for array in solve(a, b):
            if array is not None:
                np.asarray(backend.to_numpy(array))

    def convert(array: Any) -> Any:
        with on_its_device(solver) as put:
            converted = put(backend.from_numpy(array, solver.namespace))
        # Reading it waits for a library that copies in the background.
        np.asarray(backend.to_numpy(converted))
        return converted

    few = slice(0, 4)
    # A solver of full rank may refuse what is left of its problem here; it is loaded all the same.
    with contextlib.suppress(Exception):
        call(convert(a[few, few].copy()), convert(b[few].copy()))
    theirs = convert(a), convert(b)
    _return_freed_memory()
    note = _reset()
    before = _resident() if not note else _peak()
    call(*theirs)
    return Peak(max(0, _peak() - before), note)


def _return_freed_memory() -> None:
    """Else the solve would use it again, and seem to need less. Only glibc has a way to ask for it."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _reset() -> str:
    """Forget the peak so far; where that is not possible, what follows from it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return "at least: this system cannot reset a process's peak"
    return ""


def _resident() -> int:
    return _status("VmRSS")


def _peak() -> int:
    if Path("/proc/self/status").exists():
        # Not ru_maxrss, which on Linux a process inherits from the one that started it.
        return _status("VmHWM")
    import resource

    kilobyte = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilobyte


def _status(name: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


def _end_with_the_parent() -> None:
    """Wait for the end of the input, which the process that wants to know holds open."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    *_solver, _rcond = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    try:
        print(json.dumps(_solve(Path(sys.argv[1]), Solver(*_solver), _rcond)))
    except ModuleNotFoundError as error:
        sys.exit(f"not measured on this system: {error}")
    except Exception as error:
        sys.exit(f"{type(error).__name__}: {error}")
