"""The compute kernels through the C functions of shim.cpp, called with NumPy arrays.

Two environment variables say where they are:

LSTSQ_KERNELS_LIBRARY
    The shared library. Without it, it is built with CMake into a temporary folder.
LSTSQ_KERNELS_SERVER
    A command that runs server.cpp's program instead, in another process: ``qemu-aarch64 ./kernels_server``.
"""

import ctypes
import functools
import os
import pathlib
import shlex
import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

HERE = pathlib.Path(__file__).parent
#: The file name of the library that CMake builds.
SHIM = {"darwin": "libkernels_shim.dylib", "win32": "kernels_shim.dll"}.get(sys.platform, "libkernels_shim.so")
CODES = {"f": "s", "d": "d", "F": "c", "D": "z"}
CERTIFIED, ILL_CONDITIONED, OUT_OF_RANGE, UNSUPPORTED = range(4)

Array = np.ndarray | None


class Solution(NamedTuple):
    """What `solve` returns; ``x`` and ``residuals`` mean something only where ``status`` is CERTIFIED."""

    status: int
    x: np.ndarray
    residuals: np.ndarray
    condition: float
    contraction: float
    steps: int
    tier: int


class Library:
    """The kernels in this process."""

    def __init__(self, path: str | None):
        if path is None:
            build = tempfile.mkdtemp(prefix="lstsq-kernels-")
            configure = ["cmake", "-S", HERE, "-B", build, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release"]
            subprocess.run(configure, check=True, capture_output=True)
            subprocess.run(["cmake", "--build", build, "-j2"], check=True, capture_output=True)
            path = os.path.join(build, SHIM)
            os.environ["LSTSQ_KERNELS_LIBRARY"] = path  # for the processes that tests start
        self.library = ctypes.CDLL(path)

    def call(self, function: str, inputs: Sequence[Array | int | float], outputs: Sequence[Array]) -> int:
        """Call a function of shim.cpp, which takes these and returns an integer."""
        return int(getattr(self.library, function)(*map(self._argument, (*inputs, *outputs))))

    @staticmethod
    def _argument(value: Array | int | float) -> ctypes.c_void_p | ctypes.c_int64 | ctypes.c_double:
        if value is None or isinstance(value, np.ndarray):
            return ctypes.c_void_p(None if value is None else value.ctypes.data)
        return ctypes.c_int64(value) if isinstance(value, int) else ctypes.c_double(value)


class Server:
    """The kernels in another process; server.cpp describes what goes between."""

    def __init__(self, command: str):
        self.command = command
        self.process = subprocess.Popen(shlex.split(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def call(self, function: str, inputs: Sequence[Array | int | float], outputs: Sequence[Array]) -> int:
        """Call a function of shim.cpp, which takes these and returns an integer."""
        assert self.process.stdin
        try:
            self.process.stdin.write(struct.pack("32s", function.encode()))
            for value in (*inputs, *outputs):
                self.process.stdin.write(self._message(value))
            self.process.stdin.flush()
        except BrokenPipeError:
            self._read(1, function)  # there is nothing to read: says so
        (result,) = struct.unpack("<i", self._read(4, function))
        for array in outputs:
            if array is not None:
                ctypes.memmove(array.ctypes.data, self._read(array.nbytes, function), array.nbytes)
        return int(result)

    @staticmethod
    def _message(value: Array | int | float) -> bytes:
        if value is None:
            return struct.pack("<q", -1)
        if isinstance(value, np.ndarray):
            # To the last element, with what lies between the rows. (The strides of an empty array say nothing.)
            size = (
                value.size and sum((n - 1) * stride for n, stride in zip(value.shape, value.strides)) + value.itemsize
            )
            return struct.pack("<q", size) + ctypes.string_at(value.ctypes.data, size)
        return struct.pack("<q" if isinstance(value, int) else "<d", value)

    def _read(self, size: int, function: str) -> bytes:
        assert self.process.stdout
        answer = self.process.stdout.read(size)
        if len(answer) < size:
            raise RuntimeError(f"{self.command!r} ended in {function}, with exit code {self.process.wait()}")
        return answer


@functools.cache
def kernels() -> Library | Server:
    """The kernels that the environment names."""
    command = os.environ.get("LSTSQ_KERNELS_SERVER")
    return Server(command) if command else Library(os.environ.get("LSTSQ_KERNELS_LIBRARY"))


def instruction_set() -> str:
    """Which of the kernels' variants is in use."""
    name = np.zeros(16, np.uint8)
    kernels().call("shim_instruction_set", [], [name])
    return name.tobytes().rstrip(b"\0").decode()


def thread_count() -> int:
    return kernels().call("shim_threads", [], [])


def default_rcond(dtype: np.dtype, m: int, n: int) -> float:
    eps = float(np.finfo(dtype).eps)
    return eps * (max(m, n) if eps < 1e-10 else min(max(m, n), 16))


def solve(a: np.ndarray, b: np.ndarray, rcond: float | None = None, residuals: bool = True) -> Solution:
    """One problem; rows may be strided, their elements must be contiguous."""
    (m, n), k = a.shape, b.shape[1]
    rcond = default_rcond(a.dtype, m, n) if rcond is None else rcond
    x, sums, report = np.full((n, k), np.nan, a.dtype), np.full(k, np.nan, a.real.dtype), np.zeros(4)
    status = kernels().call(
        f"shim_solve_{CODES[a.dtype.char]}",
        [a, m, n, a.strides[0] // a.itemsize, b, k, b.strides[0] // b.itemsize, float(rcond)],
        [x, sums if residuals else None, report],
    )
    return Solution(status, x, sums, report[0], report[1], int(report[2]), int(report[3]))


class SingleProducts:
    """In its context Gram matrices in single precision are formed by simple loops in the place of a BLAS."""

    #: Gram matrices that were formed of a block, products of a block with right-hand sides, and the deepest block.
    grams, crosses, deepest = 0, 0, 0

    def __enter__(self) -> "SingleProducts":
        self._use(1)
        return self

    def __exit__(self, *_: object) -> None:
        self.grams, self.crosses, self.deepest = self._use(0)

    @staticmethod
    def _use(yes: int) -> list[int]:
        seen = np.zeros(3, np.int64)
        kernels().call("shim_single_products", [yes], [seen])
        return [int(number) for number in seen]


def solve_batch(
    a: np.ndarray, b: np.ndarray, rcond: float | None = None, residuals: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A batch, contiguous: x, residuals and which elements are certified."""
    (count, m, n), k = a.shape, b.shape[2]
    rcond = default_rcond(a.dtype, m, n) if rcond is None else rcond
    x, sums = np.full((count, n, k), np.nan, a.dtype), np.full((count, k), np.nan, a.dtype)
    ok = np.zeros(count, np.uint8)
    done = kernels().call(
        f"shim_batch_{CODES[a.dtype.char]}",
        [count, m, n, k, a, b, float(rcond)],
        [x, sums if residuals else None, ok, None, None],
    )
    if not done:
        raise ValueError(f"no batch kernel for {a.shape} and {b.shape}")
    return x, sums, ok.astype(bool)


def gram_values(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The singular values that a batch has beside its solution, (count, n), and which elements they were found of."""
    count, m, n = a.shape
    x, values = np.zeros((count, n, 1), a.dtype), np.zeros((count, n))
    ok, found = np.zeros(count, np.uint8), np.zeros(count, np.uint8)
    inputs = [count, m, n, 1, a, np.zeros((count, m, 1), a.dtype), default_rcond(a.dtype, m, n)]
    if not kernels().call(f"shim_batch_{CODES[a.dtype.char]}", inputs, [x, None, ok, values, found]):
        raise ValueError(f"no batch kernel for {a.shape}")
    return values, found.astype(bool)


def singular_values(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Singular values of a batch (count, m, n), whatever its strides, and which elements they were found of."""
    count, m, n = a.shape
    s, ok = np.full((count, min(m, n)), np.nan, a.dtype), np.zeros(count, np.uint8)
    strides = [stride // a.itemsize for stride in a.strides]
    if not kernels().call(f"shim_singular_values_{CODES[a.dtype.char]}", [*a.shape, a, *strides], [s, ok]):
        raise ValueError(f"no kernel for the singular values of {a.shape}")
    return s, ok.astype(bool)


def tridiagonalise(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The diagonal, and what is beside it, of a tridiagonal matrix with the eigenvalues of a symmetric one."""
    n = len(a)
    d, e = np.full(n, np.nan), np.full(n - 1, np.nan)
    kernels().call("shim_tridiagonalise", [n], [np.triu(a), d, e])
    return d, e


def reduce(a: np.ndarray, b: np.ndarray, exponent: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """R, the first rows of Q'b and the squares of its other rows, of A 2^-exponent; A in any order, without gaps."""
    (m, n), k = a.shape, b.shape[1]
    if not a.flags.c_contiguous and not a.flags.f_contiguous:
        raise ValueError("a has gaps")
    row, column = (stride // a.itemsize for stride in a.strides)
    r, c, left = np.full((n, n), np.nan), np.full((k, n), np.nan), np.full(k, np.nan)
    plain = a if a.flags.c_contiguous else a.T
    kernels().call(
        f"shim_reduce_{CODES[a.dtype.char]}",
        [plain, row, column, exponent, m, n, np.ascontiguousarray(b), k],
        [r, c, left],
    )
    return r.T, c.T, left


def reduce_by_gram(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """The same, or None where it is not certified; a and b in any order, without gaps."""
    (m, n), k = a.shape, b.shape[1]
    places = [stride // array.itemsize for array in (a, b) for stride in array.strides]
    r, c, left = np.full((n, n), np.nan), np.full((k, n), np.nan), np.full(k, np.nan)
    plain_a, plain_b = (array if array.flags.c_contiguous else array.T for array in (a, b))
    done = kernels().call("shim_reduce_by_gram", [plain_a, *places[:2], m, n, plain_b, *places[2:], k], [r, c, left])
    return (r.T, c.T, left) if done else None


def repeat(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray, forked: bool) -> int:
    """Solve a problem (float32) and a batch (float64) again, from several threads or in a child of fork.

    Returns how many answers differ from the first.
    """
    return kernels().call("shim_repeat", [int(forked), a, *a.shape, b, c, *c.shape, d], [])
