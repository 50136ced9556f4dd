"""What is installed, with versions, and what is missing, with how to get it."""

from __future__ import annotations

import importlib.util
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

import lstsq
from lstsq._registry import distribution, not_installed
from lstsq_cli.solvers import STANDARD_LIBRARIES, devices

#: What parts of this command line need: packages by the purpose.
_PARTS = {
    "plots of --html": ("matplotlib",),
    "tables from files": ("pyarrow",),
    "lstsq conformance": ("pytest", "hypothesis"),
}


#: One of these is there on Linux where a GPU may be: NVIDIA's, AMD's, that of Windows beneath, anybody's.
_GPU_DRIVERS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg", "/dev/dri")


class Library(NamedTuple):
    """A backend on one library, or a part of the command line."""

    name: str
    #: Versions of what it is made of: "lstsq 0.1.0, jax 0.10.2".
    versions: str
    drivers: tuple[str, ...]
    dtypes: tuple[str, ...]
    #: The kinds of device that it claims and its library finds on this machine.
    devices: tuple[str, ...]
    transforms: tuple[str, ...]
    #: Why it is not available, and what to do; empty where it is.
    missing: str


def survey() -> tuple[list[Library], list[Library]]:
    """The backends, and the optional parts of the command line."""
    backends: list[Library] = []
    for info in lstsq.backends():
        package = f"{distribution(info.name)} {info.version}"
        if not info.available:
            backends.append(Library(info.name, package, (), (), (), (), info.reason))
        elif "*" in info.serves:
            for library, needed in STANDARD_LIBRARIES.items():
                name = f"{info.name} on {library}"
                if importlib.util.find_spec(library) is None:
                    backends.append(Library(name, "", (), (), (), (), f"pip install {needed}"))
                    continue
                versions, here = f"{package}, {needed} {_version(needed)}", _devices(info, library)
                if not here:
                    backends.append(Library(name, "", (), (), (), (), f"{library} finds no device on this machine"))
                    continue
                backends.append(Library(name, versions, info.drivers, info.dtypes, here, info.transforms, ""))
        else:
            modules = [f"{module} {_version(module)}" for module in lstsq.get_backend(info.name).requires]
            versions = ", ".join([package, *modules])
            here = _devices(info, None)
            backends.append(Library(info.name, versions, info.drivers, info.dtypes, here, info.transforms, ""))
    backends += [Library(name, "", (), (), (), (), line) for name, line in not_installed().items()]
    parts = []
    for purpose, packages in _PARTS.items():
        lacking = [package for package in packages if importlib.util.find_spec(package) is None]
        versions = ", ".join(f"{package} {_version(package)}" for package in packages if package not in lacking)
        line = f"pip install {' '.join(lacking)}" if lacking else ""
        parts.append(Library(purpose, versions, (), (), (), (), line))
    return backends, parts


def _devices(info: lstsq.BackendInfo, library: str | None) -> tuple[str, ...]:
    """The kinds of device here. A library that is not loaded, which takes a second, is asked where a GPU may be."""
    somewhere = sys.platform != "linux" or any(Path(driver).exists() for driver in _GPU_DRIVERS)
    # CuPy has nothing else.
    if "gpu" in info.devices and (somewhere or library == "cupy" or (library or info.name) in sys.modules):
        return tuple(devices(info.name, library))
    return tuple(kind for kind in info.devices if kind == "cpu")


def to_json() -> dict[str, Any]:
    """The survey as what JSON can hold."""
    backends, parts = survey()
    return {
        "lstsq": lstsq.__version__,
        "backends": [library._asdict() for library in backends],
        "parts": [{"name": part.name, "versions": part.versions, "missing": part.missing} for part in parts],
    }


def show(console: Console) -> None:
    """Print the survey."""
    backends, parts = survey()
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    for head in ("backend", "versions, devices here"):
        table.add_column(head, no_wrap=True)
    for head in ("drivers", "dtypes", "transforms"):
        table.add_column(head)
    missing = [library for library in (*backends, *parts) if library.missing]
    for library in backends:
        if not library.missing:
            lists = (library.drivers, library.dtypes, library.transforms)
            name, versions = library.name.replace(" on ", "\non "), library.versions.replace(", ", "\n")
            about = f"{versions}\n{' and '.join(library.devices) or 'no device'}"
            table.add_row(Text(name), Text(about), *(", ".join(items) or "–" for items in lists))
    console.print(f"lstsq {lstsq.__version__}: backends, and their drivers with the default first", style="bold")
    console.print(table)
    console.print()
    for part in parts:
        if not part.missing:
            console.print(Text(f"{part.name}: {part.versions}"))
    for library in missing:
        console.print(Text.assemble((library.name, "yellow"), f" is missing: {library.missing}"), soft_wrap=True)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(version unknown)"
