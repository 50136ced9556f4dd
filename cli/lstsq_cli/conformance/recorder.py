"""A pytest plugin that writes what happens to a file, one JSON object a line, while it happens.

Loaded by ``-p lstsq_cli.conformance.recorder`` in the process that runs the suite (and, under pytest-xdist, in its
workers, which only name the driver of each test); the file is named by the environment variable ``LSTSQ_RECORD``.
"""

from __future__ import annotations

import json
import os
from typing import Any, TextIO

import pytest

VARIABLE = "LSTSQ_RECORD"


def pytest_configure(config: pytest.Config) -> None:
    """Begin to record, where this is the process that hears of every test."""
    if VARIABLE in os.environ and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Recorder(open(os.environ[VARIABLE], "a", encoding="utf-8")), "lstsq_recorder")  # noqa: SIM115


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Note each test's name and driver where its report will carry them, from whichever process."""
    for item in items:
        callspec = getattr(item, "callspec", None)
        driver = callspec.params.get("driver") if callspec is not None else None
        # Its nodeid begins with wherever the suite is installed.
        name = f"{item.path.name}::{item.nodeid.partition('::')[2]}"
        item.user_properties.extend([("lstsq_test", name), ("lstsq_driver", driver or "")])


class Recorder:
    """Writes the lines."""

    def __init__(self, stream: TextIO):
        self._stream = stream
        #: What each test is about, where this process collects the tests itself.
        self._about: dict[str, dict[str, Any]] = {}

    def _write(self, event: str, **facts: Any) -> None:
        self._stream.write(json.dumps({"event": event, **facts}) + "\n")
        self._stream.flush()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Tell how many tests there are."""
        self._about = {item.nodeid: _about(item) for item in session.items}
        if session.items:
            self._write("collected", total=len(session.items))

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: list[str]) -> None:
        """Tell how many tests there are, where workers collect them."""
        self._write("collected", total=len(ids))

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Tell which test runs, so that it is known if the process dies in it."""
        self._write("start", **self._about.get(nodeid, {"test": nodeid}))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Tell how a test ended."""
        if report.when != "call" and report.passed:
            return
        known = hasattr(report, "wasxfail")
        message = ""
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            message = crash.message if crash is not None else str(report.longrepr)
        self._write(
            "end",
            **_about(report),
            outcome="known" if known and report.skipped else report.outcome,
            message=message or (str(report.wasxfail) if known else ""),
            details=report.longreprtext if report.failed else "",
        )


def _about(test: pytest.Item | pytest.TestReport) -> dict[str, Any]:
    properties = dict(test.user_properties)
    return {
        "test": properties.get("lstsq_test", test.nodeid),
        "row": properties.get("contract_row", "(not said)"),
        "driver": properties.get("lstsq_driver", ""),
    }
