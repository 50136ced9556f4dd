"""Waits until nobody computes any more, so that one solver's threads are not timed with the next solver."""

from __future__ import annotations

import time

#: How long to look, and how many times at most: a thread that never sleeps should not stop everything.
LOOK, LOOKS = 0.02, 50


def wait_until_idle() -> None:
    """Wait, a second at most, until no thread of this process computes.

    The threads of OpenBLAS, which NumPy, SciPy and JAX call, spin for a tenth of a second after each call.
    """
    for _ in range(LOOKS):
        spent = time.process_time()
        time.sleep(LOOK)
        if time.process_time() - spent < LOOK / 5:
            return
