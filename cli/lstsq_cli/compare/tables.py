"""A comparison in the terminal: tables that fit 80 columns, and use more where there are more."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lstsq_cli import text
from lstsq_cli.compare import verdict
from lstsq_cli.compare.comparison import Comparison
from lstsq_cli.solvers import gathered
from lstsq_cli.timing import BRIEF

_WIDE = 130
_STYLES = {verdict.RIGHT: "", verdict.OTHER_CUTOFF: "yellow", verdict.LONGER: "bold red", verdict.WRONG: "bold red"}


def show(comparison: Comparison, console: Console, rows: int) -> None:
    """Print it; `rows` of x and of the singular values at most."""
    n, k = comparison.shape[1], comparison.problem.b.shape[1]
    console.print(
        Text.assemble(
            (comparison.problem.name, "bold"),
            f": {comparison.problem.headline}, {comparison.dtype}{comparison.where}, ",
            f"rank {comparison.rank}, cutoff {comparison.rcond:.3g} σ₁",
        )
    )
    console.print(Text(f"truth: {comparison.truth.method}"), style="dim")
    console.print()
    for sentence in verdict.lines(comparison):
        console.print(_sentence(sentence))
    _print(console, "Solvers", _solvers(comparison, console.width >= _WIDE))
    ways = list(verdict.ways(comparison))
    if ways:
        console.print()
        console.print("What ran", style="bold")
        for line in ways:
            console.print(Text(line))
    for i, table in enumerate(_solutions(comparison, console.width, rows)):
        _print(console, "x" if i == 0 else "", table)
    alike = verdict.alike(comparison)
    if alike:
        who = "all" if len(alike) == len(comparison.entries) else f"the other {len(alike)}"
        console.print(f"{who} are within rounding of the truth.", style="dim")
    if n * k > rows:
        console.print(
            f"… {n * k - rows} more coefficients: --rows {n * k} shows all, --json and --html have them.", style="dim"
        )
    _print(console, "Singular values", _singular_values(comparison, rows))
    if len(comparison.s) > rows:
        console.print(f"… {len(comparison.s) - rows} more singular values.", style="dim")
    console.print()
    for line in notes(comparison):
        console.print(line, style="dim")
    for line in comparison.problem.losses:
        console.print(Text(line))
    for sentence in gathered(comparison.absent):
        console.print(Text(f"not here: {sentence}", style="yellow"))


def notes(comparison: Comparison) -> Iterator[str]:
    """What the numbers mean."""
    yield (
        "x, r: digits in which the worst coefficient, and the residuals that are given, agree with the truth; – where "
        "none are given, or they are nothing but rounding. rank: in red where it is not that of the cutoff."
    )
    yield (
        "residual: ‖b − Ax‖. backward: how far A must move, relative to its size, for this x to be exact. optimality: "
        "‖Aᴴr‖ / (‖A‖ ‖r‖). In both, singular values at or below the cutoff count as zero."
    )
    best = comparison.best_optimality
    more = (
        " The residual is itself rounding, so it says nothing: the backward error does." if comparison.is_exact else ""
    )
    yield f"optimality: rounding x alone may make it {text.small(best)} here, whoever solves.{more}"
    if comparison.singly and len(comparison.singly) < len(comparison.entries):
        yield (
            f"{', '.join(comparison.singly)}: promises no more than single precision (JAX has double with "
            "JAX_ENABLE_X64=1); the others solve in double and round once."
        )
    if comparison.rank < comparison.shape[1]:
        yield "excess: the share of x that A does not see; a solution of minimum norm has none."
    counts = sorted({len(entry.seconds_x) for entry in comparison.entries})
    calls = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{counts[0]}"
    yield (
        f"time: median of {calls} calls of each in turn, in one process, until x (all: and residuals, "
        "rank and σ) can be read; each begins when no thread computes any more, those of less than "
        f"{text.seconds(BRIEF)} right after one that is not timed."
    )
    if comparison.load is not None and comparison.load > 1:
        yield (
            f"time: other programs keep this machine busy ({comparison.load:.1f} processes for each core): times say "
            "little."
        )
    peaks = [other.peak for other in comparison.entries]
    if any(peak.bytes is not None for peak in peaks):
        yield (
            "memory: peak of a first solve in a process of its own, beyond the loaded library and the input; for jax "
            "that includes compiling."
        )
    for told in dict.fromkeys(peak.note for peak in peaks if peak.note):
        yield f"memory: {told}."
    yield "digits: in which the worst coefficient agrees; those below 10 eps of the largest count as zero."
    problem = comparison.problem
    if problem.known is not None and comparison.rank < comparison.shape[1]:
        yield (
            f"The known x is that of full rank; this cutoff leaves rank {comparison.rank}. --rcond 0 keeps every "
            "singular value."
        )


def _print(console: Console, title: str, table: Table) -> None:
    # Not as the table's own title, which would be folded to the width of the table.
    console.print()
    if title:
        console.print(title, style="bold")
    console.print(table)


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)


def _solvers(comparison: Comparison, wide: bool) -> Table:
    table = _table()
    deficient = comparison.rank < comparison.shape[1]
    known = comparison.problem.known is not None
    table.add_column("#", justify="right", style="dim")
    table.add_column("solver", no_wrap=True)
    heads = ["rank", *(["condition"] if wide else []), "digits of x" if wide else "x", "of residual" if wide else "r"]
    heads += [*([comparison.problem.known_by] if known else []), *(["residual"] if wide else []), "backward"]
    heads += [*(["optimality"] if wide else []), *(["excess"] if deficient and wide else [])]
    heads += ["time", *(["time, all"] if wide else []), *(["memory"] if comparison.memory else [])]
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    fastest = min(entry.time_x for entry in comparison.entries)
    for i, entry in enumerate(comparison.entries, 1):
        told, judged = entry.metrics, verdict.of(comparison, entry).kind
        rank = "–" if entry.rank is None else str(entry.rank)
        style = "" if entry.rank in (None, comparison.rank) else "bold red"
        cells: list[Text | str] = [str(i), Text(entry.label, style=_STYLES[judged]), Text(rank, style=style)]
        cells += ["–" if entry.condition is None else f"{entry.condition:.3g}"] if wide else []
        cells += [Text(f"{entry.x_digits:.1f}", style=_STYLES[judged]), text.digits(entry.residual_digits)]
        cells += [text.digits(entry.known_digits)] if known else []
        cells += [f"{told.residual:.4g}"] if wide else []
        cells += [_error(told.backward_error, comparison.is_large(told.backward_error))]
        cells += ["–" if comparison.is_exact else text.small(told.optimality)] if wide else []
        cells += [_error(told.excess, comparison.is_large_excess(told.excess))] if deficient and wide else []
        cells += [Text(text.seconds(entry.time_x), style="bold green" if entry.time_x == fastest else "")]
        cells += [text.seconds(entry.time_all)] if wide else []
        cells += [text.size(entry.peak.bytes)] if comparison.memory else []
        table.add_row(*cells)
    return table


def _sentence(sentence: str) -> Text:
    """A sentence of the verdict, its first words in a colour."""
    head, _, rest = sentence.partition(":")
    kind = next((kind for kind in _STYLES if head.startswith(kind)), None)
    return Text.assemble((head, "bold" if kind is None else _STYLES[kind] or "green"), f":{rest}")


def _error(value: float, large: bool) -> Text:
    return Text(text.small(value), style="bold red" if large else "")


def _solutions(comparison: Comparison, width: int, rows: int) -> Iterator[Table]:
    """The coefficients once, and beside them how far off those are who are not right, as many as fit."""
    problem, precision = comparison.problem, text.precision(comparison.dtype)
    k = problem.b.shape[1]
    names = [f"{name}, b{j}" if k > 1 else name for name in problem.columns for j in range(k)][:rows]
    truth = comparison.truth.solution.x
    columns = [("truth", [text.number(value, precision) for value in truth.ravel()[:rows].tolist()])]
    if problem.known is not None:
        columns.append(
            (problem.known_by, [text.number(value, precision) for value in problem.known.ravel()[:rows].tolist()])
        )
    for entry in verdict.unlike(comparison):
        off = (entry.x - truth).ravel()[:rows].tolist()
        columns.append((f"{entry.label} −", [text.number(value, 2) for value in off]))
    label = min(max(map(len, [*names, "coefficient"])), 24)
    cell = max(len(item) for head, items in columns for item in [head, *items])
    across = max(1, (width - label) // (cell + 2))
    for start in range(0, len(columns), across):
        table = _table()
        table.add_column("coefficient", no_wrap=True, max_width=label, overflow="ellipsis")
        block = columns[start : start + across]
        for head, _ in block:
            table.add_column(Text(head), justify="right", no_wrap=True, min_width=cell)
        for i, name in enumerate(names):
            table.add_row(Text(name), *(Text(items[i]) for _, items in block))
        yield table


def _singular_values(comparison: Comparison, rows: int) -> Table:
    table = _table()
    for head in ("i", "σ", "σ / σ₁", "spread / σ₁"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("counts as zero for", overflow="fold")
    s, largest = comparison.s, comparison.s[0] or 1.0
    for i in _rows_around_the_cutoff(len(s), comparison.rank, rows):
        found = np.array([float(entry.s[i]) for entry in comparison.entries if entry.s is not None] or [np.nan])
        told = [(number, entry.rank) for number, entry in enumerate(comparison.entries, 1) if entry.rank is not None]
        dropped = [str(number) for number, rank in told if i >= rank]
        everyone = len(dropped) == len(told) > 0
        table.add_row(
            str(i + 1),
            f"{s[i]:.6g}",
            f"{s[i] / largest:.2e}",
            text.small(float((found.max() - found.min()) / largest)),
            "all" if everyone else Text(", ".join(dropped), style="bold red"),
            style="dim" if everyone else "",
        )
    return table


def _rows_around_the_cutoff(length: int, rank: int, rows: int) -> list[int]:
    """Which singular values to show: of many, the first, and those on both sides of the cutoff."""
    if length <= rows:
        return list(range(length))
    half = rows // 2
    near = min(max(rank - half // 2 - half % 2, 0), length - half)
    return sorted({*range(rows - half), *range(near, near + half)})
