"""A real PostgreSQL for tests: one server for the run, and for each test a fresh database with the schema in place."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
import pytest_asyncio

from busbar.db import DB, open_pools
from busbar.db.embedded import EmbeddedServer, start_embedded
from busbar.db.migrations import SchemaApp
from busbar.schema.core import CORE
from busbar.schema.runner import migrate

POOL_SIZE = 8
IDLE_S_MAX = 5.0
"""So long a test may take to give all connections back."""


class TestServer:
    """The server of the run, with a migrated template for each set of modules that was asked for."""

    __test__ = False

    def __init__(self, server: EmbeddedServer) -> None:
        self._server = server
        self._templates: dict[tuple[str, ...], str] = {}
        self._one_at_a_time = asyncio.Lock()

    async def create_database(self, apps: Sequence[SchemaApp]) -> tuple[str, str]:
        """A new database with the schema of `apps`, as its name and its address for asyncpg."""
        async with self._one_at_a_time:
            template = await self._template(apps)
            name = f"test_{uuid4().hex}"
            return name, await self._server.create_database(name, template=template)

    async def drop_database(self, name: str) -> None:
        """Remove a database, whoever is still connected to it."""
        await self._server.drop_database(name)

    async def _template(self, apps: Sequence[SchemaApp]) -> str:
        key = tuple(sorted(app.name for app in apps))
        if key not in self._templates:
            name = f"template_{'_'.join(key)}"
            dsn = await self._server.create_database(name)
            async with open_pools(dsn, size=2, background_size=1):
                failed = await migrate(dsn, apps)
            if failed:
                raise AssertionError(f"migrations failed: {failed}")
            self._templates[key] = name
        return self._templates[key]


@asynccontextmanager
async def fresh_database(server: TestServer, apps: Sequence[SchemaApp] = (CORE,)) -> AsyncIterator[str]:
    """A migrated database for the time of the block, with both pools open; gives its address for asyncpg.

    At the end every connection must have come home: one that is lost would sooner or later stop the platform.
    """
    name, dsn = await server.create_database(apps)
    try:
        async with open_pools(dsn, size=POOL_SIZE, background_size=POOL_SIZE):
            yield dsn
            await all_connections_home()
    finally:
        await server.drop_database(name)


async def all_connections_home() -> None:
    """Wait until every pool has all its connections back.

    Raises:
        AssertionError: naming the pools from which a connection is still missing after `IDLE_S_MAX`.
    """
    pools = list(DB.pools.values())
    try:
        async with asyncio.timeout(IDLE_S_MAX):
            while any(pool.get_size() != pool.get_idle_size() for pool in pools):  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.01)
    except TimeoutError:
        lost = {name: pool.get_size() - pool.get_idle_size() for name, pool in DB.pools.items()}
        raise AssertionError(f"the test left connections in use: {lost}") from None


@pytest_asyncio.fixture(scope="session")
async def postgres() -> AsyncIterator[TestServer]:
    """The PostgreSQL server of the run; it gives up durability for speed."""
    with _scratch_folder() as home:
        server = await start_embedded(home, fast_and_unsafe=True)
        try:
            yield TestServer(server)
        finally:
            await server.stop()


@contextmanager
def _scratch_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="busbar-test-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)  # for root another user runs the server, and must be able to pass
        yield folder


@pytest.fixture
def schema_apps() -> Sequence[SchemaApp]:
    """The modules whose schema the fixture `database` has; a plugin's tests override it with their own beside CORE."""
    return (CORE,)


@pytest_asyncio.fixture
async def database(postgres: TestServer, schema_apps: Sequence[SchemaApp]) -> AsyncIterator[str]:
    """A fresh migrated database with both pools open; gives its address for asyncpg."""
    async with fresh_database(postgres, schema_apps) as dsn:
        yield dsn
