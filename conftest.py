"""Fixtures for all tests of the workspace: the ones that Busbar ships to plugin authors."""

from collections.abc import Generator

import hypothesis
import pytest

from busbar.observability.logs import flush_logs
from busbar.testing.app import app
from busbar.testing.broker import rabbitmq, vhost, vhosts
from busbar.testing.database import database, postgres, schema_apps

__all__ = ["app", "database", "postgres", "rabbitmq", "schema_apps", "vhost", "vhosts"]

# Before anybody imports it, so that a contract that is broken says how.
pytest.register_assert_rewrite("busbar.testing.connector_contract")

# How long an example takes says something about the machine.
hypothesis.settings.register_profile("busbar", deadline=None)
hypothesis.settings.load_profile("busbar")


@pytest.hookimpl(wrapper=True, trylast=True)
def _with_its_log_lines() -> Generator[None, object, object]:
    """Log lines are written a moment later, by a thread; they belong to the output of what caused them."""
    try:
        return (yield)
    finally:
        flush_logs()


pytest_runtest_setup = pytest_runtest_call = pytest_runtest_teardown = _with_its_log_lines
