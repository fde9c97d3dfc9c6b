"""Two sites with plant maintenance, one without, and people who work there."""

from collections.abc import AsyncIterator, Sequence

import httpx
import pytest
import pytest_asyncio

from busbar.sdk import Context, SchemaApp
from busbar.testing.served import Served, serve
from busbar.testing.database import TestServer
from busbar.testing.plugins import add_site, context_of, load_plugin, schema_with
from busbar_pm import plugin
from busbar_pm.permissions import PERMISSIONS

PM = load_plugin(plugin, name="pm")
ALL = [permission.name for permission in PERMISSIONS]


@pytest.fixture
def schema_apps() -> Sequence[SchemaApp]:
    return schema_with(PM)


@pytest_asyncio.fixture
async def ctx(database: str) -> Context:
    """An engineer of the site `north`, which has plant maintenance; so has `south`, and `office` lacks it."""
    await add_site("north", "pm")
    await add_site("south", "pm")
    await add_site("office")
    return context_of("erna", permissions=ALL, sites=["north"])


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def served(postgres: TestServer) -> AsyncIterator[Served]:
    """A platform with the same sites; `erna` works at `north`, `otto` only at `office`."""
    async with serve(postgres, [PM], work=True) as running:
        for site_id, modules in (("north", ["pm"]), ("south", ["pm"]), ("office", [])):
            await add_site(site_id, *modules)
        await running.add_user("erna", roles=["Maintenance_Engineer"], sites=["north"])
        await running.add_user("otto", roles=["Maintenance_Engineer"], sites=["office"])
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def erna(served: Served) -> httpx.AsyncClient:
    return await served.client("erna")
