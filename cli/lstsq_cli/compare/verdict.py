"""Who is right and who is not, and in what, in words: each answer held against the truth.

An answer is right if it is no further from the truth than rounding may take it in the dtype of the problem, 30 times
(`lstsq_conformance.ratios` says why 30); and if rank and residuals, where they are given, are right as well. Where the
problem does not determine x to a digit, it is right if a small change of A makes it exact, and it is not too long.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lstsq_cli import text
from lstsq_cli.compare import metrics
from lstsq_cli.compare.measure import DECLINED
from lstsq_cli.problems import NumpyArray
from lstsq_cli.solvers import gathered
from lstsq_conformance.ratios import LIMIT

if TYPE_CHECKING:
    from lstsq_cli.compare.comparison import Comparison, Entry

RIGHT, OTHER_CUTOFF, LONGER, WRONG = "right", "another cutoff", "not of minimum norm", "wrong"

#: What rounding in extended precision leaves of a zero.
_NOTHING = 1e-28


class Verdict(NamedTuple):
    """What is to be said of one answer."""

    #: One of those above.
    kind: str
    #: What is wrong, without the solver's name; empty for what is right.
    why: str = ""


def of(comparison: Comparison, entry: Entry) -> Verdict:
    """Judge one answer."""
    found = _of_answer(comparison, entry)
    return found._replace(why=f"not the same at each call, and at worst: {found.why}") if entry.unsteady else found


def _of_answer(comparison: Comparison, entry: Entry) -> Verdict:
    truth = comparison.truth
    nearest = _nearest(comparison, entry)
    if nearest != truth.rank and _is_right_at(comparison, entry, nearest):
        keeps = f"keeps {nearest} of {len(truth.s)} singular values, and the contract {truth.rank}"
        keeps += "" if comparison.determined(nearest) else "; x has no sure digit there"
        if entry.rank not in (None, nearest):
            return Verdict(WRONG, f"it says rank {entry.rank}, and {keeps}")
        return Verdict(OTHER_CUTOFF, keeps)
    if _is_right_at(comparison, entry, truth.rank):
        faults = [*_of_rank(comparison, entry), *_of_residuals(comparison, entry)]
        return Verdict(WRONG, f"x is right, and {' and '.join(faults)}") if faults else Verdict(RIGHT)
    faults = _of_rank(comparison, entry)
    size, right = np.linalg.norm(entry.x.astype(complex)), np.linalg.norm(truth.solution.x)
    above = _residual_above(comparison, entry)
    faults += ["no digit of x is right" if entry.x_digits < 1 else f"x is right to {entry.x_digits:.1f} digits only"]
    longer = comparison.is_large_excess(entry.metrics.excess)
    if longer:
        faults += [f"x is {size / right:.3g} times as long" if right > 0 else f"x is {size:.3g} long, and not zero"]
    faults += [*([above] if above else []), *_of_residuals(comparison, entry)]
    return Verdict(LONGER if longer and above is None else WRONG, "; ".join(faults))


def _nearest(comparison: Comparison, entry: Entry) -> int:
    """Of the ranks that it may have found, the one whose solution is the nearest to x.

    That of the cutoff, the one that it says, and the full one; but nothing below the rounding of the dtype is kept by
    any cutoff.
    """
    truth = comparison.truth
    full = len(truth.s)
    ranks = {truth.rank, full if entry.rank is None else min(entry.rank, full), full}
    there = [
        rank for rank in ranks if rank == truth.rank or rank == 0 or truth.s[rank - 1] > comparison.eps / 2 * truth.s[0]
    ]
    return min(sorted(there), key=lambda rank: float(np.linalg.norm(entry.x - truth.at(rank).x)))


def _is_right_at(comparison: Comparison, entry: Entry, rank: int) -> bool:
    """Whether x is the solution with so many singular values, as far as rounding allows."""
    if comparison.determined(rank):
        truth = comparison.truth.at(rank)
        apart = np.linalg.norm(entry.x - truth.x, axis=0)
        units = comparison.eps * (truth.norms + truth.changes)
        # However little the data determine, a digit they do.
        limits = np.minimum(LIMIT * units, np.where(truth.norms > 0, 0.1 * truth.norms, np.inf))
        return bool((apart <= limits).all())
    told = metrics.judge(comparison.stick._replace(rank=rank), entry.x)
    return not comparison.is_large(told.backward_error) and not comparison.is_large_excess(told.excess, rank)


def _of_rank(comparison: Comparison, entry: Entry) -> list[str]:
    if entry.rank is None or entry.rank == comparison.truth.rank:
        return []
    return [f"it says rank {entry.rank}, and it is {comparison.truth.rank}"]


def _rounding_of_residual(comparison: Comparison, x: NumpyArray) -> float:
    """What rounding of A and b may do to the norm of the residual of this x."""
    reach = float(comparison.truth.s[0]) * float(np.linalg.norm(x)) + float(np.linalg.norm(comparison.problem.b))
    return LIMIT * comparison.eps * min(comparison.shape) * reach


def _of_residuals(comparison: Comparison, entry: Entry) -> list[str]:
    if entry.residuals is None:
        return []
    own = entry.metrics.residual
    # And of the sum of squares.
    allowed = _rounding_of_residual(comparison, entry.x) + LIMIT * comparison.eps * math.sqrt(comparison.shape[0]) * own
    # NaN is not right, either.
    said = float(np.sqrt(np.sum(entry.residuals.astype(float))))
    return [] if abs(said - own) <= allowed else ["the residuals that it gives are not those of its x"]


def _residual_above(comparison: Comparison, entry: Entry) -> str | None:
    """By how much the residual of this x is too large, or None."""
    least = float(np.linalg.norm(comparison.truth.solution.residuals))
    rounding = _rounding_of_residual(comparison, comparison.truth.solution.x)
    if entry.metrics.residual <= least + rounding:
        return None
    if LIMIT * least <= rounding:
        return f"its residual is {entry.metrics.residual:.3g}, which could be next to 0"
    times = entry.metrics.residual / least
    return f"its residual is {f'{100 * (times - 1):.2g} % above' if times < 2 else f'{times:.3g} times'} the smallest"


def lines(comparison: Comparison) -> Iterator[str]:
    """The verdict, a sentence each."""
    verdicts = [(entry, of(comparison, entry)) for entry in comparison.entries]
    right = [entry for entry, verdict in verdicts if verdict.kind == RIGHT]
    if right:
        who = f"all {len(right)}" if len(right) == len(verdicts) > 1 else _named([entry.label for entry in right])
        yield f"right: {who}: {_range([entry.x_digits for entry in right])} digits."
    else:
        yield "right: none of these."
    others: dict[str, list[str]] = {}
    for entry, verdict in sorted(verdicts, key=lambda pair: (OTHER_CUTOFF, LONGER, WRONG, RIGHT).index(pair[1].kind)):
        if verdict.kind != RIGHT:
            others.setdefault(f"{verdict.kind}: {verdict.why}", []).append(entry.label)
    for said, labels in others.items():
        kind, _, why = said.partition(": ")
        yield f"{kind}: {_named(labels)}: {why}."
    # To decline is a way to answer, which its users know.
    failed = [refusal for refusal in comparison.failed if refusal.reason != DECLINED]
    yield from (f"no answer: {sentence}." for sentence in gathered(failed))
    yield from _fastest(right)
    yield _data(comparison)
    yield from _certified(comparison, right)


def _named(labels: list[str]) -> str:
    """The labels, what several begin with said once: ``numpy gelsd, svd; jax svd``."""
    groups: dict[str, list[str]] = {}
    for label in labels:
        module, _, method = label.partition(" ")
        groups.setdefault(module, []).append(method)
    return "; ".join(f"{module} {', '.join(methods)}".strip() for module, methods in groups.items())


def _fastest(right: list[Entry]) -> Iterator[str]:
    if len(right) < 2:
        return
    first, *rest = sorted(right, key=lambda entry: entry.time_x)
    line = f"fastest of the right: {first.label}, {text.seconds(first.time_x)}"
    # The best of ours and of the peers, whichever is not the fastest.
    of_others = [entry for entry in rest if (entry.solver.peer is None) != (first.solver.peer is None)]
    beside = of_others[0] if of_others else rest[0]
    yield f"{line}; {beside.label} takes {beside.time_x / first.time_x:.3g} times as long."


def _data(comparison: Comparison) -> str:
    truth = comparison.truth
    s, rank = truth.s, truth.rank
    if not rank:
        return "the data: every singular value counts as zero, and x is 0."
    line = f"the data: condition {s[0] / s[rank - 1]:.3g}"
    fall = f"the cutoff, {comparison.rcond:.2g} σ₁, "
    if rank == len(s):
        line += f"; {fall}drops nothing (σ{rank} is {s[-1] / s[0]:.2g} σ₁)"
    else:
        line += f" without what is cut off; {fall}lies between σ{rank}, {s[rank - 1] / s[0]:.2g} σ₁, and σ{rank + 1}, "
        below = float(s[rank] / s[0])
        line += f"{text.small(below if below > _NOTHING else 0.0)} σ₁"
    if comparison.determined(rank):
        return f"{line}; rounding in {comparison.dtype} leaves {comparison.x_digits:.0f} digits of x or more."
    return f"{line}; rounding in {comparison.dtype} may leave no digit of x."


def _certified(comparison: Comparison, right: list[Entry]) -> Iterator[str]:
    known = comparison.problem.known
    if known is None:
        return
    by = comparison.problem.known_by
    if comparison.truth.rank < known.shape[0]:
        yield (
            f"{by}: the certified x keeps all {known.shape[0]} singular values, and this cutoff "
            f"{comparison.truth.rank}; --rcond 0 keeps them all."
        )
    elif right:
        digits = [entry.known_digits for entry in right if entry.known_digits is not None]
        yield f"{by}: those who are right have {_range(digits)} digits of the certified x."


def _range(digits: list[float]) -> str:
    least, most = f"{min(digits):.0f}", f"{max(digits):.0f}"
    return least if least == most else f"{least} to {most}"


def ways(comparison: Comparison) -> Iterator[str]:
    """Which way our own solvers went, those that went one way together."""
    went: dict[str, list[str]] = {}
    for entry in comparison.entries:
        if entry.ran:
            went.setdefault(entry.ran, []).append(entry.label)
    for way, labels in went.items():
        # That a driver is itself what answered, its name says.
        if not all(way == f"{label.rpartition(' ')[2]} answered" for label in labels):
            yield f"{_named(labels)}: {way}."


def alike(comparison: Comparison) -> list[Entry]:
    """Those whose x is the truth within rounding: there is nothing to see beside it."""
    return [entry for entry in comparison.entries if _is_right_at(comparison, entry, comparison.truth.rank)]


def unlike(comparison: Comparison) -> list[Entry]:
    """The others."""
    return [entry for entry in comparison.entries if not _is_right_at(comparison, entry, comparison.truth.rank)]
