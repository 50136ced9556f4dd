"""What a page or JSON was made by: the command, the versions of all libraries, the machine."""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

#: Libraries that solve or read, by their modules, and the distributions that some come in.
_LIBRARIES = {
    "numpy": "numpy",
    "scipy": "scipy",
    "jax": "jax",
    "jaxlib": "jaxlib",
    "mlx": "mlx",
    "torch": "torch",
    "cupy": "cupy",
    "dask": "dask",
    "array_api_strict": "array-api-strict",
    "lineax": "lineax",
    "tensorflow": "tensorflow",
    "pyarrow": "pyarrow",
}
#: What bounds the threads of our kernels, and of those that the libraries have.
_THREADS = ("LSTSQ_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def about() -> dict[str, Any]:
    """The facts, as what JSON can hold."""
    return {
        "command": shlex.join(["lstsq", *sys.argv[1:]]),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version(), **_versions()},
        "system": platform.platform(),
        "processor": _processor(),
        "cores": _cores(),
        "gpus": _gpus(),
        "threads": {name: os.environ[name] for name in _THREADS if name in os.environ},
    }


def lines(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """The facts as names and text, for a page."""
    threads = ", ".join(f"{name}={value}" for name, value in facts["threads"].items())
    return [
        ("command", facts["command"]),
        ("date", facts["date"]),
        ("versions", ", ".join(f"{name} {number}" for name, number in facts["versions"].items())),
        ("system", facts["system"]),
        ("processor", f"{facts['processor']}, {facts['cores']} cores for this process"),
        ("GPU", ", ".join(facts["gpus"]) or "none"),
        ("threads", threads or "as each library chooses"),
    ]


def _versions() -> dict[str, str]:
    """Ours, and of the libraries that are loaded."""
    found = {}
    for name in ("lstsq", "lstsq-native"):
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    for module, name in _LIBRARIES.items():
        if module in sys.modules:
            own = getattr(sys.modules[module], "__version__", None)
            with contextlib.suppress(PackageNotFoundError):
                found[name] = str(own) if own else version(name)
    return found


def _processor() -> str:
    """What it is called, which every system tells in another way."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    if sys.platform == "darwin":
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return platform.processor() or platform.machine()


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _gpus() -> list[str]:
    """The models of NVIDIA's, as the driver tells them; a library that is loaded tells of others."""
    found = []
    for information in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        with contextlib.suppress(OSError):
            lines = information.read_text().splitlines()
            found += [line.partition(":")[2].strip() for line in lines if line.startswith("Model:")]
    torch = sys.modules.get("torch")
    if not found and torch is not None and torch.cuda.is_available():
        found = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return found
