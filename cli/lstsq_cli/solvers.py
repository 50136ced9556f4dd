"""Who can solve: every backend, library and driver that is installed, and why some are not."""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import lstsq
from lstsq import Backend
from lstsq_cli import peers
from lstsq_cli.errors import UserError, first_line, without_full_stop

#: Libraries that the array-API backend is tried on, and the distributions that they come in.
STANDARD_LIBRARIES = {"cupy": "cupy", "array_api_strict": "array-api-strict"}


class Solver(NamedTuple):
    """One driver of one backend, on the arrays of one library; or a peer, on arrays that it converts to."""

    backend: str
    #: The library, where the backend serves several.
    namespace: str | None
    driver: str
    #: The kind of device that its arrays are put on, or None to leave that to the library.
    device: str | None = None
    #: The label of the function in the place of ours, out of `peers`.
    peer: str | None = None

    @property
    def label(self) -> str:
        """What tables call it; short, since there are many beside each other."""
        if self.peer is not None:
            return self.peer
        return f"{(self.namespace or self.backend).removeprefix('array_api_')} {self.driver}"


class Refusal(NamedTuple):
    """What does not take part, and why."""

    label: str
    reason: str


def find(
    backends: Sequence[str], drivers: Sequence[str], dtype: str, device: str | None = None
) -> tuple[tuple[Solver, ...], tuple[Refusal, ...]]:
    """The solvers of these backends (default: all that are installed) with these drivers (default: all).

    With a kind of device, "cpu" or "gpu": those that have one here.

    Raises
    ------
    UserError
        If a name is unknown, or none can solve in this dtype.
    """
    prepare(dtype)
    found: list[Solver] = []
    refused: list[Refusal] = []
    known_drivers: list[str] = []
    for name, namespace in subjects(backends):
        label = namespace or name
        try:
            backend = lstsq.get_backend(name)
        except Exception as error:
            refused.append(Refusal(label, f"it cannot be loaded: {first_line(error)}"))
            continue
        reason = unavailable(backend, namespace)
        if reason is None and device is not None:
            reason = _without(device, name, namespace)
        if reason is not None:
            refused.append(Refusal(label, reason))
            continue
        claims = backend.capabilities
        for driver in dict.fromkeys((claims.default_driver, *claims.drivers)):
            known_drivers.append(driver)
            if drivers and driver not in drivers:
                continue
            solver = Solver(name, namespace, driver, device)
            reason = backend.refuse(dtype, driver)
            if reason is None:
                found.append(solver)
            else:
                refused.append(Refusal(solver.label, reason))
    unknown = [driver for driver in drivers if driver not in known_drivers]
    if unknown and known_drivers:
        names = ", ".join(dict.fromkeys(known_drivers))
        raise UserError(f"--driver: no backend here has a driver {unknown[0]!r}; there are {names}.")
    if not found:
        raise UserError(f"no backend is left to solve with ({'; '.join(gathered(refused))}).")
    return tuple(found), tuple(refused)


def find_peers(dtype: str, device: str | None = None) -> tuple[tuple[Solver, ...], tuple[Refusal, ...]]:
    """The functions of other libraries that are installed and take this dtype, and why some do not take part."""
    prepare(dtype)
    found: list[Solver] = []
    refused: list[Refusal] = []
    for peer in peers.installed():
        host = lstsq.get_backend(peer.host)
        # Its arrays are made by the driver that is always there.
        reason = unavailable(host, peer.namespace) or host.refuse(dtype, host.capabilities.default_driver)
        kinds = peer.devices
        if reason is None and dtype not in peer.dtypes:
            reason = f"it does not take {dtype}"
        if reason is None and device is not None and device not in kinds:
            reason = f"it solves on no {device}"
        if reason is None and (device is not None or kinds == ("gpu",)):
            reason = _without(device or kinds[0], peer.host, peer.namespace)
        if reason is None:
            found.append(Solver(peer.host, peer.namespace, peer.method, device, peer.label))
        else:
            refused.append(Refusal(peer.label, reason))
    return tuple(found), tuple(refused)


def named_peers(names: Sequence[str]) -> list[peers.Peer]:
    """The peers that are installed; or those of these names, which are labels or modules.

    Raises
    ------
    UserError
        If a name is unknown, or its library is not installed.
    """
    there = peers.installed()
    for name in names:
        known = [peer for peer in peers.PEERS if name in (peer.label, peer.module)]
        if not known:
            raise UserError(f"--peer: there is no {name!r}; expected one of {', '.join(p.label for p in peers.PEERS)}.")
        if known[0] not in there:
            raise UserError(f"--peer: {name}: run `pip install {known[0].distribution}`, which is not installed.")
    kept = [peer for peer in there if not names or {peer.label, peer.module} & set(names)]
    # One that is for a GPU alone has nothing to be tried on elsewhere.
    return [peer for peer in kept if "cpu" in peer.devices or devices(peer.host, peer.namespace)]


def function(solver: Solver, rcond: float | None) -> Callable[[Any, Any], Sequence[Any]]:
    """What solves: from a and b of the library to x, residuals, rank and s; None for what a peer does not give."""
    if solver.peer is not None:
        peer = peers.find(solver.peer)
        solve, given = peer.load(), rcond if peer.cutoff else None
        return lambda a, b: solve(a, b, given)
    return lambda a, b: lstsq.lstsq(a, b, rcond, driver=solver.driver, backend=solver.backend)


@functools.cache
def devices(name: str, namespace: str | None) -> dict[str, Any]:
    """Of the kinds of device that this backend claims: the first that its library has here."""
    backend = lstsq.get_backend(name)
    found = backend.devices(namespace)
    return {kind: found[kind] for kind in backend.capabilities.devices if kind in found}


@contextmanager
def on_its_device(solver: Solver) -> Iterator[Callable[[Any], Any]]:
    """A context for work on the device of this solver, and the function that puts an array there."""
    if solver.device is None:
        yield lambda array: array
    else:
        device = devices(solver.backend, solver.namespace)[solver.device]
        with lstsq.get_backend(solver.backend).on_device(device) as put:
            yield put


def _without(kind: str, name: str, namespace: str | None) -> str | None:
    """Why this backend cannot solve on a device of this kind, or None."""
    if kind not in lstsq.get_backend(name).capabilities.devices:
        return f"it solves on no {kind}"
    return None if kind in devices(name, namespace) else f"{namespace or name} finds no {kind} on this machine"


def gathered(refused: Sequence[Refusal]) -> list[str]:
    """Who does not take part and why, each reason once."""
    labels: dict[str, list[str]] = {}
    for label, reason in refused:
        labels.setdefault(without_full_stop(reason), []).append(label)
    return [f"{', '.join(who)}: {reason}" for reason, who in labels.items()]


def subjects(names: Sequence[str]) -> list[tuple[str, str | None]]:
    """Backends and the libraries to use them on: of these names, or of all that are installed.

    A name is a backend's, or that of a library that the array-API backend serves.
    """
    # NumPy first: it is the oracle, and what the others are shown beside.
    installed = sorted((info.name for info in lstsq.backends()), key=lambda name: (name != "numpy", name))
    chosen: list[tuple[str, str | None]] = []
    for name in names or installed:
        if name in installed and not _serves_any(name):
            chosen.append((name, None))
        elif name in installed:
            present = [library for library in STANDARD_LIBRARIES if _is_installed(library)]
            # Without one it is named all the same, so that the user is told why it does not take part.
            chosen.extend((name, library) for library in present or list(STANDARD_LIBRARIES)[:1])
        elif name in STANDARD_LIBRARIES and "array_api" in installed:
            chosen.append(("array_api", name))
        else:
            try:
                lstsq.get_backend(name)
            except ValueError as error:
                libraries = ", ".join(library for library in STANDARD_LIBRARIES if _is_installed(library))
                more = f" Libraries that array_api serves here: {libraries}." if libraries else ""
                raise UserError(f"--backend: {error}{more}") from error
    return list(dict.fromkeys(chosen))


def serving(name: str, namespace: str) -> str:
    """The name of this backend, if it serves this library.

    Raises
    ------
    UserError
        If there is no such backend, or it serves other libraries.
    """
    ((chosen, _), *_) = subjects([name])
    serves = lstsq.get_backend(chosen).serves
    if "*" not in serves and namespace not in serves:
        raise UserError(f"--namespace: the backend {chosen} serves {', '.join(serves)}; got {namespace!r}.")
    return chosen


def available(chosen: Sequence[tuple[str, str | None]], all_wanted: bool) -> list[tuple[str, str | None]]:
    """Those of the backends and libraries that can run here.

    Raises
    ------
    UserError
        If one cannot run, where all are wanted; or if none can.
    """
    found: list[tuple[str, str | None]] = []
    refused: list[Refusal] = []
    for name, namespace in chosen:
        try:
            reason = unavailable(lstsq.get_backend(name), namespace)
        except Exception as error:
            reason = f"it cannot be loaded: {first_line(error)}"
        if reason is None:
            found.append((name, namespace))
        else:
            refused.append(Refusal(namespace or name, reason))
    if refused and (all_wanted or not found):
        raise UserError(f"{'; '.join(gathered(refused))}.")
    return found


def unavailable(backend: Backend, namespace: str | None) -> str | None:
    """Why this backend cannot run here on this library, or None."""
    reason = backend.unavailable()
    if reason is None and namespace is not None and not _is_installed(namespace):
        known = STANDARD_LIBRARIES.get(namespace)
        return f"{namespace} is not installed" + (f"; run `pip install {known}`" if known else "")
    return reason


def prepare(dtype: str) -> None:
    """Switch on JAX's double precision where the problem is in double; it is off, as users have it, where it is not."""
    if dtype in ("float64", "complex128"):
        os.environ.setdefault("JAX_ENABLE_X64", "1")
        if "jax" in sys.modules:  # It has read the variable already.
            sys.modules["jax"].config.update("jax_enable_x64", os.environ["JAX_ENABLE_X64"] == "1")


def _serves_any(name: str) -> bool:
    try:
        return "*" in lstsq.get_backend(name).serves
    except Exception:
        return False


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
