"""`busbar doctor`: looks for what is wrong, and says how to cure it."""

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import NamedTuple

from aiormq.exceptions import ChannelNotFoundEntity

from busbar.bus.link import LINK_TROUBLE, RPC_S, BrokerAddress, open_link
from busbar.bus.topology import DEAD
from busbar.cli.console import people
from busbar.cli.session import database, plugins
from busbar.connectors.resealing import sealed_with
from busbar.connectors.secrets import KeyRing, find_key_ring
from busbar.db import DATABASE_TROUBLE, fetch, fetchrow, fetchval, open_pools
from busbar.errors import BusbarError
from busbar.events import ledger
from busbar.observability.logs import configure_logging
from busbar.schema.core import CORE
from busbar.schema.runner import migration_files
from busbar.settings import Settings, read_settings

_FREE_GB_MIN = 2
_SKEW_S_MAX = 2.0
_OUTBOX_S_MAX = 60
_HANDED_OVER_S_MAX = 300
_NAME_WIDTH = len("dead letters") + 2


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
        people.print(f"{mark} {finding.name:<{_NAME_WIDTH}}", end="")
        people.print(finding.text, markup=False, soft_wrap=True)
        healthy = healthy and finding.healthy
    return healthy


async def _findings(settings: Settings) -> AsyncIterator[Finding]:
    folder = next(path for path in (settings.home, *settings.home.absolute().parents) if path.exists())
    free_gb = shutil.disk_usage(folder).free / 1e9
    yield Finding("disk", free_gb >= _FREE_GB_MIN, f"{free_gb:.1f} GB free at {settings.home}")
    key_ring, bad_key = None, False
    try:
        key_ring = find_key_ring(home=settings.home, environ=settings.key_environment)
        if key_ring is not None:
            text = f"{_counted(len(key_ring.key_ids), 'key')}; the newest is {key_ring.primary_id}"
            yield Finding("secret key", True, text)
    except BusbarError as error:
        bad_key = True
        yield Finding("secret key", False, error.detail)
    for plugin in plugins():
        yield Finding("plugin", plugin.fault is None, f"{plugin.name}: {plugin.fault or 'loads'}")
    async for finding in _broker_findings(settings):
        yield finding
    if settings.database_url is None and not (settings.home / "postgres").exists():
        # A look at it must not make a database.
        yield Finding("database", True, f"none yet at {settings.home}; the first start makes it")
        return
    try:
        async with database(settings) as dsn, open_pools(dsn, size=2, background_size=1):
            async for finding in _database_findings(key_ring, bad_key=bad_key):
                yield finding
    except BusbarError as error:
        yield Finding("database", False, error.detail)
    except DATABASE_TROUBLE as error:
        yield Finding("database", False, str(error) or repr(error))


async def _broker_findings(settings: Settings) -> AsyncIterator[Finding]:
    if settings.amqp_url is None:
        return
    address = BrokerAddress(settings.amqp_url, ca_file=settings.amqp_ca_file)
    try:
        async with open_link(address, name="busbar doctor") as link:
            yield Finding("broker", True, f"{address.shown} answers")
            dead = (await link.channel.queue_declare(DEAD, passive=True, timeout=RPC_S)).message_count or 0
            text = f"{_counted(dead, 'message')} in {DEAD}, which nobody could take" if dead else f"nothing in {DEAD}"
            yield Finding("broker", dead == 0, text)
    except ChannelNotFoundEntity:
        yield Finding("broker", True, "has no queues yet; the first worker declares them")
    except LINK_TROUBLE as error:
        yield Finding("broker", False, f"{address.shown}: {error or type(error).__name__}; the ledger goes on alone")


async def _database_findings(key_ring: KeyRing | None, *, bad_key: bool) -> AsyncIterator[Finding]:
    version = await fetchval("show server_version")
    yield Finding("database", True, f"PostgreSQL {version}")
    skew_s = abs((await fetchval("select clock_timestamp()") - datetime.now(UTC)).total_seconds())
    yield Finding("clock", skew_s <= _SKEW_S_MAX, f"{skew_s:.2f} s between this machine and the database")
    if not await fetchval("select to_regclass('core.migration') is not null"):
        yield Finding("schema", False, "is empty; start Busbar or run `busbar migrate`")
        return
    done = {row["name"] for row in await fetch("select name from core.migration where app = 'core'")}
    missing = [migration.name for migration in migration_files(CORE) if migration.name not in done]
    if missing:
        yield Finding("schema", False, f"lacks {', '.join(missing)}; start Busbar or run `busbar migrate`")
        return
    yield Finding("schema", True, f"{_counted(len(done), 'migration')} of the core")
    if not bad_key:
        yield await _key_finding(key_ring)
    row = await fetchrow(
        "select count(*) as waiting, coalesce(extract(epoch from now() - min(time)), 0)::int as oldest_s "
        "from core.event where position is null"
    )
    assert row is not None, "an aggregate has one row"
    waiting = f"{_counted(row['waiting'], 'event')} in it"
    text = f"{waiting}, the oldest for {row['oldest_s']} s" if row["waiting"] else "empty"
    yield Finding("outbox", row["oldest_s"] <= _OUTBOX_S_MAX, text)
    for endpoint_id, found in sorted((await ledger.with_runners()).items()):
        waiting = _counted(found.count, "delivery", "deliveries")
        text = f"{waiting} of {endpoint_id} at Camel without an outcome, the oldest for {found.oldest_s:.0f} s"
        healthy = found.oldest_s <= _HANDED_OVER_S_MAX
        yield Finding("handed over", healthy, text if healthy else f"{text}; see whether Camel runs")
    failed = await fetch("select name, last_error from core.job where last_error is not null order by name")
    text = "; ".join(f"{row['name']} failed last: {row['last_error']}" for row in failed)
    yield Finding("jobs", not failed, text or "none failed last")
    dead = await fetchval("select count(*) from core.delivery where state = 'dead'")
    yield Finding("dead letters", dead == 0, f"{dead}: see GET /api/v1/deliveries?state=dead" if dead else "none")


async def _key_finding(key_ring: KeyRing | None) -> Finding:
    made = await sealed_with()
    if key_ring is None:
        text = "is not there, and the database was used with one; restore it" if made else "none yet"
        return Finding("secret key", not made, text)
    missing = [
        f"{_counted(len(things), 'value')} of the key {key_id or 'none'}, such as {things[0]}"
        for key_id, things in made.items()
        if key_id not in key_ring.key_ids
    ]
    if missing:
        cure = "add the key; without it, see Backup in docs/how-to/operate.md"
        return Finding("secrets", False, f"cannot be read: {'; '.join(missing)}; {cure}")
    newest = len(made.pop(key_ring.primary_id, []))
    if made:
        older = _counted(sum(map(len, made.values())), "value")
        return Finding("secrets", True, f"{older} of older keys; `busbar reseal-secrets` moves them")
    return Finding("secrets", True, f"{_counted(newest, 'value')}, of the newest key")


def _counted(number: int, thing: str, things: str = "") -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {things or thing + 's'}"
