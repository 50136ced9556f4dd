"""Timing on a noisy machine: all solvers in one process, in turns, and the median of each."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lstsq_cli.idle import wait_until_idle


def interleaved(
    calls: Mapping[str, Callable[[], Any]], *, rounds: int, seconds: float, slow: float = float("inf")
) -> dict[str, list[float]]:
    """Time each call in every round, in an order that changes, for `rounds` rounds or until `seconds` have passed.

    Each turn waits until the threads of the solver before sleep, makes one call that is not counted, which wakes this
    solver's threads and fills the cache, and then one that is, or up to five if they take less than 0.2 seconds.
    At least three rounds are run. A call that takes longer than `slow` seconds is timed once.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    order = list(calls)
    started = time.perf_counter()
    shuffle = random.Random(0)
    for done in range(rounds):
        if done >= 3 and time.perf_counter() - started > seconds:
            break
        shuffle.shuffle(order)
        for name in tuple(order):
            wait_until_idle()
            waking = _seconds(calls[name])
            if waking > slow and not times[name]:
                times[name].append(waking)
                order.remove(name)
                continue
            turn: list[float] = []
            while not turn or (len(turn) < 5 and sum(turn) < 0.2):
                turn.append(_seconds(calls[name]))
            times[name] += turn
    return times


def _seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def median(times: list[float]) -> float:
    """The figure to quote."""
    return statistics.median(times)


def matrix_product_rate(dtype: str) -> float:
    """Floating-point operations a second of this machine's matrix product, the best of several."""
    n = 1500
    a = np.random.default_rng(0).standard_normal((n, n)).astype(dtype)
    a @ a
    return 2 * n**3 / min(_times(lambda: a @ a, 7))


def copy_bandwidth() -> float:
    """Bytes a second read and written by a copy that fits in no cache, the best of several."""
    source = np.ones(32_000_000)
    target = np.empty_like(source)
    return 2 * source.nbytes / min(_times(lambda: np.copyto(target, source), 7))


def _times(call: Callable[[], Any], count: int) -> list[float]:
    return [_seconds(call) for _ in range(count)]
