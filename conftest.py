"""Fixtures for all tests of the workspace: the ones that Busbar ships to plugin authors."""

import pytest

from busbar.observability.logs import flush_logs
from busbar.testing.app import app
from busbar.testing.database import database, postgres, schema_apps

__all__ = ["app", "database", "postgres", "schema_apps"]


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown() -> None:
    """Log lines are written a moment later, by a thread; they belong to the output of the test that caused them."""
    flush_logs()
