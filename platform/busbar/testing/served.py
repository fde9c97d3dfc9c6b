"""A whole platform in the test's own process, and HTTP clients that are signed in to it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import httpx

from busbar.app import create_app
from busbar.auth import commands as users
from busbar.auth.actor import Context, system_actor
from busbar.host.loader import Plugin
from busbar.kit.clock import Clock, utc_now
from busbar.runtime import Platform, run_platform
from busbar.schema.core import CORE
from busbar.settings import Settings
from busbar.testing.database import TestServer

PASSWORD: Final = "correct horse battery staple"
"""Of every user of a test platform."""


class Served:
    """A running platform, spoken to over HTTP without a socket."""

    def __init__(self, platform: Platform, stack: AsyncExitStack) -> None:
        self.platform = platform
        self._stack = stack
        self._transport = httpx.ASGITransport(create_app(platform))  # type: ignore[arg-type]

    async def add_user(self, username: str, *, roles: Sequence[str], sites: Sequence[str]) -> None:
        """Make a user with the password PASSWORD."""
        await users.create_user(
            self.platform.auth,
            Context(actor=system_actor("test"), correlation_id="test"),
            username=username,
            display_name=username.capitalize(),
            password=PASSWORD,
            roles=roles,
            sites=sites,
        )

    async def client(self, username: str = "admin") -> httpx.AsyncClient:
        """A client that is signed in, open until the platform stops."""
        client = httpx.AsyncClient(transport=self._transport, base_url="http://busbar.test", timeout=30)
        await self._stack.enter_async_context(client)
        answer = await client.post("/api/v1/auth/login", json={"username": username, "password": PASSWORD})
        assert answer.status_code == 200, answer.text
        client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        return client


@asynccontextmanager
async def serve(
    server: TestServer, plugins: Sequence[Plugin], *, work: bool = False, clock: Clock = utc_now
) -> AsyncIterator[Served]:
    """A platform on a fresh database for the time of the block; with `work`, events are relayed and handled.

    Only one can run in a process at a time, and not beside the fixture `database`.
    """
    apps = (CORE, *(plugin.schema for plugin in plugins if plugin.schema is not None))
    name, dsn = await server.create_database(apps)
    try:
        async with AsyncExitStack() as stack:
            home = Path(stack.enter_context(TemporaryDirectory(prefix="busbar-home-")))
            settings = Settings(home=home, admin_password=PASSWORD, strict=True)
            platform = await stack.enter_async_context(
                run_platform(settings, dsn=dsn, plugins=plugins, work=work, clock=clock)
            )
            yield Served(platform, stack)
    finally:
        await server.drop_database(name)
