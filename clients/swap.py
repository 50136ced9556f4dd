"""A pytest plugin that puts our `lstsq` and `pinv` in the place of NumPy's, or our `lstsq` in that of JAX's.

It is for the tests of those who call theirs.

``nox -s tests -- clients`` runs it; by hand: ``PYTHONPATH=clients pytest -c clients/pytest.ini --swap numpy numpy.ma``.
What cannot pass is listed in known_failures.txt, with the reason. A test in the list must fail: one that passes is an
error, and so is a line that no test matches.
"""

from __future__ import annotations

import fnmatch
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lstsq

KNOWN_FAILURES = Path(__file__).with_name("known_failures.txt")


def in_place_of_numpys(a: Any, b: Any, rcond: float | None = None) -> tuple[Any, ...]:
    """`numpy.linalg.lstsq` as it is called: with NumPy's rule for residuals."""
    return tuple(lstsq.lstsq(a, b, rcond, numpy_resid=True))


def pinv_in_place_of_numpys(
    a: Any, rcond: float | None = None, hermitian: bool = False, *, rtol: float | None = None
) -> Any:
    """`numpy.linalg.pinv` as it is called: what is said to be Hermitian is a matrix like others to us."""
    return lstsq.pinv(a, rcond if rtol is None else rtol)


def in_place_of_jaxs(a: Any, b: Any, rcond: float | None = None, *, numpy_resid: bool = False) -> tuple[Any, ...]:
    """`jax.numpy.linalg.lstsq` as it is called: NumPy's arrays become JAX's."""
    import jax.numpy as jnp

    return tuple(lstsq.lstsq(jnp.asarray(a), jnp.asarray(b), rcond, numpy_resid=numpy_resid))


def swap(linalg: Any, ours: Callable[..., Any], called: str = "lstsq") -> None:
    """Replace the function in its module, and wherever else it was imported by its name; not in `lstsq` itself."""
    theirs = getattr(linalg, called)
    for name, module in list(sys.modules.items()):
        if vars(module).get(called) is theirs and not name.startswith("lstsq"):
            setattr(module, called, ours)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the one option, which must be given."""
    parser.addoption("--swap", choices=["numpy", "jax"], required=True, help="whose lstsq to replace by ours")


def pytest_configure(config: pytest.Config) -> None:
    """Swap, before any test module is imported."""
    # A first call imports what ours is built on, which keeps the function that it found.
    if config.getoption("--swap") == "numpy":
        import numpy as np

        in_place_of_numpys([[1.0]], [1.0])
        swap(np.linalg, in_place_of_numpys)
        swap(np.linalg, pinv_in_place_of_numpys, "pinv")
    else:
        import jax.numpy as jnp

        in_place_of_jaxs([[1.0]], [1.0])
        swap(jnp.linalg, in_place_of_jaxs)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the known failures. The name of a test is ``module::class::test``, wherever the module is installed."""
    names = {item: "::".join([item.module.__name__, *item.nodeid.split("::")[1:]]) for item in items}  # type: ignore[attr-defined]
    modules = {name.partition("::")[0] for name in names.values()}
    for pattern, reason in known_failures():
        if pattern.partition("::")[0] in modules:
            matched = [item for item, name in names.items() if fnmatch.fnmatchcase(name, pattern)]
            for item in matched:
                item.add_marker(pytest.mark.xfail(reason=reason, strict=True))
            if not matched:
                raise pytest.UsageError(f"{KNOWN_FAILURES.name}: no test is called {pattern}; remove the line")


def known_failures() -> list[tuple[str, str]]:
    """The pattern of each line, in which ``*`` stands for anything, and its reason."""
    lines = [line for line in KNOWN_FAILURES.read_text().splitlines() if line and not line.startswith("#")]
    pairs = [line.partition(" # ") for line in lines]
    if unreasoned := [line for line, (_, _, reason) in zip(lines, pairs) if not reason.strip()]:
        raise pytest.UsageError(f"{KNOWN_FAILURES.name}: expected a test, ` # ` and a reason, got {unreasoned[0]!r}")
    return [(pattern.strip(), reason.strip()) for pattern, _, reason in pairs]
