"""Whether solving leaves memory where it was: 100 000 small solves and 200 large ones, by every driver.

Run by `nox -s leak`. Prints what each kind of problem leaves behind, and exits 1 if memory has grown by more than
`BOUND` since the warm-up, in which every kind has been solved in every dtype.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable

import mlx.core as mx
import numpy as np

from lstsq_mlx._native import native

DRIVERS = ("auto", "gelsd", "qr", "svd")
DTYPES = (mx.float32, mx.float64, mx.complex64)

#: Of each kind and driver; there are twenty of these.
SMALL, LARGE = 5000, 10
#: A small problem is (M, N, K); large ones are either wide enough for LAPACK's blocks, or long enough for ours.
SMALL_SHAPES = [(4, 3, 1), (12, 5, 2)]
LARGE_SHAPES = [(1000, 150, 2), (100_000, 8, 1)]

#: Bytes: 21 for each small solve, where the smallest block that malloc hands out is 32.
BOUND = 2 * 2**20

Kind = Callable[[mx.array, mx.array, str], None]


def solve(a: mx.array, b: mx.array, driver: str) -> None:
    mx.eval(native().lstsq(a, b, 1e-5, driver))


def solve_wide(a: mx.array, b: mx.array, driver: str) -> None:
    solve(mx.swapaxes(a, -1, -2), b[..., : a.shape[-1], :], driver)


def solve_deficient(a: mx.array, b: mx.array, driver: str) -> None:
    """The first column twice."""
    solve(mx.concatenate([a[..., :1], a[..., :1], a[..., 2:]], -1), b, driver)


def solve_beside_nan(a: mx.array, b: mx.array, driver: str) -> None:
    """A batch of two, one of them NaN."""
    solve(mx.stack([a, a * float("nan")]), mx.stack([b, b]), driver)


def differentiate(a: mx.array, b: mx.array, driver: str) -> None:
    def loss(a: mx.array, b: mx.array) -> mx.array:
        x, residuals, _, s = native().lstsq(a, b, 1e-5, driver)
        return mx.real(mx.sum(x)) + mx.sum(residuals) + mx.sum(s)

    mx.eval(mx.grad(loss, argnums=(0, 1))(a, b))


KINDS: dict[str, Kind] = {
    "full rank": solve,
    "wide": solve_wide,
    "deficient": solve_deficient,
    "beside NaN": solve_beside_nan,
    "gradient": differentiate,
}


def problems(shapes: list[tuple[int, int, int]]) -> list[tuple[mx.array, mx.array]]:
    """One of each shape and dtype."""
    rng = np.random.default_rng(7)
    made = [
        (mx.array(rng.standard_normal((m, n)), dtype=dtype), mx.array(rng.standard_normal((m, k)), dtype=dtype))
        for dtype in DTYPES
        for m, n, k in shapes
    ]
    mx.eval(made)
    return made


def repeat(kind: Kind, driver: str, count: int, among: list[tuple[mx.array, mx.array]]) -> None:
    for i in range(count):
        kind(*among[i % len(among)], driver)


def resident() -> int:
    """Bytes of memory in use, when all that can be given back has been.

    Counted page by page: VmRSS of /proc/self/status is summed in batches, and may be some hundred KiB off.
    """
    gc.collect()
    mx.clear_cache()
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/smaps_rollup") as rollup:
        return next(int(line.split()[1]) * 1024 for line in rollup if line.startswith("Rss:"))


def main() -> int:
    small, large = problems(SMALL_SHAPES), problems(LARGE_SHAPES)
    for kind in KINDS.values():
        for driver in DRIVERS:
            repeat(kind, driver, 200, small)
            repeat(kind, driver, len(large), large)

    start = last = resident()
    print(f"{'driver':8}{'problem':12}{'small':>8}{'large':>8}{'grown by':>12}")
    for name, kind in KINDS.items():
        for driver in DRIVERS:
            repeat(kind, driver, SMALL, small)
            repeat(kind, driver, LARGE, large)
            now = resident()
            print(f"{driver:8}{name:12}{SMALL:8}{LARGE:8}{(now - last) / 1024:8.0f} KiB", flush=True)
            last = now
    grown, rows = last - start, len(KINDS) * len(DRIVERS)
    print(f"{'all':20}{rows * SMALL:8}{rows * LARGE:8}{grown / 1024:8.0f} KiB, at most {BOUND // 1024}")
    return int(grown > BOUND)


if __name__ == "__main__":
    sys.exit(main())
