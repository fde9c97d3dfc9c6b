"""Brings the schema up to date: each module's migrations, in dependency order, once, whoever else starts just then."""

import asyncio
import contextlib
import hashlib
import re
from collections.abc import AsyncIterator, Sequence
from graphlib import TopologicalSorter
from importlib.resources import files

import asyncpg
import msgspec
import structlog

from busbar.db import execute, fetch, transaction
from busbar.db.migrations import SchemaApp
from busbar.errors import BusbarError

log = structlog.get_logger()

_LOCK_KEY = 0x6275_7362_6172
"""Advisory lock of the migrations; "busbar" in ASCII."""
_POLL_S = 0.1
_LOOSE = "-- outside of a transaction"
"""First line of a migration for statements such as CREATE INDEX CONCURRENTLY; each must be safe to repeat."""

_HISTORY = """
create schema if not exists core;
create table if not exists core.migration (
    app text not null, name text not null, sha256 text not null, ran_at timestamptz not null default now(),
    primary key (app, name)
)
"""


class MigrationFault(BusbarError):
    """A migration file has a wrong name, or was changed after it ran."""


class Migration(msgspec.Struct, frozen=True, kw_only=True):
    """One migration file."""

    name: str
    sql: str
    sha256: str


async def migrate(dsn: str, apps: Sequence[SchemaApp]) -> dict[str, Exception]:
    """Run what has not run yet; returns the modules that failed, with why. The core's failure is raised.

    A migration runs whole or not at all, and a module that fails keeps what it had; modules that depend on it are not
    tried. Processes that start at once take turns: the lock is polled, because a waiting `pg_advisory_lock` would
    deadlock with CREATE INDEX CONCURRENTLY (LESSONS D18).

    Raises:
        MigrationFault: a file of the core that ran already has other contents now.
    """
    failed: dict[str, Exception] = {}
    async with _exclusively(dsn):
        await execute(_HISTORY)
        for app in in_order(apps):
            try:
                for name in app.depends_on:
                    if name in failed:
                        raise MigrationFault(f"The migrations of {name}, on which {app.name} depends, failed.")
                await _bring_up(app)
            except Exception as error:
                if app.name == "core":
                    raise
                log.error("migration_failed", plugin=app.name, error=str(error), exc_info=error)
                failed[app.name] = error
    return failed


def in_order(apps: Sequence[SchemaApp]) -> list[SchemaApp]:
    """The modules with each after those it depends on, and by name where that leaves a choice."""
    by_name = {app.name: app for app in apps}
    sorter = TopologicalSorter({app.name: set(app.depends_on) & set(by_name) for app in apps})
    sorter.prepare()
    ordered: list[SchemaApp] = []
    while sorter.is_active():
        for name in sorted(sorter.get_ready()):
            ordered.append(by_name[name])
            sorter.done(name)
    return ordered


def migration_files(app: SchemaApp) -> list[Migration]:
    """The migrations of a module, oldest first.

    Raises:
        MigrationFault: a file is not named `<module>_<4 digits>_<words>.sql`.
    """
    found = []
    for file in files(app.migrations).iterdir():
        if not file.name.endswith(".sql"):
            continue
        if not re.fullmatch(rf"{app.name}_\d{{4}}_[a-z0-9_]+\.sql", file.name):
            raise MigrationFault(f"{file.name} should be named {app.name}_0001_words.sql, with the next number.")
        sql = file.read_text("utf-8")
        digest = hashlib.sha256(sql.encode()).hexdigest()
        found.append(Migration(name=file.name.removesuffix(".sql"), sql=sql, sha256=digest))
    return sorted(found, key=lambda migration: migration.name)


async def _bring_up(app: SchemaApp) -> None:
    rows = await fetch("select name, sha256 from core.migration where app = $1", app.name)
    done = {row["name"]: row["sha256"] for row in rows}
    for migration in migration_files(app):
        if migration.name not in done:
            await _run(app, migration)
            log.info("migrated", plugin=app.name, migration=migration.name)
        elif done[migration.name] != migration.sha256:
            raise MigrationFault(f"{migration.name}.sql was edited after it ran; undo that and write a new migration.")


async def _run(app: SchemaApp, migration: Migration) -> None:
    note = "insert into core.migration (app, name, sha256) values ($1, $2, $3)"
    if migration.sql.startswith(_LOOSE):
        for statement in migration.sql.split(";\n"):
            if statement.strip():
                await execute(statement)
        await execute(note, app.name, migration.name, migration.sha256)
        return
    async with transaction():
        await execute(f"set local statement_timeout = 0; set local lock_timeout = '30s'; {migration.sql}")
        await execute(note, app.name, migration.name, migration.sha256)


@contextlib.asynccontextmanager
async def _exclusively(dsn: str) -> AsyncIterator[None]:
    connection = await asyncpg.connect(dsn)
    try:
        while not await connection.fetchval("select pg_try_advisory_lock($1)", _LOCK_KEY):  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(_POLL_S)
        yield
    finally:
        await connection.close()
