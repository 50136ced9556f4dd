"""Routines of LAPACK and BLAS that are watched, or say that they did not converge: handed over as if SciPy's own.

For a process of its own: import this before the backend's first solve.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import scipy.linalg.cython_blas as blas
import scipy.linalg.cython_lapack as lapack

_python = ctypes.pythonapi
_python.PyCapsule_New.restype = ctypes.py_object
_python.PyCapsule_New.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
_python.PyCapsule_GetName.restype = ctypes.c_char_p
_python.PyCapsule_GetName.argtypes = [ctypes.py_object]
_python.PyCapsule_GetPointer.restype = ctypes.c_void_p
_python.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]

#: How many arguments a routine has, and which of them is lwork, -1 in a query for the workspace; BLAS has none.
_ARGUMENTS: dict[str, tuple[int, int | None]] = {
    "dgelsd": (14, 11),
    "dgesdd": (14, 11),
    "dgesvd": (14, 12),
    "dgeqrf": (8, 6),
    "ssyrk": (10, None),
    "sgemm": (13, None),
}

#: The routines that were called, in order; queries are not.
calls: list[str] = []
_kept: list[Any] = []


def watch(*names: str, failing: bool = False, meanwhile: Callable[[], None] = lambda: None) -> None:
    """Note the calls of these routines, and call `meanwhile`; if failing, set info to 1 instead of computing."""
    for name in names:
        count, lwork_at = _ARGUMENTS[name]
        capsules = (blas if lwork_at is None else lapack).__pyx_capi__
        capsule = capsules[name]
        signature = _python.PyCapsule_GetName(capsule)
        prototype = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * count)
        original = prototype(_python.PyCapsule_GetPointer(capsule, signature))
        routine = prototype(_substitute(name, original, lwork_at, failing, meanwhile))
        _kept.extend([signature, routine])
        address = ctypes.cast(routine, ctypes.c_void_p)
        capsules[name] = _python.PyCapsule_New(address, signature, None)


def _substitute(name: str, original: Any, lwork_at: int | None, failing: bool, meanwhile: Callable[[], None]) -> Any:
    def routine(*arguments: int) -> None:
        query = lwork_at is not None and ctypes.c_int32.from_address(arguments[lwork_at]).value == -1
        if not query:
            calls.append(name)
            meanwhile()
        if query or not failing:
            original(*arguments)
        else:
            ctypes.c_int32.from_address(arguments[-1]).value = 1

    return routine
