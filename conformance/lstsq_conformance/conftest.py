"""The one fixture of the suite."""

from __future__ import annotations

import pytest

from lstsq_conformance.target import Target


@pytest.fixture(scope="session")
def target(pytestconfig: pytest.Config) -> Target:
    """The backend under test."""
    suite = pytestconfig.pluginmanager.get_plugin("lstsq_conformance_suite")
    if suite is None:
        raise pytest.UsageError("add --lstsq-backend NAME")
    found: Target = suite.target
    return found
