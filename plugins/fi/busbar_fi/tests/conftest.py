"""Two sites with finance, and people who ask for money, decide about it, or look after another site."""

from collections.abc import AsyncIterator, Sequence

import pytest
import pytest_asyncio

from busbar.sdk import Context, SchemaApp
from busbar.testing.app import PASSWORD, Client, RunningApp, running_app
from busbar.testing.database import TestServer
from busbar.testing.plugins import add_site, context_of, load_plugin, schema_with
from busbar_fi import plugin
from busbar_fi.permissions import PERMISSIONS

FI = load_plugin(plugin, name="fi")
ALL = [permission.name for permission in PERMISSIONS]

PEOPLE = {
    "olga": ("Finance_Officer", "a"),
    "oskar": ("Finance_Officer", "a"),
    "anna": ("Finance_Approver", "a"),
    "bea": ("Finance_Approver", "a"),
    "carl": ("Finance_Approver", "a"),
    "otto": ("Finance_Officer", "b"),
    "ingo": ("Integration_Operator", "a"),
}


@pytest.fixture
def schema_apps() -> Sequence[SchemaApp]:
    return schema_with(FI)


@pytest_asyncio.fixture
async def ctx(database: str) -> Context:
    """A finance officer of the site `north`, which has finance; so has `south`, and `depot` lacks it."""
    await add_site("north", "fi")
    await add_site("south", "fi")
    await add_site("depot")
    return context_of("olga", permissions=ALL, sites=["north"])


class Office:
    """The running platform with finance at the sites `a` and `b`, and its people, signed in when first asked for."""

    def __init__(self, app: RunningApp) -> None:
        self.app = app
        self._clients: dict[str, Client] = {}

    async def client(self, username: str) -> Client:
        """A signed-in client."""
        if username not in self._clients:
            self._clients[username] = await self.app.sign_in(username)
        return self._clients[username]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def office(postgres: TestServer) -> AsyncIterator[Office]:
    """A platform that has finance only, shared by the tests of a module."""
    async with running_app(postgres, plugins=[FI]) as app:
        admin = await app.client()
        for name, (role, site) in PEOPLE.items():
            user = {"username": name, "display_name": name, "password": PASSWORD, "roles": [role], "sites": [site]}
            await admin.post("/users", user)
        yield Office(app)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def olga(office: Office) -> Client:
    """A finance officer of the site `a`."""
    return await office.client("olga")
