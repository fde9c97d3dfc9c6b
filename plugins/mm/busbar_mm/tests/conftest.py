"""A platform with materials management only, and store managers of its two sites."""

from collections.abc import AsyncIterator, Sequence

import pytest
import pytest_asyncio

from busbar.sdk import Context, SchemaApp
from busbar.testing.app import Client, RunningApp, running_app
from busbar.testing.database import TestServer
from busbar.testing.plugins import add_site, context_of, load_plugin, schema_with
from busbar_mm import plugin
from busbar_mm.permissions import PERMISSIONS

MM = load_plugin(plugin, name="mm")
ALL = [permission.name for permission in PERMISSIONS]


@pytest.fixture
def schema_apps() -> Sequence[SchemaApp]:
    return schema_with(MM)


@pytest_asyncio.fixture
async def ctx(database: str) -> Context:
    """A store manager of the site `north`, which has materials management; so has `south`."""
    await add_site("north", "mm")
    await add_site("south", "mm")
    return context_of("sam", permissions=ALL, sites=["north"])


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def app(postgres: TestServer) -> AsyncIterator[RunningApp]:
    """Served over HTTP, with the sites `a` and `b`."""
    async with running_app(postgres, plugins=[MM]) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def store(app: RunningApp) -> Client:
    """A store manager of `a`."""
    return await app.client("Store_Manager", "a")
