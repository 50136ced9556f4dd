"""The support matrix as one page, each cell with a link to its failures."""

from __future__ import annotations

from collections.abc import Iterator

import lstsq
from lstsq_cli import page as html
from lstsq_cli.conformance.suite import Cell, Column, Matrix
from lstsq_cli.conformance.tables import summaries, written

#: Of one cell: its failures are mostly one failure.
_MANY = 50


def page(matrix: Matrix) -> str:
    """The page."""
    return html.document(f"lstsq conformance: {', '.join(matrix.counts)}", _body(matrix))


def _body(matrix: Matrix) -> Iterator[str]:
    yield f"<h1>Conformance: {html.escape(', '.join(matrix.counts))}</h1>"
    which = "every case" if matrix.full else "the quick selection"
    yield f'<p class="soft">lstsq {html.escape(lstsq.__version__)}, {which} of its suite</p>'
    for subject, counts in matrix.counts.items():
        told = ", ".join(f"{counts[outcome]} {name}" for outcome, name in summaries(counts))
        kind = "bad" if counts["failed"] else "good"
        yield f'<p class="{kind}">{html.escape(subject)}: {told} in {matrix.seconds[subject]:.0f} s</p>'
    yield "<h2>Support matrix</h2>"
    yield html.table(["contract", *(column.label for column in matrix.columns)], _rows(matrix))
    yield (
        '<p class="soft">✓: how many tests passed; ✗: how many of them failed, with a link to them; –: no test, since '
        "the backend claims nothing there, or the row is tested in its other columns.</p>"
    )
    yield from _failures(matrix)
    yield "<h2>The rows of the contract</h2>"
    rows = matrix.rows().items()
    yield html.table(
        ["row", "what it says"], ([html.cell(row), html.cell(text, "text")] for row, text in rows), prose=True
    )


def _rows(matrix: Matrix) -> Iterator[list[str]]:
    for row in matrix.rows():
        yield [html.cell(row), *(_cell(row, column, matrix.cells.get((row, column))) for column in matrix.columns)]


def _cell(row: str, column: Column, cell: Cell | None) -> str:
    if cell is None or not cell.failures:
        return html.cell(written(cell), "dim" if cell is None or not cell.total else "good")
    return f'<td class="bad"><a class="bad" href="#{_anchor(row, column)}">{html.escape(written(cell))}</a></td>'


def _failures(matrix: Matrix) -> Iterator[str]:
    if matrix.failed:
        yield "<h2>Failures</h2>"
    for row, column, cell in matrix.failing():
        yield f'<section id="{_anchor(row, column)}"><h3>{html.escape(f"{column.label}: {row}")}</h3>'
        for failure in cell.failures[:_MANY]:
            yield f"<details><summary><code>{html.escape(failure.test)}</code><br>"
            yield f'<span class="soft">{html.escape(failure.summary)}</span></summary>'
            yield f"<pre>{html.escape(failure.details or failure.message)}</pre></details>"
        if len(cell.failures) > _MANY:
            yield f'<p class="soft">… and {len(cell.failures) - _MANY} more.</p>'
        yield "</section>"


def _anchor(row: str, column: Column) -> str:
    return html.escape("-".join(("fail", row, column.label)).replace(" ", "_"))
