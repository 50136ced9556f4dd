"""Loads the extension module and hands SciPy's LAPACK to it, or says in one message what to install."""

from __future__ import annotations

from functools import cache
from importlib import import_module, metadata
from types import ModuleType
from typing import Any

#: How to get the extension module. It works with the one release of MLX that it was compiled against, because the C++
#: interface changes from release to release; `_core.MLX_VERSION` names that release.
_INSTALL = "from a clone of the project, run `pip install --force-reinstall . ./backends/native`"


@cache
def native() -> ModuleType:
    """The extension module, with LAPACK loaded.

    Raises
    ------
    ImportError
        If MLX or SciPy is missing, MLX is of another version than this was compiled against, or an import fails.
    """
    try:
        mx = import_module("mlx.core")
        core = import_module("lstsq_mlx._core")
    except ImportError as error:
        raise ImportError(f"{_why(error)}; {_INSTALL}, which brings the MLX that it is built for") from error
    if mx.__version__.partition("+")[0] != core.MLX_VERSION:
        raise ImportError(
            f"lstsq-mlx was built for mlx {core.MLX_VERSION} and mlx {mx.__version__} is installed; "
            f"run `pip install 'mlx=={core.MLX_VERSION}'`"
        )
    try:
        lapack = import_module("scipy.linalg.cython_lapack")
        blas = import_module("scipy.linalg.cython_blas")
        core.load_lapack(_capsules(lapack), _capsules(blas))
    except (ImportError, RuntimeError) as error:
        raise ImportError(
            f"lstsq-mlx takes LAPACK from SciPy, and that failed: {error}; run `pip install --upgrade scipy`"
        ) from error
    return core


def _capsules(module: Any) -> dict[str, Any]:
    """The addresses of the C functions that a Cython module exports."""
    return dict(module.__pyx_capi__)


def _why(error: ImportError) -> str:
    try:
        installed = f"mlx {metadata.version('mlx')} is installed"
    except metadata.PackageNotFoundError:
        installed = "mlx is not installed"
    return f"lstsq-mlx cannot be loaded ({error}; {installed})"
