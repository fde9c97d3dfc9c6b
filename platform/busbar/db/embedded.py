"""The PostgreSQL that comes along: started, guarded and stopped by Busbar itself, on Linux and macOS.

Two processes watch each other. The guard (`guard.py`) owns the server: it restarts a dead one, and ends it when the
application is gone. A thread of the application restarts a dead guard, which then adopts the server.
"""

import asyncio
import concurrent.futures
import contextlib
import logging
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import quote

import asyncpg
import msgspec

from busbar.db.cluster import Cluster, prepare
from busbar.errors import Conflict, Unavailable
from busbar.kit.backoff import delay_s

START_S_MAX = 180.0
STOP_S_MAX = 40.0
RETRY_S = 0.1

logger = logging.getLogger(__name__)


class ServerDidNotStart(Unavailable):
    """PostgreSQL refuses to start, or takes too long; the detail says why."""


class DatabaseExists(Conflict):
    """A database of this name is there already."""


async def start_embedded(home: Path, *, fast_and_unsafe: bool = False) -> "EmbeddedServer":
    """Start the server of `home` (its data is in `home/postgres`), or adopt the one that runs there already.

    Makes the folder, the cluster and the database `busbar` where they are missing. `fast_and_unsafe` gives up all
    durability and is for tests only. Raises ServerDidNotStart, HomeUnreachable, NoServerUser or NoServerBinaries, all
    of them `Unavailable`, each with one sentence for the user.
    """
    cluster = await asyncio.to_thread(prepare, home, fast_and_unsafe=fast_and_unsafe)
    server = EmbeddedServer(cluster)
    try:
        async with asyncio.timeout(START_S_MAX):
            await server.ready()
            await server.create_missing_database("busbar")
    except TimeoutError:
        await server.stop()
        raise ServerDidNotStart(
            f"PostgreSQL was not ready after {START_S_MAX:.0f} s; its log is {cluster.folder}/server.log."
        ) from None
    except BaseException:
        await server.stop()
        raise
    return server


class EmbeddedServer:
    """A running embedded PostgreSQL; `start_embedded` makes one."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._ready: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._ready.set_running_or_notify_cancel()  # whoever waits may be cancelled, the future not
        self._owner = False
        self._stopping = threading.Event()
        self._spawning = threading.Lock()
        self._guard = self._spawn_guard()
        # A thread, not a task: it must go on when the loop is busy, and when the loop has ended without `stop`.
        self._watcher = threading.Thread(target=self._watch_guard, name="embedded-postgres", daemon=True)
        self._watcher.start()

    @property
    def dsn(self) -> str:
        """Address of the database `busbar`, for asyncpg."""
        return self.dsn_of("busbar")

    @property
    def owner(self) -> bool:
        """Whether the server is ours and ends with us; an adopter becomes the owner when the owner goes."""
        return self._owner

    def dsn_of(self, database: str) -> str:
        """Address of a database of this server, for asyncpg."""
        return f"postgresql://busbar@/{quote(database)}?host={quote(self._cluster.sockets, safe='/')}&port=5432"

    async def ready(self) -> None:
        """Return when the server takes connections. Raises ServerDidNotStart."""
        await asyncio.wrap_future(self._ready)

    async def create_database(self, name: str, template: str | None = None) -> str:
        """Make a database, as a copy of `template` if given; returns its address. Raises DatabaseExists."""
        copy = f" TEMPLATE {identifier(template)}" if template else ""
        try:
            await self._administer(f"CREATE DATABASE {identifier(name)}{copy}")
        except (asyncpg.DuplicateDatabaseError, asyncpg.UniqueViolationError):  # the latter: two at the same moment
            raise DatabaseExists(f"The database {name} exists already.") from None
        return self.dsn_of(name)

    async def create_missing_database(self, name: str) -> None:
        """Make a database unless it is there, patient with a server that is just changing hands."""
        while True:
            try:
                if not await self._administer("SELECT 1 FROM pg_database WHERE datname = $1", name):
                    with contextlib.suppress(DatabaseExists):  # another process came between
                        await self.create_database(name)
            except (OSError, asyncpg.PostgresConnectionError, asyncpg.OperatorInterventionError):
                await asyncio.sleep(RETRY_S)
            else:
                return

    async def drop_database(self, name: str) -> None:
        """Remove a database if it is there, and end the connections to it."""
        await self._administer(f"DROP DATABASE IF EXISTS {identifier(name)} WITH (FORCE)")

    async def stop(self) -> None:
        """Let go of the server; it is shut down if we are its owner. May be called again."""
        await asyncio.to_thread(self._stop_guard)

    async def _administer(self, statement: str, *arguments: str) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(self.dsn_of("postgres"))
        try:
            return await connection.fetch(statement, *arguments)
        finally:
            await connection.close()

    def _spawn_guard(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", Path(__file__).with_name("guard.py"), msgspec.json.encode(self._cluster)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
            env=bare_environment(),
            # A Ctrl-C at the terminal is for the application, which may want its database to the last moment.
            start_new_session=True,
        )

    def _watch_guard(self) -> None:
        deaths = 0
        while True:
            assert self._guard.stdout is not None
            for line in self._guard.stdout:
                deaths = 0 if self._hear(line.rstrip("\n")) else deaths
            self._guard.wait()
            self._owner = False
            if not self._ready.done():
                self._ready.set_exception(ServerDidNotStart("The guard of the embedded PostgreSQL died at its start."))
                return
            deaths += 1
            if self._stopping.wait(delay_s(deaths, first_s=0.1, max_s=5.0)):
                return
            with self._spawning:
                if self._stopping.is_set():
                    return
                logger.warning("The guard of the embedded PostgreSQL died; a new one takes over.")
                self._guard = self._spawn_guard()

    def _hear(self, line: str) -> bool:
        """Take a message of the guard; returns whether it is good news."""
        word, _, rest = line.partition(" ")
        if word == "failed":
            if not self._ready.done():
                self._ready.set_exception(ServerDidNotStart(rest))
            logger.error("The embedded PostgreSQL cannot be started: %s", rest)
            return False
        if word == "guarding" and self._ready.done():
            logger.warning(
                "The embedded PostgreSQL died and was started again."
                if self._owner
                else "This process guards the embedded PostgreSQL now."
            )
        self._owner = word == "guarding"
        if not self._ready.done():
            self._ready.set_result(None)
        return True

    def _stop_guard(self) -> None:
        with self._spawning:
            self._stopping.set()
            assert self._guard.stdin is not None
            self._guard.stdin.close()
        self._guard.wait(timeout=STOP_S_MAX)
        self._watcher.join()


def bare_environment() -> dict[str, str]:
    """What guard and server see of the environment: no PG variables that would steer them, no secrets of ours."""
    kept = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR")
    return {name: os.environ[name] for name in kept if name in os.environ} | {"LC_ALL": "C"}


def identifier(name: str) -> str:
    """A database name, checked and quoted. Raises ValueError."""
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,62}", name):
        raise ValueError(f"{name!r} is no database name: a letter, then letters, digits and _, at most 63 in all")
    return f'"{name}"'
