"""The answers of one driver to a group of problems, solved together or one by one."""

from __future__ import annotations

import numpy as np

from lstsq_conformance.fuzz.judge import Judge, Verdict
from lstsq_conformance.fuzz.problems import Group
from lstsq_conformance.ratios import Answer
from lstsq_conformance.reference import NumpyArray, real_of
from lstsq_conformance.target import Target

MODES = ("batch", "single")


def verdict(target: Target, driver: str, mode: str, judge: Judge) -> Verdict:
    """How right the driver is about each problem of the group."""
    group = judge.group
    nothing, everything = np.arange(0), np.arange(len(group.a))
    answer, raised = _empty(group), np.zeros(len(group.a), bool)
    due = ~judge.finite_a if target.claims.nonfinite == "raises" else np.zeros(len(group.a), bool)
    # What is to raise would take its neighbours with it.
    together = np.flatnonzero(~due) if mode == "batch" else nothing
    if len(together):
        _solve(target, driver, group, together, answer, raised)
    for i in np.flatnonzero(due) if mode == "batch" else everything:
        _solve(target, driver, group, int(i), answer, raised)
    found = judge(answer, in_double=group.dtype in target.claims.solved_in_double)

    right = due & raised
    if driver in target.claims.declines:
        right |= np.isnan(answer.x).all(axis=(-2, -1)) & (answer.rank == 0) & judge.finite_a & ~raised
    if not target.library_has("subnormals"):
        right |= _has_subnormals(group.a, (-2, -1)) | _has_subnormals(group.b, (-2,))
    found = found._replace(raised=np.where(raised != due, np.inf, 0.0))
    return Verdict(*(np.where(right | (raised & (ratios is not found.raised)), 0.0, ratios) for ratios in found))


def _empty(group: Group) -> Answer:
    (size, m, n), k, real = group.a.shape, group.b.shape[-1], real_of(group.dtype)
    x, residuals, s = np.zeros((size, n, k), group.dtype), np.zeros((size, k), real), np.zeros((size, min(m, n)), real)
    return Answer(x, residuals, np.zeros(size, int), s)


def _solve(
    target: Target, driver: str, group: Group, index: int | NumpyArray, answer: Answer, raised: NumpyArray
) -> None:
    """Solve one problem, or these as a batch, and write the answer down."""
    a, b = group.a[index], group.b[index]
    vector = isinstance(index, int) and b.shape[-1] == 1 and index % 2 == 1
    if vector:
        b = b[:, 0]
    elif a.ndim == 3 and np.array_equal(a, np.broadcast_to(a[0], a.shape), equal_nan=True):
        # One matrix with many right-hand sides has a path of its own.
        a = a[0]
    try:
        found = target.solve(a, b, group.rcond, driver)
    except Exception:  # Whatever it is, it is not an answer.
        raised[index] = True
        return
    if a.ndim < b.ndim:
        found = found._replace(rank=np.broadcast_to(found.rank, len(b)))
    answer.x[index] = found.x[:, None] if vector else found.x
    answer.residuals[index], answer.rank[index], answer.s[index] = found.residuals, found.rank, found.s


def _has_subnormals(array: NumpyArray, axes: tuple[int, ...]) -> NumpyArray:
    """For which problems it changes the answer to take numbers below the normal ones for zeros."""
    tiny = np.finfo(real_of(str(array.dtype))).tiny
    parts = np.stack([np.abs(array.real), np.abs(array.imag)])
    below = np.asarray(((parts > 0) & (parts < tiny)).any(axis=0)).any(axis=axes)
    largest = np.asarray(parts.max(axis=0)).max(axis=axes)
    return np.asarray((below & (largest < tiny * 2.0**60)).reshape(len(array), -1).any(axis=-1))
