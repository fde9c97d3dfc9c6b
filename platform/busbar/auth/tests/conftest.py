"""A PostgreSQL of the tests' own, migrated once, emptied before each test."""

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from busbar.auth.service import Auth
from busbar.auth.tests.support import ManualClock, identity
from busbar.db import execute, open_pools
from busbar.db.embedded import start_embedded
from busbar.schema.core import CORE
from busbar.schema.runner import migrate

_EMPTY = """
truncate core.user_account, core.role, core.refresh_token, core.signing_key, core.login_failure, core.audit_seal;
alter table core.audit disable trigger user;
delete from core.audit;
alter table core.audit enable trigger user;
"""


@pytest.fixture(scope="session")
async def database() -> AsyncIterator[str]:
    with tempfile.TemporaryDirectory(prefix="busbar-auth-") as folder:
        Path(folder).chmod(0o755)
        server = await start_embedded(Path(folder), fast_and_unsafe=True)
        try:
            async with open_pools(server.dsn):
                await migrate(server.dsn, [CORE])
                yield server.dsn
        finally:
            await server.stop()


@pytest.fixture
async def empty(database: str) -> str:
    await execute(_EMPTY)
    return database


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def auth(empty: str, clock: ManualClock) -> AsyncIterator[Auth]:
    async with identity(clock) as started:
        yield started
