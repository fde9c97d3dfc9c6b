"""A desk at which tickets of the tests' own module are opened and changed."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from busbar.events.registry import REGISTRY
from busbar.testing.database import TestServer, fresh_database
from busbar.tickets.sla_alerts import event_types_of
from busbar.tickets.tests.desk import OPENED, UPDATED, Desk, make_desk


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shared_database(postgres: TestServer) -> AsyncIterator[None]:
    """One for all tests of a module; each opens tickets of its own."""
    async with fresh_database(postgres):
        yield


@pytest.fixture
async def desk(shared_database: None, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setattr(REGISTRY, "_types", {each.name: each for each in (OPENED, UPDATED, *event_types_of("tst"))})
    return await make_desk()
