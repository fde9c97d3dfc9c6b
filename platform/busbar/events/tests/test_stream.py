"""The live stream behind a real server: nothing missed, nothing twice, nothing that the reader may not see."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest

from busbar.db import execute, fetchval, spawn, transaction
from busbar.events.relay import Relay
from busbar.events.stream import EventStream
from busbar.events.tests.facts import NEWS, OTHER, a_relay, an_actor, tell
from busbar.events.tests.served import Reader, Signed, browser, make_app, serving

pytestmark = pytest.mark.usefixtures("database")


@asynccontextmanager
async def following(signed: Signed | None = None, **options: float) -> AsyncIterator[tuple[str, EventStream]]:
    """The stream, served; gives its address and itself."""
    stream = EventStream(**options)  # type: ignore[arg-type]
    tailer = spawn(stream.run(), name="tailer", pool="background")
    async with serving(make_app(stream, signed or Signed())) as base:
        yield base, stream
        tailer.cancel()
        await asyncio.wait([tailer])


async def relayed(relay: Relay | None = None) -> None:
    relay = relay or a_relay()
    while await relay.move_batch() != 0:
        pass


async def has_clients(stream: EventStream, count: int) -> None:
    """Wait until so many streams are open."""
    async with asyncio.timeout(30):
        while stream.clients != count:
            await asyncio.sleep(0.01)


async def take(reader: Reader, count: int, query: str = "") -> list[int]:
    """The positions of the next `count` events."""
    positions: list[int] = []
    async with asyncio.timeout(30):
        async for told in reader.events(query):
            positions.append(told.position)
            if len(positions) == count:
                break
    return positions


async def all_told(reader: Reader, query: str = "") -> list[int]:
    """The positions of everything until the server ends the stream."""
    async with asyncio.timeout(30):
        return [told.position async for told in reader.events(query)]


class TestLive:
    async def test_tells_of_an_event_as_a_cloud_event_with_its_position(self) -> None:
        async with following() as (base, stream), browser() as session:
            reader = Reader(base, session)
            events = reader.events()
            first = spawn(anext(events), name="first")  # type: ignore[arg-type]
            await has_clients(stream, 1)
            await tell(4, subject="S-4", correlation_id="c-4")
            await relayed()
            told = await first
            await events.aclose()
        assert (told.position, told.event_type) == (1, "TST_FACT")
        assert told.data["specversion"] == "1.0"
        assert told.data["source"] == "/busbar/north/tst"
        assert (told.data["subject"], told.data["correlationid"]) == ("S-4", "c-4")
        assert told.data["data"] == {"n": 4, "note": ""}
        assert "traceparent" not in told.data

    async def test_starts_now_and_can_resume_from_there_even_if_nothing_came(self) -> None:
        await tell(1)
        await relayed()
        async with following(heartbeat_s=0.05) as (base, _), browser() as session:
            reader = Reader(base, session)
            task = spawn(take(reader, 1), name="idle")
            async with asyncio.timeout(30):
                while reader.comments < 2:
                    await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.wait([task])
            assert reader.last_id == "1"
            await tell(2)
            await relayed()
            assert await take(reader, 1) == [2]

    async def test_shows_only_what_the_reader_may_see_and_asked_for(self) -> None:
        reader_of_north = an_actor(sites=("north",), permissions=("events.read", "tst.read"))
        async with following(Signed(reader_of_north)) as (base, _), browser() as session:
            await tell(1, site="north")
            await tell(2, site="south")
            await tell(3, site="north", event_type=OTHER)
            await tell(4, site="north", event_type=NEWS)
            await tell(5, site="north")
            await relayed()
            assert await take(Reader(base, session), 3, "?after=0") == [1, 4, 5]
            assert await take(Reader(base, session), 1, "?after=0&type=TST_NEWS") == [4]

    async def test_refuses_a_last_event_id_that_is_no_position(self) -> None:
        async with following() as (base, _), browser() as session:
            reader = Reader(base, session, last_id="yesterday")
            assert await all_told(reader) == []
            assert reader.status == 400


class TestResume:
    async def test_tells_everything_after_a_position_from_memory_and_from_the_database(self) -> None:
        for n in range(30):
            await tell(n, subject=f"S-{n}")
        await relayed()
        async with following(kept_events_max=5) as (base, _), browser() as session:
            for n in range(30, 60):
                await tell(n, subject=f"S-{n}")
            await relayed()
            assert await take(Reader(base, session, last_id="10"), 50) == list(range(11, 61))
            assert await take(Reader(base, session, last_id="57"), 3) == [58, 59, 60]

    async def test_misses_nothing_and_repeats_nothing_while_writers_commit_late_and_clients_come_and_go(self) -> None:
        """Writers hold their transactions open and commit in any order; readers leave after a few events."""
        rng = random.Random(11)
        total, readers = 150, 3
        relays = [spawn(a_relay().run(), name=f"relay-{n}", pool="background") for n in range(2)]

        async def write(n: int) -> None:
            async with transaction():
                await tell(n, subject=f"S-{n}")
                for _ in range(rng.randrange(4)):
                    await fetchval("select 1")

        async def read(base: str) -> list[int]:
            seen: list[int] = []
            async with browser() as session:
                reader = Reader(base, session, last_id="0")
                while len(seen) < total:
                    seen.extend(await take(reader, min(rng.randrange(1, 40), total - len(seen))))
            return seen

        async with following(kept_events_max=20) as (base, _):
            reading = [spawn(read(base), name=f"reader-{n}") for n in range(readers)]
            for first in range(0, total, 5):
                await asyncio.gather(*(spawn(write(first + n), name=f"writer-{n}") for n in range(5)))
            async with asyncio.timeout(20):
                seen = await asyncio.gather(*reading)
        for task in relays:
            task.cancel()
        await asyncio.wait(relays)
        assert seen == [list(range(1, total + 1))] * readers


class TestEnd:
    async def test_comes_with_the_token(self) -> None:
        async with following(Signed(token_s=0.2)) as (base, stream), browser() as session:
            await tell(1)
            await relayed()
            reader = Reader(base, session, last_id="0")
            assert await all_told(reader) == [1]
            await has_clients(stream, 0)

    async def test_comes_with_the_stop_of_the_process_and_is_not_waited_for(self) -> None:
        async with following() as (base, stream), browser() as session:
            reader = Reader(base, session)
            reading = spawn(all_told(reader), name="reader")
            await has_clients(stream, 1)
            stream.stop()
            assert await reading == []
            assert reader.status == 200
            late = Reader(base, session)
            assert await all_told(late) == []
            assert late.status == 503

    async def test_of_a_client_that_leaves_frees_its_place(self) -> None:
        async with following(clients_max=1) as (base, stream), browser() as session:
            await tell(1)
            await relayed()
            assert await take(Reader(base, session, last_id="0"), 1) == [1]
            await has_clients(stream, 0)
            assert await take(Reader(base, session, last_id="0"), 1) == [1]

    async def test_is_refused_a_place_beyond_the_limit(self) -> None:
        async with following(clients_max=1) as (base, stream), browser() as session:
            first = spawn(all_told(Reader(base, session)), name="first")
            await has_clients(stream, 1)
            second = Reader(base, session)
            assert await all_told(second) == []
            assert second.status == 503
            stream.stop()
            await first


class TestSlowClient:
    async def test_is_disconnected_while_others_are_told_and_resumes_where_it_was(self) -> None:
        events = 3_000
        async with following(send_s_max=0.3) as (base, stream), browser() as session:
            await tell_many(events)
            await relayed()
            stuck = open_and_never_read(base)
            try:
                async with asyncio.timeout(30):
                    assert await take(Reader(base, session, last_id="0"), events) == list(range(1, events + 1))
                    await has_clients(stream, 0)
                heard = await asyncio.to_thread(read_all, stuck)
            finally:
                stuck.close()
            last = last_whole_id(heard)
            assert 0 < last < events, "the client was cut off in the middle"
            rest = await take(Reader(base, session, last_id=str(last)), events - last)
            assert rest == list(range(last + 1, events + 1))


async def tell_many(count: int) -> None:
    await execute(
        "insert into core.event (event_id, event_type, module, site_id, subject, time, data, correlation_id, actor_id) "
        "select gen_random_uuid(), 'TST_FACT', 'tst', 'north', 'S-' || n, now(), "
        "jsonb_build_object('n', n, 'note', repeat('x', 4000)), 'c', 'u' from generate_series(1, $1) n",
        count,
    )


def open_and_never_read(base: str) -> socket.socket:
    """A connection that asks for the stream from the start and takes nothing."""
    address = urlsplit(base)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    connection.connect((address.hostname, address.port))
    connection.sendall(b"GET /api/v1/events/stream HTTP/1.1\r\nHost: test\r\nLast-Event-ID: 0\r\n\r\n")
    return connection


def read_all(connection: socket.socket) -> bytes:
    """What had reached the client when it was cut off."""
    connection.settimeout(5)
    pieces = []
    while piece := connection.recv(65536):
        pieces.append(piece)
    return b"".join(pieces)


def last_whole_id(heard: bytes) -> int:
    """The id of the last event that arrived whole; the lengths of chunks stand between the lines."""
    whole, _, _ = heard.rpartition(b"}\n\n")
    ids = [line for line in whole.split(b"\n") if line.startswith(b"id: ")]
    return int(ids[-1].removeprefix(b"id: "))
