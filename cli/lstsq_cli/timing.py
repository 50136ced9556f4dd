"""How this project times, wherever it does: all calls in one process, in turns, each when nobody else computes."""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

#: Seconds of one call: when each of its parts was done, and last of all the whole.
Seconds = tuple[float, ...]
Key = TypeVar("Key")

#: How long to look, and how many times at most: a thread that never sleeps should not stop everything.
LOOK, LOOKS = 0.02, 50
#: A call that takes less is timed right after another one: else what it costs to wake this solver's threads, and to
#: come after another solver, whose code and data are in the caches, would be counted.
BRIEF = 0.01
#: Rounds at least, however long they take; and the seconds after which a turn has enough calls.
FEWEST, ENOUGH = 3, 0.2


def in_turns(
    calls: Mapping[Key, Callable[[], Seconds]],
    *,
    rounds: int,
    budget: float = math.inf,
    each: int = 5,
    slow: float = math.inf,
    told: Callable[[Key, int], None] = lambda key, left: None,
) -> dict[Key, list[Seconds]]:
    """Time each call in every round, in an order that changes, for `rounds` rounds or until `budget` seconds are over.

    Parameters
    ----------
    calls : mapping
        Functions that do their work and return its seconds; `whole` makes one of any function.
    each : int
        How many calls are timed in a turn at most: more than one where they take less than 0.2 seconds together.
    slow : float
        What takes longer than so many seconds is called once.
    told : callable
        Told what is called next, and how many turns are left.
    """
    times: dict[Key, list[Seconds]] = {key: [] for key in calls}
    order, shuffle, begun = list(calls), random.Random(0), time.perf_counter()
    for done in range(rounds):
        if done >= FEWEST and time.perf_counter() - begun > budget:
            break
        shuffle.shuffle(order)
        for key in tuple(order):
            told(key, (rounds - done) * len(order))
            wait_until_idle()
            known = times[key]
            if not known or known[-1][-1] < BRIEF:
                waking = calls[key]()
                if waking[-1] > slow and not known:
                    known.append(waking)
                    order.remove(key)
                    continue
            turn: list[Seconds] = []
            while not turn or (len(turn) < each and sum(taken[-1] for taken in turn) < ENOUGH):
                turn.append(calls[key]())
            known += turn
    return times


def whole(call: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> Callable[[], Seconds]:
    """The call, as a function that returns the seconds that it took."""

    def timed() -> Seconds:
        start = clock()
        call()
        return (clock() - start,)

    return timed


def median(times: list[Seconds]) -> float:
    """The figure to quote: seconds of the whole call."""
    return statistics.median(taken[-1] for taken in times)


def wait_until_idle() -> None:
    """Wait, a second at most, until no thread of this process computes.

    The threads of OpenBLAS, which NumPy, SciPy and JAX call, spin for a tenth of a second after each call.
    """
    for _ in range(LOOKS):
        spent = time.process_time()
        time.sleep(LOOK)
        if time.process_time() - spent < LOOK / 5:
            return
