"""What pytest loads with the tests of the suite: their one fixture, and the refusal to run without a backend."""

from __future__ import annotations

import pytest

from lstsq_conformance.plugin import MISSING, SUITE
from lstsq_conformance.target import Target


@pytest.fixture(scope="session")
def target(pytestconfig: pytest.Config) -> Target:
    """The backend under test."""
    found: Target = pytestconfig.pluginmanager.get_plugin(SUITE).target  # type: ignore[union-attr]
    return found


def pytest_collection_modifyitems(config: pytest.Config) -> None:
    """Say what is missing where a folder that holds the suite is collected without its subject."""
    if not config.pluginmanager.hasplugin(SUITE):
        raise pytest.UsageError(MISSING)
