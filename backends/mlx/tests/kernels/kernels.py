"""The compute kernels through their C interface: built into a shared library if need be, called with NumPy arrays."""

import ctypes
import functools
import os
import pathlib
import subprocess
import tempfile
from typing import NamedTuple

import numpy as np
import scipy.linalg.cython_blas
import scipy.linalg.cython_lapack

HERE = pathlib.Path(__file__).parent
CODES = {"f": "s", "d": "d", "F": "c", "D": "z"}
CERTIFIED, ILL_CONDITIONED, OUT_OF_RANGE, UNSUPPORTED = range(4)


class Solution(NamedTuple):
    """What `solve` returns; ``x`` and ``residuals`` mean something only where ``status`` is CERTIFIED."""

    status: int
    x: np.ndarray
    residuals: np.ndarray
    condition: float
    contraction: float
    steps: int
    tier: int


def _address(capsule: object) -> int:
    name = ctypes.pythonapi.PyCapsule_GetName
    name.restype, name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return int(pointer(capsule, name(capsule)))


@functools.cache
def library() -> ctypes.CDLL:
    """The shared library: LSTSQ_KERNELS_LIBRARY, or built with CMake into a temporary folder."""
    path = os.environ.get("LSTSQ_KERNELS_LIBRARY")
    if path is None:
        build = tempfile.mkdtemp(prefix="lstsq-kernels-")
        subprocess.run(
            ["cmake", "-S", HERE, "-B", build, "-DCMAKE_BUILD_TYPE=Release"], check=True, capture_output=True
        )
        subprocess.run(["cmake", "--build", build, "-j2"], check=True, capture_output=True)
        path = os.path.join(build, "libkernels_shim.so")
        os.environ["LSTSQ_KERNELS_LIBRARY"] = path  # for the processes that tests start
    lib = ctypes.CDLL(path)
    lib.shim_isa.restype = ctypes.c_char_p
    lapack, blas = scipy.linalg.cython_lapack.__pyx_capi__, scipy.linalg.cython_blas.__pyx_capi__
    routines = lapack["dpotrf"], blas["dtrsm"], lapack["sgetrf"], lapack["dgetrf"]
    lib.shim_lapack(*(ctypes.c_void_p(_address(routine)) for routine in routines))
    return lib


def default_rcond(dtype: np.dtype, m: int, n: int) -> float:
    eps = float(np.finfo(dtype).eps)
    return eps * (max(m, n) if eps < 1e-10 else min(max(m, n), 16))


def _pointer(array: np.ndarray | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if array is None else array.ctypes.data)


def _sizes(*values: int) -> list[ctypes.c_int64]:
    return [ctypes.c_int64(value) for value in values]


def solve(a: np.ndarray, b: np.ndarray, rcond: float | None = None, residuals: bool = True) -> Solution:
    """One problem; rows may be strided, their elements must be contiguous."""
    (m, n), k = a.shape, b.shape[1]
    rcond = default_rcond(a.dtype, m, n) if rcond is None else rcond
    x, sums, report = np.full((n, k), np.nan, a.dtype), np.full(k, np.nan, a.real.dtype), np.zeros(4)
    status = getattr(library(), f"shim_solve_{CODES[a.dtype.char]}")(
        _pointer(a), *_sizes(m, n, a.strides[0] // a.itemsize),
        _pointer(b), *_sizes(k, b.strides[0] // b.itemsize),
        ctypes.c_double(rcond), _pointer(x), _pointer(sums if residuals else None), _pointer(report),
    )  # fmt: skip
    return Solution(status, x, sums, report[0], report[1], int(report[2]), int(report[3]))


def solve_batch(
    a: np.ndarray, b: np.ndarray, rcond: float | None = None, residuals: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A batch, contiguous: x, residuals and which elements are certified."""
    (count, m, n), k = a.shape, b.shape[2]
    rcond = default_rcond(a.dtype, m, n) if rcond is None else rcond
    x, sums = np.full((count, n, k), np.nan, a.dtype), np.full((count, k), np.nan, a.dtype)
    ok = np.zeros(count, np.uint8)
    done = getattr(library(), f"shim_batch_{CODES[a.dtype.char]}")(
        *_sizes(count, m, n, k), _pointer(a), _pointer(b), ctypes.c_double(rcond),
        _pointer(x), _pointer(sums if residuals else None), _pointer(ok),
    )  # fmt: skip
    if not done:
        raise ValueError(f"no batch kernel for {a.shape} and {b.shape}")
    return x, sums, ok.astype(bool)
