"""A comparison as one page, with plots."""

from __future__ import annotations

import math
from collections.abc import Iterator

from lstsq_cli import page as html
from lstsq_cli import text
from lstsq_cli.compare import plots, verdict
from lstsq_cli.compare.comparison import Comparison
from lstsq_cli.compare.tables import notes
from lstsq_cli.solvers import gathered

#: More coefficients than these belong in --json.
_ROWS = 500


def page(comparison: Comparison) -> str:
    """The page."""
    return html.document(f"lstsq compare: {comparison.problem.name}", _body(comparison))


def _body(comparison: Comparison) -> Iterator[str]:
    n, k = comparison.shape[1], comparison.problem.b.shape[1]
    yield f"<h1>{html.escape(comparison.problem.name)}</h1>"
    facts = f"{comparison.problem.headline}, {comparison.dtype}{comparison.where}"
    facts += f"; rank {comparison.rank}, cutoff {comparison.rcond:.3g} σ₁"
    yield f'<p class="soft">{html.escape(facts)}</p>'
    for line in comparison.problem.losses:
        yield f'<p class="soft">{html.escape(line)}</p>'
    yield f'<p class="soft">Truth: {html.escape(comparison.truth.method)}</p>'
    yield '<ul class="verdict">'
    for sentence in verdict.lines(comparison):
        head, _, rest = sentence.partition(":")
        yield f"<li><strong>{html.escape(head)}</strong>:{html.escape(rest)}</li>"
    yield "</ul>"
    yield "<h2>Solvers</h2>"
    yield _solvers(comparison)
    for sentence in gathered(comparison.absent):
        yield f'<p class="soft">Not here: {html.prose(sentence)}</p>'
    ways = list(verdict.ways(comparison))
    if ways:
        yield "<h2>What ran</h2><ul>"
        yield from (f"<li>{html.prose(line)}</li>" for line in ways)
        yield "</ul>"
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
    alike = verdict.alike(comparison)
    if alike:
        within = ", ".join(entry.label for entry in alike)
        yield f'<p class="soft">Within rounding of the truth: {html.escape(within)}.</p>'
    if n * k > _ROWS:
        yield f'<p class="soft">The first {_ROWS} of {n * k}; --json has all.</p>'
    yield '<h2>What the numbers mean</h2><div class="notes">'
    for line in notes(comparison):
        yield f"<p>{html.prose(line)}</p>"
    yield "</div>"


def _solvers(comparison: Comparison) -> str:
    known, deficient = comparison.problem.known is not None, comparison.rank < comparison.shape[1]
    head = ["solver", "rank", "digits of x", "digits of residual"]
    head += [*([f"digits of {comparison.problem.known_by}"] if known else []), "condition", "residual", "backward"]
    head += ["optimality", *(["excess"] if deficient else []), "time", "time, all"]
    head += ["memory"] if comparison.memory else []
    rows = []
    for entry in comparison.entries:
        told, judged = entry.metrics, verdict.of(comparison, entry)
        bad = "" if judged.kind == verdict.RIGHT else "bad"
        row = [
            html.cell(entry.label, bad),
            html.cell("–" if entry.rank is None else str(entry.rank), _rank(comparison, entry.rank)),
            html.cell(text.digits(entry.x_digits), bad),
            html.cell(text.digits(entry.residual_digits)),
            *([html.cell(text.digits(entry.known_digits))] if known else []),
            html.cell("–" if entry.condition is None else f"{entry.condition:.3g}"),
            html.cell(f"{told.residual:.6g}"),
            _error(told.backward_error, comparison.is_large(told.backward_error)),
            html.cell("–" if comparison.is_exact else text.small(told.optimality)),
        ]
        row += [_error(told.excess, comparison.is_large_excess(told.excess))] if deficient else []
        row += [html.cell(text.seconds(entry.time_x)), html.cell(text.seconds(entry.time_all))]
        rows.append([*row, html.cell(text.size(entry.peak.bytes))] if comparison.memory else row)
    return html.table(head, rows)


def _rank(comparison: Comparison, rank: int | None) -> str:
    return "" if rank in (None, comparison.rank) else "bad"


def _error(value: float, large: bool) -> str:
    return html.cell(text.small(value), "bad" if large else "")


def _coefficients(comparison: Comparison) -> str:
    problem, precision = comparison.problem, text.precision(comparison.dtype) + 2
    k = problem.b.shape[1]
    names = [f"{name}, b{j}" if k > 1 else name for name in problem.columns for j in range(k)][:_ROWS]
    truth = comparison.truth.solution.x
    columns = {"truth": [text.number(value, precision) for value in truth.ravel()[:_ROWS].tolist()]}
    if problem.known is not None:
        columns[problem.known_by] = [text.number(value, precision) for value in problem.known.ravel()[:_ROWS].tolist()]
    for entry in verdict.unlike(comparison):
        columns[f"{entry.label} − truth"] = [text.number(v, 3) for v in (entry.x - truth).ravel()[:_ROWS].tolist()]
    rows = ([html.cell(name), *(html.cell(column[i]) for column in columns.values())] for i, name in enumerate(names))
    return html.table(["coefficient", *columns], rows)
