"""Memory that is refused: MemoryError or NaN, never numbers; and the next call works.

Each allocation of the native module is refused in turn, in a process of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from operation import DRIVERS

COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the library that refuses memory is for Linux"),
    pytest.mark.skipif("LD_PRELOAD" in os.environ, reason="a sanitizer has replaced malloc"),
    pytest.mark.skipif(COMPILER is None, reason="the library that refuses memory has to be compiled"),
]

COMMON = """
import ctypes
import sys

import mlx.core as mx
import numpy as np

from lstsq_mlx._native import native

preloaded = ctypes.CDLL(sys.argv[1])
driver = sys.argv[2]
rng = np.random.default_rng(11)
# MLX keeps what it frees in a list, for which it needs memory; and it does not survive if that is refused.
mx.set_cache_limit(0)


def draw(dtype, *shape):
    parts = rng.standard_normal((2, *shape))
    array = mx.array(parts[0] + 1j * parts[1] if dtype == mx.complex64 else parts[0], dtype=dtype)
    mx.eval(array)
    return array


def solve(a, b):
    return native().lstsq(a, b, 1e-5, driver)


def check(answer, wanted, may_be_nan):
    for got, want in zip(map(np.array, answer), wanted):
        unknown = got == 0 if got.dtype == np.int32 else np.isnan(got)
        if not (may_be_nan and unknown.all()):
            np.testing.assert_allclose(got, want, rtol=0, atol=2e-4 * np.abs(np.nan_to_num(want)).max())
"""

EACH_IN_TURN = (
    COMMON
    + """
file = native().__file__
with open("/proc/self/maps") as maps:
    ranges = [line.split()[0].split("-") for line in maps if line.rstrip().endswith(file)]
module = ctypes.c_size_t(int(ranges[0][0], 16)), ctypes.c_size_t(int(ranges[-1][1], 16))


def solves():
    for dtype in mx.float32, mx.float64, mx.complex64:
        for m, n, k in [(300, 6, 2), (6, 300, 2), (70, 70, 1), (140, 130, 1), (130, 180, 3)]:
            yield solve, draw(dtype, m, n), draw(dtype, m, k)
        deficient = draw(dtype, 40, 5)
        for a in (deficient, mx.swapaxes(deficient, 0, 1)):
            yield solve, mx.concatenate([a, a], -1), draw(dtype, a.shape[0], 1)
        # Elements enough for all threads, of one matrix the rank is 1 less, and one is NaN.
        a = np.array(draw(dtype, 16, 12, 4))
        a[3, :, 1] = a[3, :, 0]
        a[5] = np.nan
        yield solve, mx.array(a, dtype=dtype), draw(dtype, 16, 12, 1)
        yield solve, mx.swapaxes(mx.array(a, dtype=dtype), 1, 2), draw(dtype, 16, 4, 2)


def reverse(a, b):
    def loss(a, b):
        x, residuals, _, s = solve(a, b)
        return mx.real(mx.sum(x * x)) + mx.sum(residuals) + mx.sum(s * s)

    return mx.grad(loss, argnums=(0, 1))(a, b)


def forward(a, b):
    return mx.jvp(lambda a, b: [solve(a, b)[i] for i in (0, 1, 3)], [a, b], [a * a, b * b])[1]


def gradients():
    for m, n in [(9, 4), (4, 9)]:
        for function in (reverse, forward):
            yield function, draw(mx.complex64, m, n), draw(mx.complex64, m, 2)
            yield function, mx.concatenate([draw(mx.float64, m, 2)] * 2, -1), draw(mx.float64, m, 1)


def refuse(function, a, b, wanted, first, last, all_then=False):
    "Whether there were so many allocations."
    answer = function(a, b)
    preloaded.refuse_new(*module, ctypes.c_int64(first), ctypes.c_int64(last), all_then)
    try:
        mx.eval(answer)
    except MemoryError:
        pass
    refused = preloaded.refuse_nothing() > 0
    # Also after an error, when the rest of these arrays is evaluated.
    check(answer, wanted, may_be_nan=refused)
    check(function(a, b), wanted, may_be_nan=False)
    return refused


for function, a, b in globals()[sys.argv[3]]():
    wanted = [np.array(out) for out in function(a, b)]
    # All from one on; and in those threads also what the system wants for exceptions, since NaN needs no memory. (MLX's
    # operations, of which derivatives are made, do not survive the latter.)
    for first in range(0, 40, 5):
        refuse(function, a, b, wanted, first, 2**62, all_then=function is solve)
    allocations = 0
    while refuse(function, a, b, wanted, allocations, allocations):
        allocations += 1
    assert allocations > 10
"""
)

OUTPUTS = (
    COMMON
    + """
count, m, n, k = 1000, 5, 2, 3
a, b = draw(mx.float32, count, m, n), draw(mx.float32, count, m, k)
wanted = [np.array(out) for out in solve(a, b)]
# x and residuals, rank, s; in front of each array MLX keeps its size.
for size in count * n * k * 4, count * k * 4, count * 4, count * n * 4:
    answer = solve(a, b)
    preloaded.refuse_malloc(ctypes.c_size_t(size + 8))
    try:
        mx.eval(answer)
    except MemoryError:
        raised = True
    else:
        raised = False
    assert preloaded.refuse_nothing() == 1 and raised, size
    check(answer, wanted, may_be_nan=False)
    check(solve(a, b), wanted, may_be_nan=False)
"""
)


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    """The library that refuses memory."""
    path = tmp_path_factory.mktemp("refuse") / "librefuse.so"
    source = Path(__file__).with_name("refuse.c")
    subprocess.run([str(COMPILER), "-O1", "-shared", "-fPIC", "-o", path, source, "-ldl"], check=True)
    return path


def run(code, library, *arguments):
    # Two threads of the kernels on any machine; one of BLAS, which would be in their way.
    environment = {**os.environ, "LD_PRELOAD": str(library), "LSTSQ_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, str(library), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.mark.parametrize("driver", DRIVERS)
def test_every_allocation_in_turn(library, driver):
    run(EACH_IN_TURN, library, driver, "solves")


@pytest.mark.parametrize("driver", ["auto", "qr"])
def test_every_allocation_of_derivatives_in_turn(library, driver):
    run(EACH_IN_TURN, library, driver, "gradients")


def test_outputs_without_memory(library):
    """MLX's allocator returns null, and that is found before anything is written there."""
    run(OUTPUTS, library, "auto")
