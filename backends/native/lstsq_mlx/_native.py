"""Loads the extension module and hands SciPy's LAPACK to it, or says in one message what to install."""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module, metadata
from importlib.resources import files
from importlib.util import find_spec
from types import ModuleType

from lstsq_native._lapack import load_lapack

#: How to get the extension module. It works with the one release of MLX that it was compiled against, since the C++
#: interface changes from release to release. The module says which, as its MLX_VERSION.
_BUILD = "from a clone of the project, run `pip install --force-reinstall . ./backends/native`"


#: Kilobytes that the threads of a block may share, by the architecture of the GPU. Others have 99, or more (NVIDIA,
#: CUDA C++ Programming Guide, "Technical Specifications per Compute Capability").
_SHARED = {"sm_75": 64, "sm_80": 163, "sm_87": 163, "sm_90": 227, "sm_100": 227, "sm_103": 227}


@cache
def native() -> ModuleType:
    """The extension module, with LAPACK loaded.

    Raises
    ------
    ImportError
        If MLX or SciPy is missing, MLX is of another version than this was compiled against, or an import fails.
    """
    if find_spec("lstsq_mlx._core") is None:
        raise ImportError(f"lstsq-native was built without MLX, and serves NumPy's arrays alone; {_BUILD}")
    try:
        mx = import_module("mlx.core")
    except ImportError as error:
        raise ImportError(f"MLX cannot be loaded ({error}; {_installed()}); {_install_mlx()}") from error
    try:
        core = import_module("lstsq_mlx._core")
    except ImportError as error:
        raise ImportError(
            f"lstsq-native cannot be loaded ({error}; {_installed()}); {_BUILD}, which builds it for its own MLX"
        ) from error
    if mx.__version__.partition("+")[0] != core.MLX_VERSION:
        raise ImportError(
            f"lstsq-native was built for mlx {core.MLX_VERSION} and mlx {mx.__version__} is installed; "
            + _install_mlx(f"=={core.MLX_VERSION}")
        )
    load_lapack(core)
    if core.has_cuda():
        architecture = mx.device_info(mx.gpu).get("architecture", "")
        core.set_kernels(str(files("lstsq_array_api").joinpath("kernels")), 1024 * _SHARED.get(architecture, 99))
    return core


def _installed() -> str:
    try:
        return f"mlx {metadata.version('mlx')} is installed"
    except metadata.PackageNotFoundError:
        return "mlx is not installed"


def _install_mlx(release: str = "") -> str:
    """On Linux MLX's library is a distribution of its own, for a processor or for a GPU: the user's choice."""
    if sys.platform != "linux":
        return f"run `pip install 'mlx{release}'`"
    return f"run `pip install 'mlx[cpu]{release}'`, or for an NVIDIA GPU `pip install 'mlx[cuda13]{release}'`"
