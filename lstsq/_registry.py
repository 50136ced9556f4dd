"""Finds the backend for an array or a name, through the entry-point group ``lstsq.backends``.

Everything is looked up at first use and remembered: the entry points once, a backend once per name, and the backend
of an array once per class.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, NamedTuple

import array_api_compat
import numpy as np

from lstsq._backend import Array, Backend

GROUP = "lstsq.backends"

#: Libraries that we have a backend for in a distribution of its own, and how to get it.
_SEPARATE = {"mlx": "pip install 'lstsq[mlx]'", "jax": "pip install 'lstsq[jax]'"}


class Owner(NamedTuple):
    """Whose array this is: the backend that serves its class, the library's name and its array-API namespace."""

    backend: Backend
    library: str
    xp: Any


@cache
def _entry_points() -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=GROUP):
        other = found.setdefault(entry.name, entry)
        if other.value != entry.value:
            warnings.warn(
                f"two installed backends are called {entry.name!r}: {other.value} and {entry.value}; "
                "the first is used. Uninstall one.",
                RuntimeWarning,
                stacklevel=2,
            )
    return found


def names() -> tuple[str, ...]:
    """The names of all installed backends."""
    return tuple(sorted(_entry_points()))


@cache
def get_backend(name: str) -> Backend:
    """The backend of this name, imported at its first use.

    Raises
    ------
    ValueError
        If no installed backend has this name; the message lists those that do.
    """
    entry = _entry_points().get(name)
    if entry is None:
        how = f" To add it: {_SEPARATE[name]}." if name in _SEPARATE else ""
        raise ValueError(f"unknown backend {name!r}; installed backends: {', '.join(names())}.{how}")
    backend_class: type[Backend] = entry.load()
    return backend_class()


_owners: dict[type, Owner] = {}


def owner(array: Any) -> Owner | None:
    """Whose array this is, or None for what is no array at all (a list, a number)."""
    found = _owners.get(type(array))
    if found is None:
        found = _find_owner(array)
        if found is not None:
            _owners[type(array)] = found
    return found


def numpy_owner() -> Owner:
    """Whose the arrays are that NumPy makes of lists."""
    found = owner(np.empty(0))
    if found is None:
        raise RuntimeError("the NumPy backend is missing from the installation of lstsq; reinstall it.")
    return found


def _find_owner(array: Array) -> Owner | None:
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError(
            "got a masked array, whose mask a least-squares solver would ignore; drop the masked rows first, "
            "or pass array.filled(...)."
        )
    roots = [cls.__module__.partition(".")[0] for cls in type(array).__mro__ if cls is not object]
    for backend in _candidates(roots):
        if not set(roots).isdisjoint(backend.serves):
            return Owner(backend, backend.serves[0], backend.namespace(array))
    if not array_api_compat.is_array_api_obj(array):
        return None
    for root in roots:
        if root in _SEPARATE:
            raise TypeError(f"got {root} arrays, and the backend for them is not installed; run `{_SEPARATE[root]}`.")
    for backend in _loadable():
        if "*" in backend.serves:
            xp = backend.namespace(array)
            return Owner(backend, xp.__name__.removeprefix("array_api_compat.").partition(".")[0], xp)
    return None


def _candidates(roots: Sequence[str]) -> Iterator[Backend]:
    """The backends that may serve these libraries: their namesakes first, so that no other need be imported."""
    for root in roots:
        if root in _entry_points():
            yield get_backend(root)
    if set(roots) != {"builtins"}:
        yield from _loadable()


@cache
def _loadable() -> tuple[Backend, ...]:
    """Every backend whose module imports: one that is broken must not break the others."""
    loaded = []
    for name in names():
        try:
            loaded.append(get_backend(name))
        except Exception as error:
            warnings.warn(f"the backend {name!r} cannot be loaded: {error}", RuntimeWarning, stacklevel=3)
    return tuple(loaded)


def distribution(name: str) -> str:
    """The name of the distribution that the backend of this name comes in."""
    entry = _entry_points().get(name)
    return entry.dist.name if entry is not None and entry.dist is not None else ""
