"""Identity on an empty database, with a clock that the test moves."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from busbar.auth.service import Auth
from busbar.auth.tests.support import ManualClock, identity
from busbar.db import execute
from busbar.testing.database import TestServer, all_connections_home, fresh_database

_EMPTY = """
alter table core.audit disable trigger user;
truncate core.user_account, core.role, core.refresh_token, core.signing_key, core.login_failure, core.site,
    core.idempotency, core.audit_seal, core.audit restart identity;
alter table core.audit enable trigger user;
"""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def module_database(postgres: TestServer) -> AsyncIterator[str]:
    async with fresh_database(postgres) as dsn:
        yield dsn


@pytest.fixture
async def database(module_database: str) -> AsyncIterator[str]:
    """One database for a module, emptied for each test: many small tests, and making a database takes its time."""
    await execute(_EMPTY)
    yield module_database
    await all_connections_home()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def auth(database: str, clock: ManualClock) -> AsyncIterator[Auth]:
    async with identity(clock) as started:
        yield started
