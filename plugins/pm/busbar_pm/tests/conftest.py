"""Two sites with plant maintenance, one without, and people who work there."""

from collections.abc import AsyncIterator, Sequence

import httpx
import pytest
import pytest_asyncio

from busbar.sdk import Context, SchemaApp
from busbar.testing.app import PASSWORD, RunningApp
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


class Served:
    """The running platform of the fixture `app`, with the same sites as `ctx` has."""

    def __init__(self, app: RunningApp) -> None:
        self.app = app
        self._opened: dict[str, httpx.AsyncClient] = {}

    async def add_user(self, username: str, *, sites: Sequence[str]) -> None:
        """Make a maintenance engineer of these sites."""
        user = {"username": username, "display_name": username, "password": PASSWORD, "sites": sites}
        await (await self.app.client()).post("/users", user | {"roles": ["Maintenance_Engineer"]})

    async def client(self, username: str = "admin") -> httpx.AsyncClient:
        """A signed-in client."""
        if username not in self._opened:
            token = (await self.app.sign_in(username)).token
            self._opened[username] = httpx.AsyncClient(
                base_url=self.app.url, headers={"Authorization": f"Bearer {token}"}, timeout=30
            )
        return self._opened[username]

    async def close(self) -> None:
        for client in self._opened.values():
            await client.aclose()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def served(app: RunningApp) -> AsyncIterator[Served]:
    """A platform with the same sites; `erna` works at `north`, `otto` only at `office`."""
    for site_id, modules in (("north", ["pm"]), ("south", ["pm"]), ("office", [])):
        await add_site(site_id, *modules)
    running = Served(app)
    await running.add_user("erna", sites=["north"])
    await running.add_user("otto", sites=["office"])
    yield running
    await running.close()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def erna(served: Served) -> httpx.AsyncClient:
    """A maintenance engineer of `north`."""
    return await served.client("erna")
