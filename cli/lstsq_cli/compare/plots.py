"""The plots of a comparison, as SVG."""

from __future__ import annotations

import io
import textwrap
from typing import Any

import numpy as np

from lstsq_cli import text
from lstsq_cli.compare.comparison import Comparison
from lstsq_cli.errors import UserError
from lstsq_cli.problems import NumpyArray

try:
    import matplotlib as mpl
    from matplotlib.figure import Figure
except ModuleNotFoundError as error:
    raise UserError("--html needs matplotlib for its plots; run `pip install matplotlib`.") from error

_STYLE: Any = {
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 10,
    "grid.color": "#e4e7eb",
    "legend.frameon": False,
    # The same input gives the same page.
    "svg.hashsalt": "lstsq",
}
#: Okabe and Ito's colours, which are told apart by all.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000", "#B8A800")
_MARKERS = "ovs^DPX*"
_WIDTH = 5.4
#: More points than these say no more in a plot of this size, and make the page slow.
_MANY = 400


def singular_values(comparison: Comparison) -> str:
    """Singular values by index, every solver's, with the cutoff."""
    with mpl.rc_context(_STYLE):
        figure, axes = _figure(3.6)
        count = len(comparison.s)
        index = np.arange(1, count + 1)
        crowded = count > 60
        told = [(entry.label, entry.s) for entry in comparison.entries if entry.s is not None]
        told = told or [("the truth", comparison.s)]
        found = [np.where(s > 0, s, np.nan) for _, s in told]
        smallest = [np.nanmin(positive, initial=np.inf) for positive in found]
        labels = [label for label, _ in told]
        for i, (label, j) in enumerate(_told_apart(labels, [np.log(positive) for positive in found])):
            # Markers of falling size, so that those below show.
            size = max(7 - i, 3)
            style: dict[str, Any] = (
                {"lw": 1.2} if crowded else {"ls": "none", "marker": _MARKERS[i % 8], "ms": size, "mfc": "none"}
            )
            axes.plot(index, found[j], color=_COLOURS[i % 8], label=label, **style)
        largest = float(comparison.s[0])
        cutoff = comparison.rcond * largest
        if largest > 0:
            axes.set_yscale("log")
            floor = min(min(smallest), cutoff or np.inf) / 10
            axes.set_ylim(floor, largest * 10)
            if cutoff > 0:
                axes.axhspan(floor, cutoff, color="#d1495b", alpha=0.08, lw=0)
                axes.axhline(cutoff, color="#d1495b", ls="--", lw=1.2, label=f"cutoff {comparison.rcond:.2g} σ₁")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_xlabel("index")
        axes.set_ylabel("singular value")
        _legend(figure, axes)
        return _svg(figure)


def errors(comparison: Comparison) -> str:
    """Backward error and optimality of every solver, against the rounding of the dtype."""
    with mpl.rc_context(_STYLE):
        labels = [entry.label for entry in comparison.entries]
        figure, axes = _figure(1.3 + 0.32 * len(labels))
        place = np.arange(len(labels))
        told = [entry.metrics for entry in comparison.entries]
        values = {"backward error": [m.backward_error for m in told]}
        if not comparison.is_exact:
            values["optimality"] = [m.optimality for m in told]
        # A zero has no place on this axis; it is put at its left end.
        least = min([v for row in values.values() for v in row if v > 0], default=comparison.eps) / 10
        for (name, row), colour, marker in zip(values.items(), _COLOURS, "os"):
            axes.plot(np.maximum(row, least), place, ls="none", marker=marker, color=colour, ms=7, label=name)
        axes.axvline(comparison.eps, color="#d1495b", ls="--", lw=1.2, label=f"eps of {comparison.dtype}")
        axes.set_xscale("log")
        _names(axes, labels)
        _legend(figure, axes)
        return _svg(figure)


def residuals(comparison: Comparison) -> str:
    """Residual of each row, by every solver."""
    with mpl.rc_context(_STYLE):
        figure, axes = _figure(3.6)
        a, b = comparison.problem.a, comparison.problem.b
        rows = np.unique(np.linspace(0, len(a) - 1, min(len(a), _MANY)).astype(int))
        double = np.result_type(a, np.float64)
        found = []
        for entry in comparison.entries:
            r = b[rows].astype(double) - a[rows].astype(double) @ entry.x.astype(double)
            found.append(np.abs(r[:, 0]) if np.iscomplexobj(r) else r[:, 0])
        labels = [entry.label for entry in comparison.entries]
        for i, (label, j) in enumerate(_told_apart(labels, found)):
            size = max((7 if len(rows) < 60 else 4) - 0.9 * i, 2)
            style = {"ls": "none", "marker": _MARKERS[i % 8], "mfc": "none", "color": _COLOURS[i % 8]}
            axes.plot(rows + 1, found[j], ms=size, label=label, **style)
        axes.axhline(0, color="#52606d", lw=0.8)
        axes.set_xlabel("row" if len(rows) == len(a) else f"row ({len(rows)} of {len(a)} are drawn)")
        axes.set_ylabel("|b − Ax|" if np.iscomplexobj(a) else "b − Ax")
        _legend(figure, axes)
        return _svg(figure)


def agreement(comparison: Comparison) -> str:
    """Digits in which each pair agrees."""
    with mpl.rc_context({**_STYLE, "axes.grid": False}):
        labels = [entry.label for entry in comparison.entries]
        count, best = len(labels), -np.log10(comparison.eps)
        figure, axes = _figure(1.6 + 0.36 * count)
        shown = comparison.agreement
        others = np.where(np.eye(count, dtype=bool), np.nan, shown)
        axes.imshow(others, vmin=0, vmax=best, cmap="viridis", aspect="auto")
        for i in range(count):
            for j in range(count):
                if i != j:
                    colour = "white" if shown[i, j] < 0.6 * best else "black"
                    # Where there are many, there is room for whole digits alone.
                    digits = f"{shown[i, j]:.1f}" if count <= 9 else f"{int(shown[i, j])}"
                    axes.text(j, i, digits, ha="center", va="center", color=colour, fontsize=9)
        axes.set_xticks(range(count), labels, rotation=40, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(count), labels)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        return _svg(figure)


def time(comparison: Comparison) -> str:
    """Median time of every solver, to x and to everything, with every call as a thin mark."""
    with mpl.rc_context(_STYLE):
        entries = comparison.entries
        figure, axes = _figure(1.3 + 0.36 * len(entries))
        place = np.arange(len(entries))
        kinds = (
            ("x", "o", _COLOURS[0], -0.15, [(entry.time_x, entry.seconds_x) for entry in entries]),
            (
                "x, residuals, rank, σ",
                "s",
                _COLOURS[1],
                0.15,
                [(entry.time_all, entry.seconds_all) for entry in entries],
            ),
        )
        for name, marker, colour, offset, times in kinds:
            for i, (_, calls) in enumerate(times):
                axes.plot(calls, np.full(len(calls), i + offset), ls="none", marker="|", ms=6, color=colour, alpha=0.5)
            medians = [median for median, _ in times]
            axes.plot(medians, place + offset, ls="none", marker=marker, ms=7, color=colour, label=name)
        axes.set_xscale("log")
        every = [call for entry in entries for call in (*entry.seconds_x, *entry.seconds_all)]
        axes.set_xlim(min(every) / 2, max(every) * 2)
        axes.xaxis.set_major_formatter(lambda value, _: text.seconds(value))
        _names(axes, [entry.label for entry in entries])
        _legend(figure, axes)
        return _svg(figure)


def _figure(height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    return figure, figure.subplots()


def _told_apart(labels: list[str], found: list[NumpyArray]) -> list[tuple[str, int]]:
    """Groups of solvers whose numbers a plot cannot tell apart: the names in each, and the index of its first.

    `found` is what each solver has, on the scale of the plot.
    """
    numbers = np.stack(found)
    finite = numbers[np.isfinite(numbers)]
    visible = (finite.max() - finite.min()) / 100 if finite.size else 0.0
    groups: list[list[int]] = []
    for i, mine in enumerate(found):
        for group in groups:
            if np.allclose(mine, found[group[0]], rtol=0, atol=visible, equal_nan=True):
                group.append(i)
                break
        else:
            groups.append([i])
    if len(groups) == 1 and len(labels) > 1:
        return [(f"all {len(labels)} solvers", 0)]
    return [(textwrap.fill(", ".join(labels[i] for i in group), 80), group[0]) for group in groups]


def _names(axes: Any, labels: list[str]) -> None:
    """Solvers from top to bottom."""
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)


def _legend(figure: Figure, axes: Any) -> None:
    """Outside, where it hides nothing."""
    handles, labels = axes.get_legend_handles_labels()
    columns = 3 if max(map(len, labels)) <= 25 else 1
    figure.legend(
        handles, labels, loc="outside lower left", ncols=columns, fontsize=9, handlelength=1.5, columnspacing=1.2
    )


def _svg(figure: Figure) -> str:
    out = io.StringIO()
    # Without a background: the page has one, light or dark.
    figure.savefig(out, format="svg", metadata={"Date": None}, transparent=True)
    return out.getvalue()
