"""Finds the backend for an array or a name, through the entry-point group ``lstsq.backends``.

Everything is looked up at first use and remembered: the entry points once, a backend once per name, the choice between
the backends of one library once per library, and the backend of an array once per class. What would lose its meaning on
the way (a mask, a unit, an empty place of a sparse matrix) is refused here, before anything is converted.
"""

from __future__ import annotations

import importlib.util
import re
import warnings
from functools import cache
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, requires
from typing import Any, NamedTuple

import array_api_compat
import numpy as np

from lstsq._backend import Backend

GROUP = "lstsq.backends"

#: What a backend serves that serves whatever no other does.
ANY_OTHER = "*"

#: An extra of ours that brings another distribution of ours, as the metadata of `lstsq` has it.
_EXTRA = re.compile(r"""lstsq-.*\bextra\s*==\s*['"](?P<name>[^'"]+)""")


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


# In a dictionary, which `torch.compile` can look into; through a `cache` it would trace what is called.
_backends: dict[str, Backend] = {}


def get_backend(name: str) -> Backend:
    """The backend of this name, imported at its first use.

    Raises
    ------
    ValueError
        If no installed backend has this name; the message lists those that do.
    """
    found = _backends.get(name)
    if found is not None:
        return found
    entry = _entry_points().get(name)
    if entry is None:
        how = f" To add it: {not_installed()[name]}." if name in not_installed() else ""
        raise ValueError(f"unknown backend {name!r}; installed backends: {', '.join(names())}.{how}")
    backend_class: type[Backend] = entry.load()
    _backends[name] = backend_class()
    return _backends[name]


def not_installed() -> dict[str, str]:
    """The backends that extras of `lstsq` would add, and how to get each. Such a backend is named after its extra.

    Where it is for one library, the library has the same name.
    """
    try:
        found = [_EXTRA.match(requirement) for requirement in requires("lstsq") or ()]
    except PackageNotFoundError:
        return {}
    extras = [match["name"] for match in found if match is not None]
    return {
        extra: f"from a clone of the project, run `pip install '.[{extra}]' ./backends/native`"
        for extra in extras
        if extra not in _entry_points()
    }


_owners: dict[type, Owner] = {}


def owner(array: Any) -> Owner | None:
    """Whose array this is, or None for what is no array of a library that is served (a list, a number, a table).

    Raises
    ------
    TypeError
        If a solver would take the array for something else than it is: it has masked entries or units, or is sparse;
        or no array can be made of it; or the backend does not take this form of its library's arrays.
    """
    found = _owners.get(type(array))
    if found is None:
        found = _find_owner(array)
        # What a subclass of NumPy's array says (its mask, its unit) is asked of each single array.
        if found is not None and (type(array) is np.ndarray or not isinstance(array, np.ndarray)):
            _owners[type(array)] = found
    if found is not None:
        found.backend.examine(array)
    return found


def backend_for(library: str) -> Backend:
    """The backend that serves the arrays of this library.

    Raises
    ------
    ValueError
        If there is none, or the library is not installed.
    """
    known = isinstance(library, str) and (_choose(library) or importlib.util.find_spec(library))
    chosen = (_choose(library) or _choose(ANY_OTHER)) if known else None
    if chosen is None:
        raise ValueError(f"no backend serves arrays of {library!r}, or it is not installed; expected a library's name.")
    return chosen


def numpy_owner() -> Owner:
    """Whose the arrays are that NumPy makes of lists."""
    found = owner(np.empty(0))
    if found is None:
        raise RuntimeError("the NumPy backend is missing from the installation of lstsq; reinstall it.")
    return found


def _find_owner(array: Any) -> Owner | None:
    _require_plain(array)
    # NumPy has classes (for operators, for typing) from which others derive what is no array of NumPy's.
    numpys = isinstance(array, (np.ndarray, np.generic))
    # One after the other: torch's compiler cannot ask the last classes of a tensor for their module (torch 2.11).
    for kind in type(array).__mro__:
        root = _root(kind)
        chosen = _choose(root) if numpys or root != "numpy" else None
        if chosen is not None:
            return Owner(chosen, chosen.serves[0], _namespace(chosen, array))
    if not array_api_compat.is_array_api_obj(array):
        _require_convertible(array)
        _require_plain(getattr(array, "data", None))  # What an array with labels is around.
        return None
    for kind in type(array).__mro__:
        if (root := _root(kind)) in not_installed():
            raise TypeError(f"got {root} arrays, and the backend for them is not installed; {not_installed()[root]}.")
    chosen = _choose(ANY_OTHER)
    if chosen is None:
        return None
    xp = _namespace(chosen, array)
    return Owner(chosen, xp.__name__.removeprefix("array_api_compat.").partition(".")[0], xp)


def _namespace(backend: Backend, array: Any) -> Any:
    try:
        return backend.namespace(array)
    except TypeError as error:
        raise TypeError(
            f"got {_name(type(array))}, which stands for an array and names no library of array functions; "
            "expected an array. Pass one with numbers in it."
        ) from error


def _root(kind: type) -> str:
    """The library that a class comes from."""
    return kind.__module__.partition(".")[0]


def _name(kind: type) -> str:
    """The class, as the errors name it."""
    return f"{_root(kind)}.{kind.__name__}"


def _require_plain(array: Any) -> None:
    """Refuse what means more than its numbers: masked entries, units, the zeros that a sparse matrix leaves out."""
    kind = type(array)
    what = _name(kind)
    if hasattr(kind, "todense"):
        raise TypeError(
            f"got a sparse array ({what}); expected a dense one. Pass array.todense(), if that fits into memory, or "
            "use a solver for sparse matrices, such as scipy.sparse.linalg.lsmr."
        )
    # The attributes of a record array are its fields.
    is_subclass = kind is not np.ndarray and isinstance(array, np.ndarray) and array.dtype.names is None
    mask = getattr(array, "mask", None) if is_subclass else None
    if isinstance(mask, (bool, np.bool_, np.ndarray)) and np.any(mask):
        raise TypeError(
            f"got an array with masked entries ({what}), whose mask a least-squares solver would ignore. Drop the rows "
            "with masked entries, from a and b alike, or replace the entries, with array.filled(...)."
        )
    # A table may have a column called "unit", which is an attribute of that table and not of its class.
    described = array if is_subclass else kind
    if any(getattr(described, name, None) is not None for name in ("unit", "units", "dimensionality")):
        ways = [f"array.{name}" for name in ("value", "magnitude") if hasattr(array, name)]
        raise TypeError(
            f"got an array with units ({what}), which a least-squares solver would drop. Pass its numbers, "
            f"{[*ways, 'numpy.asarray(array)'][0]}, and give the results their units: x has that of b divided by that "
            "of a, s has that of a."
        )


def _require_convertible(plain: Any) -> None:
    """Refuse what NumPy can make no array of, and would wrap as one Python object."""
    ways = ("__array__", "__array_interface__", "__array_struct__", "__len__", "__float__", "__complex__", "__buffer__")
    if not any(hasattr(type(plain), way) for way in ways):
        raise TypeError(
            f"got {_name(type(plain))}, of which NumPy makes no array; expected an array or "
            "a list of numbers. Convert it first."
        )


@cache
def candidates(library: str) -> tuple[Backend, ...]:
    """The installed backends that serve this library, in the order in which they are used."""
    serving = [backend for backend in _loadable() if library in backend.serves]
    return tuple(sorted(serving, key=lambda backend: (-backend.precedence, backend.name != library, backend.name)))


@cache
def _choose(library: str) -> Backend | None:
    """The first backend for this library that can run here. If none can, the first: what it says then is the reason."""
    ranked = candidates(library)
    return next((backend for backend in ranked if backend.unavailable() is None), ranked[0] if ranked else None)


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
