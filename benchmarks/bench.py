"""Time every least-squares solver on the same problems, check every answer, and tell the ratios.

Run it with ``nox -s bench``; ``nox -s bench -- --help`` lists the options.
"""

from __future__ import annotations

import json
import math
import platform
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import device_solvers
import measure
import numpy as np
import typer
from problems import ON_DEVICES, PROBLEMS, Problem
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from solvers import Call, OnFreshArrays, Solver, installed, small_calls

from lstsq_cli import timing

# Not in a terminal, as in a log, there is room for whole cells.
console = Console(width=None if sys.stdout.isatty() else 170)
Row = dict[str, Any]
#: The solvers whose figures are quoted, by whose arrays they are on.
QUOTED = {"MLX": "lstsq mlx auto", "NumPy": "lstsq native"}
#: On a device most libraries' decompositions loop over a batch. A call that takes longer than the first of these, in
#: seconds, is timed once; if it takes longer than the second, and again, while its answer is checked, that is its time.
SLOW, VERY_SLOW = 1.0, 5.0


def main(
    dtype: Annotated[list[str] | None, typer.Option(help="float32, float64 (repeat for both)")] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="problems whose label contains this, such as 100000×64")
    ] = None,
    solver: Annotated[list[str] | None, typer.Option(help="names of solvers, such as numpy or 'torch gelsy'")] = None,
    device: Annotated[
        str | None, typer.Option(help="on the arrays of each library that has this device: cpu, gpu (or cuda)")
    ] = None,
    outputs: Annotated[list[str] | None, typer.Option(help="x, all (repeat for both)")] = None,
    rounds: Annotated[int, typer.Option(help="rounds of each problem, at most")] = 15,
    seconds: Annotated[float, typer.Option(help="seconds for each problem, about")] = 15.0,
    out: Annotated[Path, typer.Option(help="folder for bench.json, bench.md and bench.png")] = Path("build/bench"),
) -> None:
    """Time every installed solver, interleaved in one process, and compare medians."""
    known = PROBLEMS if device is None else ON_DEVICES
    chosen = [p for p in known if not only or any(part in p.label for part in only)]
    if not chosen:
        raise typer.BadParameter(f"no such problem; there are: {', '.join(p.label for p in known)}")
    find = installed if device is None else partial(device_solvers.find, {"cuda": "gpu"}.get(device, device))
    solvers = find(solver or ())
    if not solvers:
        there = ", ".join(s.name for s in find()) or "none, since no library that is installed has this device here"
        raise typer.BadParameter(f"no such solver; there are: {there}")
    facts: dict[str, Any] = {"machine": platform.processor() or platform.machine(), "python": platform.python_version()}
    facts |= {name: _version(name) for name in ("lstsq", "lstsq-native", "mlx", "numpy", "scipy", "jax", "torch")}
    floor = None
    if device is None:
        floor = _Floor({name: measure.matrix_product_rate(name) for name in ("float32", "float64")})
        facts |= {"matrix product, GFLOP/s": {d: round(r / 1e9, 1) for d, r in floor.rates.items()}}
        facts |= {"copy, GB/s": round(floor.bandwidth / 1e9, 1)}
    else:
        facts |= {"device": device_solvers.described({"cuda": "gpu"}.get(device, device))}
        facts |= {name: _version(name) for name in ("cupy-cuda13x", "cupy-cuda12x", "triton")}
    rows: list[Row] = []
    work = [(p, d) for d in dtype or ["float32", "float64"] for p in chosen]
    wanted = outputs or ["x", "all"]
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("", total=len(work) * len(wanted))
        for problem, precision in work:
            a, b = problem.data(precision)
            truth = _truth(a, b)
            for what in wanted:
                progress.update(task, description=f"{problem.label} {precision}, {what}")
                timed = _time(problem, a, b, truth, what == "x", solvers, rounds, seconds, device is not None)
                least = None if floor is None else floor.seconds(problem, precision)
                rows += [{**row, "times the floor": row["seconds"] / least if least else None} for row in timed]
                # Each time, so that a run that is broken off leaves what it has measured.
                _write(facts, rows, device, out)
                progress.advance(task)
    _print(rows)
    if device is None and (small := _small_solve()):
        facts |= small
        console.print(", ".join(f"{what}: {value:.3g}" for what, value in small.items()))
    _write(facts, rows, device, out)
    if device is None:
        _plot([row for row in rows if row["outputs"] == rows[0]["outputs"]], out / "bench.png")
    console.print(f"{facts}\nwritten: {', '.join(str(path) for path in sorted(out.glob('bench.*')))}")
    wrong = [row for row in rows if row["ours"] and not row["right"]]
    if wrong:
        console.print(f"[red]WRONG: {[(row['problem'], row['solver'], row['error']) for row in wrong]}")
        sys.exit(1)


def _write(facts: dict[str, Any], rows: list[Row], device: str | None, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "bench.json").write_text(json.dumps({"facts": facts, "rows": rows}, indent=1, ensure_ascii=False))
    (out / "bench.md").write_text(_markdown(rows) if device is None else _device_markdown(rows))


class _Floor:
    """What no solver on this processor can be faster than."""

    def __init__(self, rates: dict[str, float]):
        self.rates = rates
        self.bandwidth = measure.copy_bandwidth()

    def seconds(self, problem: Problem, dtype: str) -> float:
        """The time of its operations in a matrix product, or of reading and writing its numbers in a copy."""
        by_flops = problem.floor_flops() / self.rates[dtype]
        return max(by_flops, problem.floor_bytes(np.dtype(dtype).itemsize) / self.bandwidth)


class _Truth(NamedTuple):
    """The solution in double precision, and how far off a solution may be, in units of the spacing of its numbers."""

    x: np.ndarray[Any, Any]
    limit: float


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _time(
    problem: Problem,
    a: np.ndarray[Any, Any],
    b: np.ndarray[Any, Any],
    truth: _Truth,
    x_only: bool,
    solvers: list[Solver],
    rounds: int,
    seconds: float,
    on_device: bool,
) -> list[Row]:
    calls: dict[str, Callable[[], timing.Seconds]] = {}
    times: dict[str, list[timing.Seconds]] = {}
    errors = {}
    for solver in solvers:
        call = solver.prepare(a, b, x_only)
        if call is not None:
            answer, checking = _timed(call)
            errors[solver.name] = _error(solver.to_numpy(answer), truth.x)
            if on_device and checking > VERY_SLOW:
                _, checking = _timed(call)  # The first may have compiled what it calls.
            if on_device and checking > VERY_SLOW:
                times[solver.name] = [(checking * problem.repeats,)]
            else:
                calls[solver.name] = _repeated(call, problem.repeats)
    times |= timing.in_turns(calls, rounds=rounds, budget=seconds, slow=SLOW if on_device else math.inf)
    medians = {name: timing.median(taken) / problem.repeats for name, taken in times.items()}
    peers = [medians[s.name] for s in solvers if not s.ours and s.name in medians]
    best_peer = min(peers) if peers else None
    numpys = medians.get("numpy")
    return [
        {
            "problem": problem.label,
            "dtype": a.dtype.name,
            "outputs": "x" if x_only else "all",
            "solver": s.name,
            "ours": s.ours,
            "seconds": medians[s.name],
            "calls": len(times[s.name]),
            "ratio to best peer": best_peer / medians[s.name] if best_peer else None,
            "ratio to numpy": numpys / medians[s.name] if numpys else None,
            "error": errors[s.name],
            "right": errors[s.name] <= truth.limit * float(np.finfo(a.dtype).eps),
        }
        for s in solvers
        if s.name in medians
    ]


def _timed(call: Call) -> tuple[Any, float]:
    """What the call returns, and the seconds that it takes."""
    _prepare(call)
    start = time.perf_counter()
    answer = call()
    return answer, time.perf_counter() - start


def _repeated(call: Call, count: int) -> Callable[[], timing.Seconds]:
    timed = timing.whole(call if count == 1 else lambda: [call() for _ in range(count)])

    def after_preparing() -> timing.Seconds:
        _prepare(call)
        return timed()

    return after_preparing


def _prepare(call: Call) -> None:
    if isinstance(call, OnFreshArrays):
        call.renew()


def _truth(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> _Truth:
    """By LU or QR in double precision, which is enough: these matrices are well conditioned.

    The error of a backward stable solver is a small multiple of κ eps where b is consistent, and up to
    κ² eps ‖r‖ / (‖A‖ ‖x‖) more where it is not (Björck 1996, 1.4.3).
    """
    a, b = a.astype(np.float64), b.astype(np.float64)
    m, n = a.shape[-2:]
    if m == n:
        inverse = np.linalg.inv(a)
        x = np.linalg.solve(a, b)
        # The norms of Frobenius bound those of the largest singular value, that of the inverse closely.
        condition = np.linalg.norm(inverse, axis=(-2, -1)) * np.linalg.norm(a, axis=(-2, -1)) / math.sqrt(n) * 2
        return _Truth(x, float(10 * np.max(condition) * math.sqrt(n)))
    tall = a if m > n else np.swapaxes(a, -1, -2)
    q, triangle = np.linalg.qr(tall)
    if m > n:
        x = np.linalg.solve(triangle, np.swapaxes(q, -1, -2) @ b)
    else:
        x = q @ np.linalg.solve(np.swapaxes(triangle, -1, -2), b)
    s = np.linalg.svdvals(triangle)
    return _Truth(x, float(10 * max(np.max(s[..., 0] / s[..., -1]), 10.0) ** 2))


def _error(x: np.ndarray[Any, Any], truth: np.ndarray[Any, Any]) -> float:
    """The largest relative error over the batch, in the norm of each solution."""
    difference = np.linalg.norm(np.asarray(x, np.float64) - truth, axis=(-2, -1))
    return float(np.max(difference / np.linalg.norm(truth, axis=(-2, -1))))


def _small_solve() -> dict[str, float]:
    """What one small solve costs beside the smallest operation that MLX must evaluate, in microseconds."""
    calls = small_calls()
    if not calls:
        return {}
    repeats = 100
    times = timing.in_turns({name: _repeated(call, repeats) for name, call in calls.items()}, rounds=40, budget=10.0)
    taken = {name: timing.median(each) / repeats * 1e6 for name, each in times.items()}
    (operation, smallest), (solve, solved) = taken.items()
    return {f"{operation}, µs": smallest, f"{solve}, µs": solved, "ratio": solved / smallest}


def _print(rows: list[Row]) -> None:
    for dtype, outputs in dict.fromkeys((row["dtype"], row["outputs"]) for row in rows):
        some = [row for row in rows if (row["dtype"], row["outputs"]) == (dtype, outputs)]
        ours = list(dict.fromkeys(row["solver"] for row in some if row["ours"]))
        reading = "reading x" if outputs == "x" else "reading x, residuals, rank and s"
        table = Table(
            title=f"{dtype}, {reading}",
            caption="Milliseconds, medians. In brackets: how many times faster than the fastest of the others.",
        )
        table.add_column("problem", no_wrap=True)
        for name in ours:
            table.add_column(name.removeprefix("lstsq "), justify="right")
        on_device = some[0]["times the floor"] is None
        for name in ("fastest other",) if on_device else ("numpy", "fastest other", "floor"):
            table.add_column(name, justify="right")
        for problem in dict.fromkeys(row["problem"] for row in some):
            cells = {row["solver"]: row for row in some if row["problem"] == problem}
            others = [row for row in cells.values() if not row["ours"]]
            best = min(others, key=lambda row: row["seconds"]) if others else None
            first = next(iter(cells.values()))
            line = [_cell(cells.get(name)) for name in ours]
            fastest = f"{_cell(best)} {best['solver']}" if best else "–"
            if on_device:
                line.append(fastest)
            else:
                line += [_cell(cells.get("numpy")), fastest, _figure(first["seconds"] / first["times the floor"])]
            table.add_row(problem, *line)
        console.print(table)
    _print_same_driver(rows)


def _print_same_driver(rows: list[Row]) -> None:
    """What our layer costs over LAPACK: the same algorithm through SciPy."""
    medians = {(row["problem"], row["dtype"], row["outputs"], row["solver"]): row["seconds"] for row in rows}
    table = Table(title="Our time over SciPy's with the same algorithm (SciPy computes float32 in single precision)")
    for name in ("problem", "dtype", "gelsd, all outputs, over gelsd", "qr, x alone, over gelsy"):
        table.add_column(name, justify="left" if name in ("problem", "dtype") else "right")
    for problem, dtype in dict.fromkeys((row["problem"], row["dtype"]) for row in rows):
        cells = []
        for outputs, mine, theirs in (("all", "lstsq mlx gelsd", "scipy gelsd"), ("x", "lstsq mlx qr", "scipy gelsy")):
            a, b = (medians.get((problem, dtype, outputs, name)) for name in (mine, theirs))
            cells.append(f"{a / b:.2f}" if a and b else "–")
        if cells != ["–", "–"]:
            table.add_row(problem, dtype, *cells)
    if table.row_count:
        console.print(table)


def _markdown(rows: list[Row]) -> str:
    """The default driver on each library's arrays, as tables for a page."""
    tables = []
    for arrays, solver in QUOTED.items():
        for outputs in dict.fromkeys(row["outputs"] for row in rows):
            mine = [row for row in rows if (row["solver"], row["outputs"]) == (solver, outputs)]
            if mine:
                what = "x" if outputs == "x" else "all four outputs"
                tables.append(f"{arrays} arrays, {what}:\n\n{_table(mine)}")
    return "\n".join(tables) or f"None of {', '.join(QUOTED.values())} was timed.\n"


def _device_markdown(rows: list[Row]) -> str:
    """Ours on the arrays of each library beside its own solver, or the fastest of all others if it has none: tables."""
    libraries = list(dict.fromkeys(row["solver"].split()[1] for row in rows if row["ours"]))
    with_own = {row["solver"].split()[0] for row in rows if not row["ours"]}
    tables = []
    for dtype, outputs in dict.fromkeys((row["dtype"], row["outputs"]) for row in rows):
        some = [row for row in rows if (row["dtype"], row["outputs"]) == (dtype, outputs)]
        lines = [f"{dtype}, {'x' if outputs == 'x' else 'all four outputs'}, ms:", ""]
        heads = [f"{name}: ours | {'its own' if name in with_own else 'best other'} | ratio" for name in libraries]
        lines.append(f"| | {' | '.join(heads)} |")
        lines.append("| --- |" + " ---: |" * " | ".join(heads).count("|") + " ---: |")
        for problem in dict.fromkeys(row["problem"] for row in some):
            line = [problem]
            for library in libraries:
                ours = [row for row in some if (row["problem"], row["solver"]) == (problem, f"lstsq {library}")]
                others = [row for row in some if row["problem"] == problem and not row["ours"]]
                if library in with_own:
                    others = [row for row in others if row["solver"].split()[0] == library]
                line += _pair(*(min(found, key=lambda row: row["seconds"], default=None) for found in (ours, others)))
            lines.append(f"| {' | '.join(line)} |")
        tables.append("\n".join(lines) + "\n")
    return "\n".join(tables)


def _pair(ours: Row | None, other: Row | None) -> list[str]:
    times = [_figure(row["seconds"]) + ("" if row["right"] else " (wrong)") if row else "–" for row in (ours, other)]
    return [*times, f"{other['seconds'] / ours['seconds']:.3g}×" if ours and other else "–"]


def _table(rows: list[Row]) -> str:
    cells = {(row["problem"], row["dtype"]): row for row in rows}
    dtypes = list(dict.fromkeys(dtype for _, dtype in cells))
    lines = ["| | " + " | ".join(f"{dtype}, ms | best other | NumPy" for dtype in dtypes) + " |"]
    lines.append("| --- |" + " ---: | ---: | ---: |" * len(dtypes))
    for problem in dict.fromkeys(problem for problem, _ in cells):
        line = [text for dtype in dtypes for text in _comparison(cells.get((problem, dtype)))]
        lines.append(f"| {problem} | " + " | ".join(line) + " |")
    return "\n".join(lines) + "\n"


def _comparison(row: Row | None) -> list[str]:
    if row is None:
        return ["", "", ""]
    ratios = (row["ratio to best peer"], row["ratio to numpy"])
    return [_figure(row["seconds"]), *(f"{ratio:.3g}×" if ratio else "–" for ratio in ratios)]


def _cell(row: Row | None) -> str:
    if row is None:
        return "–"
    ratio = row["ratio to best peer"]
    text = _figure(row["seconds"]) + (f" ({ratio:.2g}×)" if row["ours"] and ratio else "")
    return text if row["right"] else f"[red]{text} WRONG[/red]"


def _figure(seconds: float) -> str:
    return f"{seconds * 1e3:.3g}" if seconds < 1 else f"{seconds * 1e3:.0f}"


def _plot(rows: list[Row], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    dtypes = list(dict.fromkeys(row["dtype"] for row in rows))
    names = list(dict.fromkeys(row["solver"] for row in rows))
    problems = list(dict.fromkeys(row["problem"] for row in rows))
    figure, axes = plt.subplots(1, len(dtypes), figsize=(6.5 * len(dtypes), 0.5 * len(problems) + 2.2), squeeze=False)
    markers = "osD^v<>PX*hd"
    for axis, dtype in zip(axes[0], dtypes):
        for i, name in enumerate(names):
            points = [
                (row["times the floor"], problems.index(row["problem"]))
                for row in rows
                if (row["dtype"], row["solver"]) == (dtype, name)
            ]
            ours = any(row["ours"] for row in rows if row["solver"] == name)
            if points:
                axis.plot(
                    *zip(*points),
                    linestyle="none",
                    marker=markers[i % len(markers)],
                    markersize=9 if ours else 6,
                    color=f"C{i}",
                    alpha=1.0 if ours else 0.6,
                    label=name,
                    zorder=4 if name in QUOTED.values() else 3 if ours else 2,
                )
        axis.set_xscale("log")
        axis.axvline(1, color="0.7", linewidth=1)
        axis.set_yticks(range(len(problems)), problems)
        axis.invert_yaxis()
        axis.set_title(dtype)
        axis.set_xlabel("time over the floor of this machine (left is faster)")
        axis.grid(axis="x", alpha=0.3)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=min(len(labels), 5), frameon=False)
    figure.tight_layout(rect=(0, 0.12, 1, 1))
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    typer.run(main)
