"""A comparison as one page, with plots."""

from __future__ import annotations

import math
from collections.abc import Iterator

import lstsq
from lstsq_cli import page as html
from lstsq_cli import text
from lstsq_cli.compare import plots
from lstsq_cli.compare.comparison import Comparison
from lstsq_cli.compare.tables import notes
from lstsq_cli.solvers import gathered

#: More coefficients than these belong in --json.
_ROWS = 500


def page(comparison: Comparison) -> str:
    """The page."""
    return html.document(f"lstsq compare: {comparison.problem.name}", _body(comparison))


def _body(comparison: Comparison) -> Iterator[str]:
    m, n = comparison.shape
    k = comparison.problem.b.shape[1]
    yield f"<h1>{html.escape(comparison.problem.name)}</h1>"
    sides = f", {k} right-hand sides" if k > 1 else ""
    facts = f"{m} × {n}{sides}, {comparison.dtype}{comparison.where}"
    facts += f"; rank {comparison.rank}, cutoff {comparison.rcond:.3g} σ₁"
    yield f'<p class="soft">{facts}; lstsq {html.escape(lstsq.__version__)}</p>'
    yield "<h2>Solvers</h2>"
    yield _solvers(comparison)
    for sentence in gathered(comparison.absent):
        yield f'<p class="soft">Not here: {html.prose(sentence)}</p>'
    yield '<div class="plots">'
    yield html.figure(
        plots.singular_values(comparison),
        "Singular values",
        "Those in the shaded range, at or below the cutoff, count as zero. Solvers that lie on top of each other are "
        "drawn once.",
    )
    yield html.figure(
        plots.residuals(comparison),
        "Residuals",
        "b − Ax in each row. Solvers that lie on top of each other are drawn once.",
    )
    optimality = (
        "The fit is exact: its residual is rounding, so that the optimality says nothing and is not drawn."
        if comparison.is_exact
        else f"Rounding x alone may make the optimality {text.small(comparison.best_optimality)} here."
    )
    yield html.figure(
        plots.errors(comparison),
        "Errors",
        "Further left is better. The backward error of a stable solver is at most a little above eps. " + optimality,
    )
    if len(comparison.entries) > 1:
        yield html.figure(
            plots.agreement(comparison),
            "Agreement",
            f"Digits in which the worst coefficient of each pair agrees; {comparison.dtype} has "
            f"{-math.log10(comparison.eps):.0f}.",
        )
    yield html.figure(plots.time(comparison), "Time", "Median of the calls, each of which is a thin mark.")
    yield "</div>"
    yield "<h2>Coefficients</h2>"
    yield _coefficients(comparison)
    if n * k > _ROWS:
        yield f'<p class="soft">The first {_ROWS} of {n * k}; --json has all.</p>'
    yield '<h2>What the numbers mean</h2><div class="notes">'
    for line in notes(comparison):
        yield f"<p>{html.prose(line)}</p>"
    yield "</div>"


def _solvers(comparison: Comparison) -> str:
    known, deficient = comparison.problem.known is not None, comparison.rank < comparison.shape[1]
    head = ["solver", "rank", "condition", "residual", "backward", "optimality"]
    head += [*(["excess"] if deficient else []), "time", "time, all", *(["memory"] if comparison.memory else [])]
    rows = []
    for entry in comparison.entries:
        told = entry.metrics
        row = [
            html.cell(entry.label),
            html.cell(str(entry.rank), "" if entry.rank == comparison.rank else "bad"),
            html.cell(f"{entry.condition:.3g}"),
            html.cell(f"{told.residual:.6g}"),
            _error(told.backward_error, comparison.is_large(told.backward_error)),
            html.cell(text.small(told.optimality)),
        ]
        row += [_error(told.excess, comparison.is_large_excess(told.excess))] if deficient else []
        row += [html.cell(text.seconds(entry.time_x)), html.cell(text.seconds(entry.time_all))]
        row += [html.cell(text.size(entry.peak.bytes))] if comparison.memory else []
        rows.append([*row, html.cell(f"{entry.known_digits:.1f}")] if known else row)
    return html.table([*head, f"digits of {comparison.problem.known_by}"] if known else head, rows)


def _error(value: float, large: bool) -> str:
    return html.cell(text.small(value), "bad" if large else "")


def _coefficients(comparison: Comparison) -> str:
    problem, precision = comparison.problem, text.precision(comparison.dtype) + 2
    k = problem.b.shape[1]
    names = [f"{name}, b{j}" if k > 1 else name for name in problem.columns for j in range(k)][:_ROWS]
    columns = {problem.known_by: problem.known} if problem.known is not None else {}
    columns |= {entry.label: entry.x for entry in comparison.entries}
    values = [x.ravel()[:_ROWS].tolist() for x in columns.values() if x is not None]
    rows = (
        [html.cell(name), *(html.cell(text.number(column[i], precision)) for column in values)]
        for i, name in enumerate(names)
    )
    return html.table(["coefficient", *columns], rows)
