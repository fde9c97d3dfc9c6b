"""Wakes sleeping loops, in this process at once and in others by NOTIFY; what is missed is found by a slow poll.

One `Listener` per process holds the LISTEN connection. NOTIFY is sent by its own task, gathered over a few
milliseconds: inside the writing transactions it would make their commits wait for each other.
"""

import asyncio
import contextlib
import enum
import random
from collections.abc import Iterator

import asyncpg
import structlog

from busbar.db.engine import SERVER_SETTINGS
from busbar.db.tasks import end_tasks, spawn
from busbar.db.trouble import DATABASE_TROUBLE
from busbar.kit.backoff import delay_s

log = structlog.get_logger()

_GATHER_S = 0.005
_RECONNECT_S_MAX = 2.0
_CHECK_S = 5.0
_WORKER_LOCK_CLASS = 0x6262


class Channel(enum.StrEnum):
    """What a loop can be woken for."""

    EVENTS = "busbar_events"
    """New rows in the outbox."""
    DELIVERIES = "busbar_deliveries"
    """New or changed work in the ledger."""
    STREAM = "busbar_stream"
    """New positions in the stream of events."""
    CONFIG = "busbar_config"
    """Sites, modules, routes, endpoints or roles changed."""


_signals: dict[Channel, set[asyncio.Event]] = {channel: set() for channel in Channel}
_unsent: set[Channel] = set()
_unsent_there = asyncio.Event()


@contextlib.contextmanager
def signal(channel: Channel) -> Iterator[asyncio.Event]:
    """An `asyncio.Event` that is set whenever the channel is poked, here or in another process."""
    event = asyncio.Event()
    event.set()
    _signals[channel].add(event)
    try:
        yield event
    finally:
        _signals[channel].discard(event)


async def wait_for(event: asyncio.Event, *, poll_s: float) -> None:
    """Wait until the event is set, at most `poll_s` seconds, and clear it."""
    # Not `asyncio.wait_for`: in Python 3.11 it forgets a cancellation that comes together with the event.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(poll_s):
            await event.wait()
    event.clear()


def poke(*channels: Channel) -> None:
    """Wake who waits on the channels; call it after the commit."""
    for channel in channels:
        for event in _signals[channel]:
            event.set()
        _unsent.add(channel)
    _unsent_there.set()


class Listener:
    """The process's own connection for LISTEN and NOTIFY; it comes back by itself.

    While it stands it holds an advisory lock named by `worker`, so that others can tell a live worker from a dead one.
    """

    def __init__(self, dsn: str, *, worker: int) -> None:
        self._dsn = dsn
        self._worker = worker
        self._task: asyncio.Task[None] | None = None
        self._lost = asyncio.Event()
        self.connected = asyncio.Event()

    async def start(self) -> None:
        """Connect, and keep connected until `stop`."""
        self._task = spawn(self._run(), name="listener")
        await self.connected.wait()

    async def stop(self) -> None:
        """Close the connection."""
        if self._task is not None:
            await end_tasks(self._task)

    async def _run(self) -> None:
        failures = 0
        while True:
            try:
                connection = await asyncpg.connect(self._dsn, server_settings=SERVER_SETTINGS, timeout=5)
                try:
                    failures = 0
                    await self._serve(connection)
                finally:
                    self.connected.clear()
                    connection.terminate()
            except DATABASE_TROUBLE as error:
                failures += 1
                log.warning("listener_lost", error=str(error) or repr(error))
            await asyncio.sleep(delay_s(failures + 1, first_s=0.05, max_s=_RECONNECT_S_MAX, rng=random.Random()))

    async def _serve(self, connection: asyncpg.Connection) -> None:
        self._lost = asyncio.Event()
        connection.add_termination_listener(lambda _: self._lost.set())
        await connection.execute("select pg_advisory_lock($1, $2)", _WORKER_LOCK_CLASS, self._worker)
        for channel in Channel:
            await connection.add_listener(channel.value, self._heard)
            self._wake(channel)  # what was said while we were away
        self.connected.set()
        while not self._lost.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CHECK_S):
                    await _unsent_there.wait()
            if not _unsent_there.is_set():
                await connection.execute("select 1", timeout=_CHECK_S)
                continue
            await asyncio.sleep(_GATHER_S)
            _unsent_there.clear()
            channels = sorted(_unsent)
            _unsent.clear()
            await connection.execute(
                "select pg_notify(channel, '') from unnest($1::text[]) channel", channels, timeout=5
            )

    def _heard(self, connection: object, pid: int, channel: str, payload: object) -> None:
        self._wake(Channel(channel))

    @staticmethod
    def _wake(channel: Channel) -> None:
        for event in _signals[channel]:
            event.set()


WORKER_GONE = f"""not exists (
    select 1 from pg_locks l where l.locktype = 'advisory' and l.classid = {_WORKER_LOCK_CLASS} and l.granted
    and l.objsubid = 2 and l.objid = worker::oid
    and l.database = (select oid from pg_database where datname = current_database()))"""
"""SQL condition on a column `worker`: no process holds that worker's lock."""
