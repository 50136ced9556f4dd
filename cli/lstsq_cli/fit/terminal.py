"""A fit in the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lstsq_cli import text
from lstsq_cli.fit.estimate import Fit

#: More columns of a group than these are counted, and not named.
_NAMED = 12


def show(fit: Fit, console: Console, rows: int) -> None:
    """Print it; `rows` coefficients at most."""
    console.print(Text.assemble((fit.name, "bold"), f": {headline(fit)}"), soft_wrap=True)
    console.print()
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    table.add_column("coefficient", overflow="fold")
    several = len(fit.target) > 1
    for name in fit.target:
        table.add_column(Text(f"of {name}" if several else "value"), justify="right", no_wrap=True)
        table.add_column("standard error", justify="right", no_wrap=True)
    precision = text.precision(fit.dtype)
    for i, name in enumerate(fit.columns[:rows]):
        cells = []
        for x, error in zip(fit.x[i].tolist(), fit.errors[i].tolist()):
            cells += [text.number(x, precision), "–" if math.isnan(error) else f"{error:.3g}"]
        table.add_row(Text(name), *cells)
    console.print(table)
    if len(fit.columns) > rows:
        console.print(
            f"… {len(fit.columns) - rows} more: --rows {len(fit.columns)} shows all, --json and --html have them.",
            style="dim",
        )
    console.print()
    for line in facts(fit):
        console.print(Text(line))
    for line in warnings(fit):
        console.print(Text(line, style="yellow"))


def headline(fit: Fit) -> str:
    """Target and size, in a line."""
    target = ", ".join(fit.target)
    weights = f", weights {fit.weights}" if fit.weights else ""
    return f"target {target}, {_counted(fit.rows, 'row')}, {_counted(len(fit.columns), 'column')}{weights}, {fit.dtype}"


def facts(fit: Fit) -> Iterator[str]:
    """What goes for the fit as a whole, a line each."""
    yield f"rank {fit.rank} of {len(fit.columns)}, condition {fit.condition:.3g}, cutoff {fit.rcond:.3g} σ₁"
    several = len(fit.target) > 1
    for name, squares, deviation in zip(fit.target, fit.residuals.tolist(), fit.deviations.tolist()):
        of = f" of {name}" if several else ""
        told = (
            f"standard deviation {deviation:.6g}"
            if fit.freedom
            else "every row is met, so there are no standard errors"
        )
        yield (
            f"{'weighted ' if fit.weights else ''}residual sum of squares{of} {squares:.10g}, "
            f"{_counted(fit.freedom, 'degree')} of freedom, {told}"
        )
    if fit.dropped:
        yield f"left out: {_counted(fit.dropped, 'row')} with a missing cell"
    if fit.weightless:
        yield f"left out: {_counted(fit.weightless, 'row')} of weight 0"
    for told in fit.left_out:
        yield f"left out: the column {told}"


def warnings(fit: Fit) -> Iterator[str]:
    """What the reader must know before using a coefficient."""
    for group in fit.dependent:
        names = [fit.columns[i] for i in group]
        if len(names) == 1:
            yield f"{names[0]} is zero, or too small beside the others, in every row: the data do not determine it."
            continue
        named = ", ".join(names if len(names) <= _NAMED else [*names[:_NAMED], f"... ({len(names)} in all)"])
        yield (
            f"{named} depend on each other: the data do not determine their coefficients. Shown is the solution of "
            "minimum norm; leave one out with --drop."
        )


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' if count != 1 else ''}"
