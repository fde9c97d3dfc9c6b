"""Piccolo's engine with pools that cannot hang, and plain statements on the same pools and transactions."""

import asyncio
import contextvars
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import asyncpg
import structlog
from piccolo.engine.postgres import PostgresEngine

from busbar.db.transaction import Transaction
from busbar.db.trouble import DATABASE_TROUBLE
from busbar.errors import Unavailable

log = structlog.get_logger()

ACQUIRE_TIMEOUT_S = 2.0
CLOSE_TIMEOUT_S = 5.0
SERVER_SETTINGS = {
    "application_name": "busbar",
    "jit": "off",
    "statement_timeout": "30s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "60s",
    "timezone": "UTC",
}

_pool_name: contextvars.ContextVar[str] = contextvars.ContextVar("busbar_pool", default="requests")


class Engine(PostgresEngine):
    """Piccolo's engine: connects when a pool is started, never at import (LESSONS D17).

    Requests and background work (relay, workers) use pools of their own, so that neither starves the other (D5).
    """

    def __init__(self) -> None:
        super().__init__(config={})
        self.pools: dict[str, asyncpg.Pool] = {}
        self.refusals: Counter[str] = Counter()
        """How often each pool had no connection to give."""

    async def check_version(self) -> None:
        """Nothing: there may be no server yet when this is imported."""

    async def prep_database(self) -> None:
        """Nothing: no extension is needed."""

    async def acquire(self) -> asyncpg.Connection:
        """A connection of the current pool.

        Raises:
            Unavailable: none became free in time, or the server is not there.
        """
        name = _pool_name.get()
        pool = self.pools.get(name)
        if pool is None:
            raise Unavailable("The database is not connected.", retry_after_s=2)
        try:
            # The pool's own timeout starts a task for each request; this one does not.
            async with asyncio.timeout(ACQUIRE_TIMEOUT_S):
                return await pool.acquire()
        except (
            TimeoutError,
            OSError,
            asyncpg.InterfaceError,
            asyncpg.InternalClientError,
            asyncpg.PostgresConnectionError,
        ) as error:
            self.refusals[name] += 1
            raise Unavailable("The database is busy or not reachable; try again.", retry_after_s=2) from error
        except (asyncpg.CannotConnectNowError, asyncpg.TooManyConnectionsError) as error:
            self.refusals[name] += 1
            raise Unavailable("The database accepts no connections now; try again.", retry_after_s=2) from error

    async def release(self, connection: Any) -> None:
        """Give a connection back to the pool it came from, whatever state it is in, cancelled or not.

        The pool shields its work from cancellation, and there is nothing to wait for before that.
        """
        try:
            await connection._holder._pool.release(connection, timeout=CLOSE_TIMEOUT_S)
        except asyncpg.InternalClientError as error:
            # The connection died in just this moment, and the pool has taken its place back by itself.
            log.warning("connection_gone", error=str(error))

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        """The open transaction's connection, or one of the pool for the time of the block."""
        opened: Transaction | None = self.current_transaction.get()  # type: ignore[assignment]  # ours
        if opened is not None:
            opened.check_owner()
            yield opened.connection
            return
        connection = await self.acquire()
        try:
            yield connection
        finally:
            await self.release(connection)

    def transaction(self, allow_nested: bool = True) -> Transaction:
        return Transaction(engine=self, allow_nested=allow_nested)

    async def run_querystring(self, querystring: Any, in_pool: bool = True) -> list[Any]:
        query, arguments = querystring.compile_string(engine_type=self.engine_type)
        async with self.connection() as connection:
            return await connection.fetch(query, *arguments)

    async def run_ddl(self, ddl: str, in_pool: bool = True) -> list[Any]:
        async with self.connection() as connection:
            return await connection.fetch(ddl)


DB = Engine()
"""The engine of every table, the core's and the plugins'."""


async def _light_reset(connection: asyncpg.Connection) -> None:
    # asyncpg's own reset is a round trip for each request (D16); nothing here leaves session state behind.
    if connection.is_in_transaction():
        await connection.execute("ROLLBACK")


async def start_pool(dsn: str, *, name: str = "requests", size: int = 10) -> None:
    """Open the pool `name` (`requests` or `background`) with `size` connections to the database `dsn`.

    Raises:
        Unavailable: the database cannot be reached, or does not let us in; the detail says why.
    """
    if name in DB.pools:
        raise RuntimeError(f"the pool {name} is started already")
    DB.config = {"dsn": dsn}
    try:
        DB.pools[name] = await asyncpg.create_pool(
            dsn,
            min_size=min(2, size),
            max_size=size,
            reset=_light_reset,
            server_settings=SERVER_SETTINGS,
            command_timeout=60,
            max_inactive_connection_lifetime=0,
        )
    except DATABASE_TROUBLE as error:
        raise Unavailable(f"Cannot connect to the database: {str(error) or repr(error)}", retry_after_s=2) from error


async def stop_pool(name: str = "requests") -> None:
    """Close the pool `name`; connections still in use after a few seconds are cut (D4)."""
    pool = DB.pools.pop(name, None)
    if pool is None:
        return
    try:
        await asyncio.wait_for(pool.close(), CLOSE_TIMEOUT_S)
    except TimeoutError:
        log.warning("pool_close_timed_out", pool=name)
        pool.terminate()


@asynccontextmanager
async def open_pools(dsn: str, *, size: int = 10, background_size: int = 6) -> AsyncIterator[None]:
    """Both pools, for the time of the block."""
    await start_pool(dsn, name="requests", size=size)
    try:
        await start_pool(dsn, name="background", size=background_size)
        yield
    finally:
        await stop_pool("background")
        await stop_pool("requests")


@contextmanager
def use_pool(name: str) -> Iterator[None]:
    """Take connections from the pool `name` inside the block."""
    token = _pool_name.set(name)
    try:
        yield
    finally:
        _pool_name.reset(token)


async def fetch(sql: str, *args: Any) -> list[asyncpg.Record]:
    """All rows of a statement, in the open transaction or by itself.

    Raises:
        Unavailable: no connection became free within two seconds. What PostgreSQL refuses is one of asyncpg's errors.
    """
    async with DB.connection() as connection:
        return await connection.fetch(sql, *args)


async def fetchrow(sql: str, *args: Any) -> asyncpg.Record | None:
    """The first row of a statement, or None; raises as `fetch`."""
    async with DB.connection() as connection:
        return await connection.fetchrow(sql, *args)


async def fetchval(sql: str, *args: Any) -> Any:
    """The first column of the first row, or None; raises as `fetch`."""
    async with DB.connection() as connection:
        return await connection.fetchval(sql, *args)


async def execute(sql: str, *args: Any) -> str:
    """Run a statement; returns the server's command tag, such as `UPDATE 1`; raises as `fetch`."""
    async with DB.connection() as connection:
        return await connection.execute(sql, *args)


async def copy_rows(table: str, *, schema: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Send rows by COPY into `schema.table`, in the open transaction or by itself; raises as `fetch`."""
    async with DB.connection() as connection:
        await connection.copy_records_to_table(table, schema_name=schema, columns=list(columns), records=rows)
