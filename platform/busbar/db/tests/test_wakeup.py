"""The bell between processes: rung after the commit, by one connection, and never needed for anything to be right."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio

from busbar.db import execute, fetchval, on_commit, transaction
from busbar.db.wakeup import Channel, Listener, poke, signal
from busbar.kit.ids import uuid7

LONG_S = 5.0
"""Longer than anything here takes; an event that comes is not waited for so long."""


class OtherProcess:
    """A plain connection that listens, as another process's would."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.connection = connection
        self.heard: list[str] = []
        self._news = asyncio.Event()

    async def listen(self) -> None:
        for channel in Channel:
            await self.connection.add_listener(channel.value, self._hear)

    async def hears(self, *channels: Channel) -> None:
        """Wait until all of these were heard."""
        async with asyncio.timeout(LONG_S):
            while not {channel.value for channel in channels} <= set(self.heard):
                await self._news.wait()
                self._news.clear()

    def _hear(self, connection: object, pid: int, channel: str, payload: object) -> None:
        self.heard.append(channel)
        self._news.set()


@pytest_asyncio.fixture
async def other(database: str) -> AsyncIterator[OtherProcess]:
    connection = await asyncpg.connect(database)
    process = OtherProcess(connection)
    await process.listen()
    yield process
    await connection.close()


@pytest_asyncio.fixture
async def listener(database: str) -> AsyncIterator[Listener]:
    listener = Listener(database, worker=4711)
    await listener.start()
    yield listener
    await listener.stop()


class TestPoke:
    async def test_wakes_who_waits_in_this_process_without_a_database(self) -> None:
        with signal(Channel.EVENTS) as there_is_work:
            there_is_work.clear()
            poke(Channel.EVENTS)
            assert there_is_work.is_set()

    async def test_rings_in_other_processes(self, listener: Listener, other: OtherProcess) -> None:
        poke(Channel.DELIVERIES)
        poke(Channel.STREAM)
        await other.hears(Channel.DELIVERIES, Channel.STREAM)

    async def test_many_times_rings_few_times(self, listener: Listener, other: OtherProcess) -> None:
        other.heard.clear()
        for _ in range(1_000):
            poke(Channel.EVENTS)
        await other.hears(Channel.EVENTS)
        assert len(other.heard) < 20

    async def test_from_another_process_wakes_who_waits_here(self, listener: Listener, other: OtherProcess) -> None:
        with signal(Channel.CONFIG) as changed:
            changed.clear()
            await other.connection.execute(f"notify {Channel.CONFIG}")
            async with asyncio.timeout(LONG_S):
                await changed.wait()


class TestTransactions:
    async def test_send_no_notification_themselves(self, database: str, other: OtherProcess) -> None:
        # Nobody rings here, for no listener runs: whatever were heard, a commit would have sent.
        async with transaction():
            await execute("insert into core.site (site_id, name, created_at) values ('a', 'A', now())")
            await execute(
                "insert into core.event (event_id, event_type, module, site_id, subject, time, data, schema_version, "
                "correlation_id, actor_id) values ($1, 'PM_X', 'pm', 'a', 'x', now(), '{}', 1, 'c', 'u')",
                uuid7(),
            )
            on_commit(lambda: poke(Channel.EVENTS))
        await other.connection.execute(f"notify {Channel.STREAM}")
        await other.hears(Channel.STREAM)
        assert other.heard == [Channel.STREAM.value]

    async def test_that_are_rolled_back_ring_nowhere(self, database: str) -> None:
        with signal(Channel.EVENTS) as there_is_work:
            there_is_work.clear()
            with pytest.raises(ZeroDivisionError):
                async with transaction():
                    on_commit(lambda: poke(Channel.EVENTS))
                    raise ZeroDivisionError
            assert not there_is_work.is_set()

    async def test_ring_after_the_commit_and_not_before(self, database: str) -> None:
        with signal(Channel.EVENTS) as there_is_work:
            there_is_work.clear()
            async with transaction():
                on_commit(lambda: poke(Channel.EVENTS))
                assert not there_is_work.is_set()
            assert there_is_work.is_set()


class TestListener:
    async def test_that_loses_its_connection_comes_back_and_counts_every_bell_as_rung(
        self, database: str, listener: Listener
    ) -> None:
        with signal(Channel.EVENTS) as there_is_work, signal(Channel.CONFIG) as changed:
            there_is_work.clear()
            changed.clear()
            ended = await fetchval(
                "select count(pg_terminate_backend(pid)) from pg_locks "
                "where locktype = 'advisory' and objid = 4711 and granted"
            )
            assert ended == 1
            async with asyncio.timeout(LONG_S):
                await there_is_work.wait()
                await changed.wait()

    async def test_holds_the_lock_of_its_process_while_it_stands(self, database: str) -> None:
        held = "select count(*) from pg_locks where locktype = 'advisory' and objid = 99 and granted"
        listener = Listener(database, worker=99)
        await listener.start()
        assert await fetchval(held) == 1
        await listener.stop()
        async with asyncio.timeout(LONG_S):
            while await fetchval(held):
                await asyncio.sleep(0.01)
