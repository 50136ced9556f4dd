"""The pytest options of the suite.

Loaded into every pytest process where `lstsq` is installed, whosever tests it runs. So it imports nothing but pytest,
looks at no test, and does nothing unless ``--lstsq-backend`` is given: the rest is in `lstsq_conformance.generation`,
and in the suite's own ``conftest.py``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

_PACKAGE = Path(__file__).parent
#: What the suite is registered as. Whoever proves something else than a backend registers one with its own target.
SUITE = "lstsq_conformance_suite"
MISSING = (
    "the conformance suite needs to know which backend to prove: add --lstsq-backend NAME "
    "(`python -c 'import lstsq; print(lstsq.backends())'` lists those installed)."
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options, all of which begin with --lstsq."""
    group = parser.getgroup("lstsq", "conformance of a backend of lstsq")
    group.addoption("--lstsq-backend", metavar="NAME", help="the backend to prove, by its entry-point name")
    group.addoption(
        "--lstsq-driver", metavar="NAME", action="append", help="only this driver (repeatable; default: all claimed)"
    )
    group.addoption(
        "--lstsq-dtype", metavar="NAME", action="append", help="only this dtype (repeatable; default: all claimed)"
    )
    group.addoption(
        "--lstsq-namespace", metavar="NAME", help="the library whose arrays to use, where the backend serves several"
    )
    group.addoption(
        "--lstsq-device",
        metavar="KIND",
        help="put every array on the first device of this kind, cpu or gpu (or cuda, which is gpu); default: where the "
        "library puts them",
    )
    group.addoption("--lstsq-quick", action="store_true", help="a selection that runs in less than a minute")
    group.addoption(
        "--lstsq-xfail",
        metavar="FILE",
        help="known failures, one a line: a pattern of test names, ' # ', and the reason",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Bring in the suite where a backend is named."""
    if config.getoption("lstsq_backend"):
        from lstsq_conformance.generation import Suite

        config.pluginmanager.register(Suite(config), SUITE)
    elif not config.pluginmanager.hasplugin(SUITE) and any(_is_ours(argument) for argument in config.args):
        raise pytest.UsageError(MISSING)


def _is_ours(argument: str) -> bool:
    name = argument.partition("::")[0]
    return name.partition(".")[0] == __package__ or _PACKAGE in (Path(name).resolve(), *Path(name).resolve().parents)
