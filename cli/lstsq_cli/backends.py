"""What is installed, with versions, and what is missing, with how to get it."""

from __future__ import annotations

import importlib.util
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

import lstsq
from lstsq._registry import distribution, not_installed
from lstsq_cli.solvers import STANDARD_LIBRARIES

#: What parts of this command line need: the purpose by the package's name.
_PARTS = {
    "matplotlib": "plots of --html",
    "pyarrow": "Parquet files",
    "pytest": "lstsq conformance",
    "hypothesis": "lstsq conformance",
}


class Library(NamedTuple):
    """A backend on one library, or a part of the command line."""

    name: str
    #: Versions of what it is made of: "lstsq 0.1.0, jax 0.10.2".
    versions: str
    drivers: tuple[str, ...]
    dtypes: tuple[str, ...]
    transforms: tuple[str, ...]
    #: Why it is not available, and what to do; empty where it is.
    missing: str


def survey() -> tuple[list[Library], list[Library]]:
    """The backends, and the optional parts of the command line."""
    backends: list[Library] = []
    for info in lstsq.backends():
        package = f"{distribution(info.name)} {info.version}"
        if not info.available:
            backends.append(Library(info.name, package, (), (), (), info.reason))
        elif "*" in info.serves:
            for library, needed in STANDARD_LIBRARIES.items():
                installed = importlib.util.find_spec(library) is not None
                backends.append(
                    Library(
                        f"{info.name} on {library}",
                        f"{package}, {needed} {_version(needed)}" if installed else "",
                        info.drivers if installed else (),
                        info.dtypes if installed else (),
                        info.transforms if installed else (),
                        "" if installed else f"pip install {needed}",
                    )
                )
        else:
            modules = [f"{module} {_version(module)}" for module in lstsq.get_backend(info.name).requires]
            versions = ", ".join([package, *modules])
            backends.append(Library(info.name, versions, info.drivers, info.dtypes, info.transforms, ""))
    backends += [Library(name, "", (), (), (), line) for name, line in not_installed().items()]
    parts = []
    for package, purpose in _PARTS.items():
        installed = importlib.util.find_spec(package) is not None
        versions = f"{package} {_version(package)}" if installed else ""
        parts.append(Library(purpose, versions, (), (), (), "" if installed else f"pip install {package}"))
    return backends, parts


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
    for head in ("backend", "versions"):
        table.add_column(head, no_wrap=True)
    for head in ("drivers", "dtypes", "transforms"):
        table.add_column(head)
    missing = [library for library in (*backends, *parts) if library.missing]
    for library in backends:
        if not library.missing:
            lists = (library.drivers, library.dtypes, library.transforms)
            name, versions = library.name.replace(" on ", "\non "), library.versions.replace(", ", "\n")
            table.add_row(Text(name), Text(versions), *(", ".join(items) or "–" for items in lists))
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
