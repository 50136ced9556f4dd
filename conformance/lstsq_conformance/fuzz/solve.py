"""The answers of one driver to a group of problems, solved together or one by one."""

from __future__ import annotations

import numpy as np

from lstsq import LinAlgError
from lstsq_conformance.fuzz.judge import Judge, Verdict
from lstsq_conformance.fuzz.problems import Group
from lstsq_conformance.ratios import Answer
from lstsq_conformance.reference import NumpyArray, real_of
from lstsq_conformance.target import Target

MODES = ("batch", "single")


def verdict(target: Target, driver: str, mode: str, judge: Judge) -> Verdict:
    """How right the driver is about each problem of the group; an exception that is not due is infinitely wrong."""
    group = judge.group
    in_double = group.dtype in target.claims.solved_in_double
    raises = target.claims.nonfinite == "raises"
    answer, raised = _empty(group), np.zeros(len(group.a), bool)
    if mode == "batch":
        # What is to raise would take its neighbours with it.
        together = np.flatnonzero(judge.finite_a) if raises else np.arange(len(group.a))
        if len(together):
            _fill(target, driver, group, together, answer, raised)
        alone = np.flatnonzero(~judge.finite_a) if raises else np.arange(0)
    else:
        alone = np.arange(len(group.a))
    for i in alone:
        _fill(target, driver, group, int(i), answer, raised)
    found = judge(answer, in_double)
    due = ~judge.finite_a if raises else np.zeros(len(raised), bool)
    declined = np.zeros(len(raised), bool)
    if driver in target.claims.declines:
        declined = np.isnan(answer.x).all(axis=(-2, -1)) & (answer.rank == 0) & judge.finite_a & ~raised
    right = declined | (due & raised)
    if not target.library_has("subnormals"):
        right |= _has_subnormals(group.a, (-2, -1)) | _has_subnormals(group.b, (-2,))
    wrong = (raised & ~due) | (due & ~raised)
    kinds = [np.where(right | raised, 0.0, ratios) for ratios in found]
    kinds[0] = np.where(wrong, np.inf, kinds[0])
    return Verdict(*kinds)


def _has_subnormals(array: NumpyArray, axes: tuple[int, ...]) -> NumpyArray:
    """For which problems it changes the answer to take numbers below the normal ones for zeros."""
    tiny = np.finfo(real_of(str(array.dtype))).tiny
    parts = np.stack([np.abs(array.real), np.abs(array.imag)])
    below = ((parts > 0) & (parts < tiny)).any(axis=0).any(axis=axes)
    return np.asarray(below & (parts.max(axis=0).max(axis=axes) < tiny * 2.0**60)).reshape(len(array), -1).any(axis=-1)


def _empty(group: Group) -> Answer:
    (size, m, n), k = group.a.shape, group.b.shape[-1]
    real = real_of(group.dtype)
    return Answer(
        np.zeros((size, n, k), group.dtype), np.zeros((size, k), real), np.zeros(size, int), np.zeros((size, min(m, n)), real)
    )


def _fill(target: Target, driver: str, group: Group, index: int | NumpyArray, answer: Answer, raised: NumpyArray) -> None:
    try:
        found = target.solve(group.a[index], group.b[index], group.rcond, driver)
    except (LinAlgError, ValueError, RuntimeError, TypeError, MemoryError):
        raised[index] = True
        return
    for field, part in zip(answer, found):
        field[index] = part
