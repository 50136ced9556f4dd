"""A fit as one page."""

from __future__ import annotations

import math
from collections.abc import Iterator

from lstsq_cli import page as html
from lstsq_cli import text
from lstsq_cli.fit.estimate import Fit
from lstsq_cli.fit.terminal import facts, headline, warnings


def page(fit: Fit) -> str:
    """The page."""
    return html.document(f"lstsq fit: {fit.name}", _body(fit))


def _body(fit: Fit) -> Iterator[str]:
    yield f"<h1>{html.escape(fit.name)}</h1>"
    yield f'<p class="soft">{html.escape(headline(fit))}</p>'
    for line in warnings(fit):
        yield f'<p class="bad">{html.prose(line)}</p>'
    for line in facts(fit):
        yield f"<p>{html.prose(line)}</p>"
    yield "<h2>Coefficients</h2>"
    yield _coefficients(fit)
    yield "<h2>Singular values</h2>"
    counted = [(i, value, i < fit.rank) for i, value in enumerate(fit.s.tolist())]
    yield html.table(
        ["index", "value", "counts as"],
        (
            [html.cell(str(i + 1)), html.cell(f"{value:.6g}"), html.cell("itself" if counts else "zero")]
            for i, value, counts in counted
        ),
    )


def _coefficients(fit: Fit) -> str:
    several = len(fit.target) > 1
    head = ["coefficient"]
    for name in fit.target:
        head += [f"of {name}" if several else "value", "standard error"]
    precision = text.precision(fit.dtype) + 2
    rows = []
    for name, x, errors in zip(fit.columns, fit.x.tolist(), fit.errors.tolist()):
        row = [html.cell(name)]
        for value, error in zip(x, errors):
            row += [html.cell(text.number(value, precision)), html.cell("–" if math.isnan(error) else f"{error:.4g}")]
        rows.append(row)
    return html.table(head, rows)
