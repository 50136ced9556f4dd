"""Hands SciPy's LAPACK to an extension module."""

from __future__ import annotations

import os
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
        core.use_single_products_of_blas(_single_products())
    except (ImportError, RuntimeError) as error:
        raise ImportError(
            f"lstsq-native takes LAPACK from SciPy, and that failed: {error}; run `pip install --upgrade scipy`"
        ) from error


def _single_products() -> bool:
    """Whether the BLAS forms Gram matrices in single precision: Apple's, which has units for matrices that we have not.

    The environment variable ``LSTSQ_SINGLE_GRAM`` says otherwise: ``blas`` or ``kernels``. The error bounds are the
    same.
    """
    setting = os.environ.get("LSTSQ_SINGLE_GRAM")
    if setting in ("blas", "kernels"):
        return setting == "blas"
    # What a build does not know of itself is left out there.
    built = import_module("scipy").show_config(mode="dicts").get("Build Dependencies", {})
    return str(built.get("blas", {}).get("name")).lower() == "accelerate"


def _capsules(module: Any) -> dict[str, Any]:
    """The addresses of the C functions that a Cython module exports."""
    return dict(module.__pyx_capi__)
