"""Hands SciPy's LAPACK to an extension module."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any


def load_lapack(core: ModuleType) -> None:
    """Give the extension module the addresses of SciPy's LAPACK and BLAS.

    Raises
    ------
    ImportError
        If SciPy is missing, or does not have a routine.
    """
    try:
        lapack = import_module("scipy.linalg.cython_lapack")
        blas = import_module("scipy.linalg.cython_blas")
        core.load_lapack(_capsules(lapack), _capsules(blas))
    except (ImportError, RuntimeError) as error:
        raise ImportError(
            f"lstsq-native takes LAPACK from SciPy, and that failed: {error}; run `pip install --upgrade scipy`"
        ) from error


def _capsules(module: Any) -> dict[str, Any]:
    """The addresses of the C functions that a Cython module exports."""
    return dict(module.__pyx_capi__)
