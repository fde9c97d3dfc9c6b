"""What every command that touches data needs: settings, plugins, a database, an actor."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

from busbar.auth.actor import Context, system_actor
from busbar.cli.console import tell_first_password
from busbar.db.embedded import start_embedded
from busbar.host.loader import Plugin, installed, load
from busbar.observability.correlation import new_correlation_id
from busbar.observability.logs import configure_logging
from busbar.runtime import Platform, run_platform
from busbar.settings import Settings, read_settings

Result = TypeVar("Result")


@contextlib.asynccontextmanager
async def database(settings: Settings) -> AsyncIterator[str]:
    """The address of the database: that of DATABASE_URL, or the embedded one, started or joined for the block."""
    if settings.database_url is not None:
        yield settings.database_url
        return
    server = await start_embedded(settings.home)
    try:
        yield server.dsn
    finally:
        await server.stop()


@contextlib.asynccontextmanager
async def platform(settings: Settings, *, work: bool) -> AsyncIterator[Platform]:
    """A running platform on the settings' database."""
    async with database(settings) as dsn, run_platform(settings, dsn=dsn, plugins=plugins(), work=work) as running:
        yield running


def plugins() -> list[Plugin]:
    """The installed plugins."""
    return load(installed())


def operator() -> Context:
    """The context of somebody at the command line: whoever may run it on this machine may do everything."""
    return Context(actor=system_actor("cli"), correlation_id=new_correlation_id())


def run(work: Callable[[Platform], Coroutine[Any, Any, Result]], *, works: bool = False) -> Result:
    """Run `work` on a platform that serves nothing, and relays nothing unless it `works`; logs show warnings only."""
    settings = read_settings()
    configure_logging(level="WARNING")

    async def inside() -> Result:
        async with platform(settings, work=works) as running:
            tell_first_password(running.first_password)
            return await work(running)

    return asyncio.run(inside())
