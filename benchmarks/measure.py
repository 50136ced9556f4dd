"""What this machine can do at best: no solver is faster."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lstsq_cli.timing import Seconds, whole


def matrix_product_rate(dtype: str) -> float:
    """Floating-point operations a second of this machine's matrix product, the best of several."""
    n = 1500
    a = np.random.default_rng(0).standard_normal((n, n)).astype(dtype)
    a @ a
    return 2 * n**3 / _best(whole(lambda: a @ a))


def copy_bandwidth() -> float:
    """Bytes a second read and written by a copy that fits in no cache, the best of several."""
    source = np.ones(32_000_000)
    target = np.empty_like(source)
    return 2 * source.nbytes / _best(whole(lambda: np.copyto(target, source)))


def _best(call: Callable[[], Seconds]) -> float:
    """Its seconds in the best of seven calls."""
    return min(call()[-1] for _ in range(7))
