"""Whether solving leaves memory where it was: 100 000 small solves and 300 large ones, by every driver.

Run by `nox -s native -- leak`. Prints what each kind of problem leaves behind, and exits 1 if that is more than the
bounds below, or if a leak that is planted first is not found.

A leak grows with every solve. What grows otherwise does so once, at a moment that depends on what else the machine
does: a thread of the pool keeps scratch memory from the first problem that it has a share in, which may be the
ten-thousandth, and of malloc's arenas all but the first keep the highest top that they had. So each kind is solved in
several equal rounds, and has leaked what the round that left least behind has left.

Two things are counted after each round. `allocated` is what malloc has handed out and not got back, to the byte: the
session makes Python's objects come from there too, with PYTHONMALLOC=malloc. `resident` is coarser, but sees what
malloc does not: threads, and pages that are mapped by other ways. With MALLOC_ARENA_MAX=1 all that is free is given
back before it is read; otherwise a leak could hide for long in pages that are free and resident.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from collections.abc import Callable
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from lstsq_mlx._native import native
from lstsq_native._backend import core

DRIVERS = ("auto", "gelsd", "qr", "svd")
DTYPES = (mx.float32, mx.float64, mx.complex64)

#: Of each kind and driver, of which there are twenty-four: solves in a round, a multiple of all shapes and dtypes.
ROUNDS, SMALL, LARGE = 3, 1800, 6
#: A small problem is (M, N, K); large ones are either wide enough for LAPACK's blocks, or long enough for ours.
SMALL_SHAPES = [(4, 3, 1), (12, 5, 2)]
LARGE_SHAPES = [(1000, 150, 2), (100_000, 8, 1)]

#: Bytes that a round of one kind may leave allocated: if one small solve in six leaks the smallest block that malloc
#: hands out, of 32 bytes, it is twice that.
ALLOCATED = 4 * 2**10
#: Bytes of memory in use that all kinds together may leave behind.
RESIDENT = 2 * 2**20

Problem = tuple[mx.array, mx.array]
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


def solve_numpys(a: mx.array, b: mx.array, driver: str) -> None:
    """NumPy's arrays, and one that has no answer."""
    ours, right = np.array(a), np.array(b)
    core().solve(ours, right, 1e-5, driver, True)
    ours[0, 0] = np.nan
    assert core().solve(ours, right, 1e-5, driver, False) == "not finite"


KINDS: dict[str, Kind] = {
    "full rank": solve,
    "wide": solve_wide,
    "deficient": solve_deficient,
    "beside NaN": solve_beside_nan,
    "gradient": differentiate,
    "NumPy's": solve_numpys,
}


def problems(shapes: list[tuple[int, int, int]]) -> list[Problem]:
    """One of each shape and dtype."""
    rng = np.random.default_rng(7)
    made = [
        (mx.array(rng.standard_normal((m, n)), dtype=dtype), mx.array(rng.standard_normal((m, k)), dtype=dtype))
        for dtype in DTYPES
        for m, n, k in shapes
    ]
    mx.eval(made)
    return made


def repeat(kind: Kind, driver: str, count: int, among: list[Problem]) -> None:
    for i in range(count):
        kind(*among[i % len(among)], driver)


class MallInfo(ctypes.Structure):
    """What mallinfo2 of glibc returns."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


libc = ctypes.CDLL(None)
libc.mallinfo2.restype = MallInfo
libc.malloc.restype = ctypes.c_void_p


class Memory(NamedTuple):
    """Bytes; or how many there are more than before."""

    allocated: int
    resident: int


def memory() -> Memory:
    """What is in use, when all that can be given back has been."""
    gc.collect()
    mx.clear_cache()
    libc.malloc_trim(0)
    # Page by page: VmRSS of /proc/self/status is summed in batches, and may be some hundred KiB off.
    with open("/proc/self/smaps_rollup") as rollup:
        resident = next(int(line.split()[1]) * 1024 for line in rollup if line.startswith("Rss:"))
    info = libc.mallinfo2()
    return Memory(info.uordblks + info.hblkhd, resident)


def left_by(kind: Kind, driver: str, small: list[Problem], large: list[Problem]) -> Memory:
    """The growth of the round that grew least."""
    grown = []
    last = memory()
    for _ in range(ROUNDS):
        repeat(kind, driver, SMALL, small)
        repeat(kind, driver, LARGE, large)
        now = memory()
        grown.append(Memory(now.allocated - last.allocated, now.resident - last.resident))
        last = now
    return Memory(min(g.allocated for g in grown), min(g.resident for g in grown))


def leak(a: mx.array, b: mx.array, driver: str) -> None:
    """Leak the smallest block there is in one solve of six."""
    solve(a, b, driver)
    if a.shape[-2:] == (12, 5) and a.dtype == mx.float64:
        libc.malloc(24)


def main() -> int:
    if os.environ.get("PYTHONMALLOC") != "malloc" or os.environ.get("MALLOC_ARENA_MAX") != "1":
        sys.exit("Run this by `nox -s native -- leak`, which sets PYTHONMALLOC=malloc and MALLOC_ARENA_MAX=1.")
    small, large = problems(SMALL_SHAPES), problems(LARGE_SHAPES)
    for kind in KINDS.values():
        for driver in DRIVERS:
            repeat(kind, driver, 200, small)
            repeat(kind, driver, len(large), large)

    print(f"{ROUNDS} rounds of {SMALL} small and {LARGE} large problems each; what a round leaves behind, in bytes:")
    print(f"{'driver':8}{'problem':16}{'allocated':>12}{'resident':>12}")

    def show(driver: str, name: str, left: Memory) -> Memory:
        print(f"{driver:8}{name:16}{left.allocated:12}{left.resident:12}", flush=True)
        return left

    planted = show("qr", "a leak, planted", left_by(leak, "qr", small, large))
    left = [
        show(driver, name, left_by(kind, driver, small, large)) for name, kind in KINDS.items() for driver in DRIVERS
    ]
    most, total = max(row.allocated for row in left), ROUNDS * sum(max(0, row.resident) for row in left)
    print(f"{'at most':24}{most:12}, may be {ALLOCATED}")
    print(f"{'rounds of all':24}{'':12}{total:12}, may be {RESIDENT}")
    if planted.allocated <= ALLOCATED:
        print("The leak that was planted has not been found.")
    return int(planted.allocated <= ALLOCATED or most > ALLOCATED or total > RESIDENT)


if __name__ == "__main__":
    sys.exit(main())
