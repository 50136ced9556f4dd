"""The support matrix in the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lstsq_cli.conformance.suite import Cell, Column, Matrix

#: Of one cell: its failures are mostly one failure.
_FAILURES = 2


def show(matrix: Matrix, console: Console) -> None:
    """Print the matrix, and the first failures."""
    for columns in _side_by_side(matrix, console.width):
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
        table.add_column("contract", no_wrap=True)
        for column in columns:
            table.add_column(Text(_head(column)), justify="right", no_wrap=True)
        for row in matrix.rows():
            table.add_row(row, *(_cell(matrix.cells.get((row, column))) for column in columns))
        console.print(table)
        console.print()
    for subject, counts in matrix.counts.items():
        told = ", ".join(f"{counts[outcome]} {summary}" for outcome, summary in summaries(counts))
        style = "bold red" if counts["failed"] else "green"
        console.print(Text(f"{subject}: {told} in {matrix.seconds[subject]:.0f} s", style=style))
    for row, column, cell in matrix.failing():
        _show_failures(f"{column.label}, {row}", cell, console)
    if not matrix.full:
        console.print("The quick selection; --full runs every case.", style="dim")


def _side_by_side(matrix: Matrix, width: int) -> Iterator[list[Column]]:
    """The columns, as many together as fit beside the names of the rows; names of backends are not cut off."""
    left = 0
    together: list[Column] = []
    for column in matrix.columns:
        cells = (written(matrix.cells.get((row, column))) for row in matrix.rows())
        needed = 2 + max(map(len, (*_head(column).split("\n"), *cells)))
        if together and needed > left:
            yield together
            together = []
        if not together:
            left = width - max(map(len, matrix.rows()))
        together.append(column)
        left -= needed
    yield together


def _head(column: Column) -> str:
    if column.of_peer:
        return column.subject.replace(" ", "\n", 1)
    return f"{column.subject}\n{column.driver or '(any)'}"


def _show_failures(title: str, cell: Cell, console: Console) -> None:
    console.print()
    console.print(Text(title, style="red"))
    for failure in cell.failures[:_FAILURES]:
        # Not folded, so that a name can be copied.
        console.print(Text(f"  {failure.test}"), soft_wrap=True)
        console.print(Text(f"    {failure.summary}", style="dim"), soft_wrap=True)
    if len(cell.failures) > _FAILURES:
        console.print(f"  … and {len(cell.failures) - _FAILURES} more: --html FILE shows all.", style="dim")


def summaries(counts: dict[str, int]) -> list[tuple[str, str]]:
    """The outcomes that there were, and their names."""
    names = (("passed", "passed"), ("failed", "failed"), ("known", "known failures"), ("skipped", "skipped"))
    return [(outcome, name) for outcome, name in names if counts[outcome] or outcome == "passed"]


def written(cell: Cell | None) -> str:
    """A cell in a word: how many tests, and how many of them failed."""
    if cell is None or not cell.total:
        return "–"
    known = f" ({cell.counts['known']} known)" if cell.counts["known"] else ""
    return f"✗ {cell.counts['failed']}/{cell.total}{known}" if cell.failures else f"✓ {cell.total}{known}"


def _cell(cell: Cell | None) -> Text:
    style = "dim" if cell is None or not cell.total else "bold red" if cell.failures else "green"
    return Text(written(cell), style=style)
