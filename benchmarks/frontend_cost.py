"""What the frontend costs over a call of the backend itself, and how long the oracle takes for small problems.

Run it with ``nox -s bench``, or by itself: ``python benchmarks/frontend_cost.py``. It exits with 1 if the frontend
costs more than 5 microseconds. The times of ``backend="numpy"`` are beside those of `numpy.linalg.lstsq`; twice as long
is the most that is wanted.
"""

from __future__ import annotations

import sys
import time
import timeit
from collections.abc import Callable
from typing import Any

import numpy as np

from lstsq import Solution, lstsq
from lstsq._registry import numpy_owner

LIMIT = 5e-6
#: A shared machine may run at half its speed for seconds: the least of so many tries counts.
TRIES = 20
#: Rows, columns, and how many right-hand sides, with None for a vector.
PROBLEMS = ((10, 3, None), (10, 3, 1), (100, 10, None), (100, 10, 1))


def seconds(call: Callable[[], Any]) -> float:
    """Of one call, at best. The clock is this thread's processor time: other processes must not count."""
    return min(timeit.repeat(call, number=1000, repeat=10, timer=time.thread_time)) / 1000


def costs() -> tuple[float, float]:
    """Seconds for a matrix and for a vector `b`, with a backend that does nothing."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((4, 3)), rng.standard_normal((4, 1))
    vector = b[:, 0].copy()
    answer = Solution(*(np.asarray(array) for array in lstsq(a, b)))
    backend = numpy_owner().backend
    kept = type(backend).solve
    # What is timed is the way to the backend and back: its work is left out, which would drown it.
    type(backend).solve = lambda self, a, b, rcond, driver: answer  # type: ignore[method-assign]
    try:
        direct = seconds(lambda: backend.solve(a, b, 1e-15, "gelsd"))
        # The two reshapes that turn a vector into a column and back are the array library's.
        reshapes = seconds(lambda: np.reshape(np.reshape(vector, (4, 1)), (4,)))
        return seconds(lambda: lstsq(a, b)) - direct, seconds(lambda: lstsq(a, vector)) - direct - reshapes
    finally:
        type(backend).solve = kept  # type: ignore[method-assign]


def oracle(m: int, n: int, k: int | None) -> tuple[float, float]:
    """Seconds of `numpy.linalg.lstsq` and of ours with ``backend="numpy"``, in turns: the least of many."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((m, n)), rng.standard_normal(m if k is None else (m, k))
    calls = (lambda: np.linalg.lstsq(a, b), lambda: lstsq(a, b, backend="numpy"))
    turns = [[timeit.timeit(call, number=100, timer=time.thread_time) / 100 for call in calls] for _ in range(200)]
    numpys, ours = (min(times) for times in zip(*turns))
    return numpys, ours


def main() -> int:
    """Print all of it, and say whether the frontend is within the limit."""
    for _ in range(TRIES):
        matrix, vector = costs()
        if max(matrix, vector) < LIMIT:
            break
    print(f"the frontend costs {matrix * 1e6:.1f} µs, and {vector * 1e6:.1f} µs where b is a vector; ", end="")
    print(f"at most {LIMIT * 1e6:.0f} µs are allowed")
    for m, n, k in PROBLEMS:
        numpys, ours = oracle(m, n, k)
        print(f"{m}×{n}, b {(m,) if k is None else (m, k)}: numpy.linalg.lstsq {numpys * 1e6:.1f} µs, ", end="")
        print(f"the oracle {ours * 1e6:.1f} µs, {ours / numpys:.2f} times as long")
    return int(max(matrix, vector) >= LIMIT)


if __name__ == "__main__":
    sys.exit(main())
