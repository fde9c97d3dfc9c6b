"""`busbar doctor`: looks for what is wrong, and says how to cure it."""

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import NamedTuple

from busbar.cli.console import people
from busbar.cli.session import database, plugins
from busbar.connectors.secrets import load_key_ring
from busbar.db import fetch, fetchrow, fetchval, open_pools
from busbar.errors import BusbarError
from busbar.observability.logs import configure_logging
from busbar.schema.core import CORE
from busbar.schema.runner import migration_files
from busbar.settings import Settings, read_settings

_FREE_GB_MIN = 2
_SKEW_S_MAX = 2.0
_OUTBOX_S_MAX = 60


class Finding(NamedTuple):
    """What a check found."""

    name: str
    healthy: bool
    text: str


def run_doctor() -> None:
    """Run all checks; the exit code is 1 if one of them found something."""
    settings = read_settings()
    configure_logging(level="ERROR")
    healthy = asyncio.run(_examine(settings))
    sys.exit(0 if healthy else 1)


async def _examine(settings: Settings) -> bool:
    healthy = True
    async for finding in _findings(settings):
        mark = "[green]ok[/]  " if finding.healthy else "[red]bad[/] "
        people.print(f"{mark} {finding.name:<12}", end="")
        people.print(finding.text, markup=False)
        healthy = healthy and finding.healthy
    return healthy


async def _findings(settings: Settings) -> AsyncIterator[Finding]:
    folder = settings.home if settings.home.exists() else settings.home.parent
    free_gb = shutil.disk_usage(folder).free / 1e9 if folder.exists() else 0.0
    yield Finding("disk", free_gb >= _FREE_GB_MIN, f"{free_gb:.1f} GB free at {settings.home}")
    try:
        environment = {} if settings.secret_key is None else {"BUSBAR_SECRET_KEY": settings.secret_key}
        key_ids = load_key_ring(home=settings.home, environ=environment).key_ids
        yield Finding("secret key", True, f"{len(key_ids)} keys; the newest is {key_ids[0]}")
    except BusbarError as error:
        yield Finding("secret key", False, error.detail)
    for plugin in plugins():
        yield Finding("plugin", plugin.fault is None, f"{plugin.name}: {plugin.fault or 'loads'}")
    try:
        async with database(settings) as dsn, open_pools(dsn, size=2, background_size=1):
            async for finding in _database_findings():
                yield finding
    except (BusbarError, OSError) as error:
        yield Finding("database", False, f"{error} Is another user's Busbar running in {os.fspath(settings.home)}?")


async def _database_findings() -> AsyncIterator[Finding]:
    version = await fetchval("show server_version")
    yield Finding("database", True, f"PostgreSQL {version}")
    skew_s = abs((await fetchval("select clock_timestamp()") - datetime.now(UTC)).total_seconds())
    yield Finding("clock", skew_s <= _SKEW_S_MAX, f"{skew_s:.2f} s between this machine and the database")
    if not await fetchval("select to_regclass('core.migration') is not null"):
        yield Finding("schema", False, "is empty; start Busbar or run `busbar migrate`")
        return
    done = {row["name"] for row in await fetch("select name from core.migration where app = 'core'")}
    missing = [migration.name for migration in migration_files(CORE) if migration.name not in done]
    yield Finding("schema", not missing, f"missing: {', '.join(missing)}" if missing else f"{len(done)} migrations")
    row = await fetchrow(
        "select count(*) as waiting, coalesce(extract(epoch from now() - min(time)), 0)::int as oldest_s "
        "from core.event where position is null"
    )
    assert row is not None, "an aggregate has one row"
    text = f"{row['waiting']} events wait, the oldest for {row['oldest_s']} s"
    yield Finding("outbox", row["oldest_s"] <= _OUTBOX_S_MAX, text)
    dead = await fetchval("select count(*) from core.delivery where state = 'dead'")
    yield Finding(
        "dead letters", dead == 0, f"{dead}" if dead == 0 else f"{dead}: see GET /api/v1/deliveries?state=dead"
    )
