"""The fault proxy fails as it is told to, and only so."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator

import pytest

from busbar.testing.proxy import FaultProxy, Mode, fault_proxy

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Echo:
    """A server that sends back what it gets, and counts the connections that it has seen."""

    def __init__(self) -> None:
        self.port = self.seen = 0
        self._writers: list[asyncio.StreamWriter] = []

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.seen += 1
        self._writers.append(writer)
        try:
            while data := await reader.read(1000):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    def hang_up(self) -> None:
        for writer in self._writers:
            writer.transport.abort()


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    echo = Echo()
    server = await asyncio.start_server(echo.answer, "127.0.0.1", 0)
    echo.port = server.sockets[0].getsockname()[1]
    yield echo
    server.close()


@pytest.fixture
async def proxy(echo: Echo) -> AsyncIterator[FaultProxy]:
    async with fault_proxy(echo.port) as proxy:
        yield proxy


async def connect(proxy: FaultProxy) -> Streams:
    return await asyncio.open_connection("127.0.0.1", proxy.port)


async def ask(streams: Streams, text: bytes) -> bytes:
    reader, writer = streams
    writer.write(text)
    return await asyncio.wait_for(reader.read(1000), 5)


async def is_silent(streams: Streams) -> bool:
    """Whether the link stays open and nothing comes back."""
    reader, writer = streams
    writer.write(b"anybody there?")
    try:
        await asyncio.wait_for(reader.read(1000), 0.2)
    except TimeoutError:
        return not writer.is_closing()
    return False


async def is_cut(proxy: FaultProxy) -> bool:
    """Whether a new link ends without an answer, be it before or after it is asked."""
    try:
        return await ask(await connect(proxy), b"hello") == b""
    except ConnectionError:
        return True


class TestPass:
    async def test_carries_both_ways_and_ends_with_either_end(self, proxy: FaultProxy) -> None:
        streams = await connect(proxy)
        assert await ask(streams, b"hello") == b"hello"
        assert proxy.links == 1
        streams[1].close()
        async with asyncio.timeout(5):
            while proxy.links:
                await asyncio.sleep(0.01)


class TestDelay:
    async def test_carries_later(self, proxy: FaultProxy) -> None:
        streams = await connect(proxy)
        await proxy.switch(Mode.DELAY, delay_s=0.1)
        began = time.monotonic()
        assert await ask(streams, b"hello") == b"hello"
        assert time.monotonic() - began >= 0.2  # once there, once back


class TestHalfOpen:
    async def test_a_link_that_stands_goes_silent_and_is_not_closed(self, proxy: FaultProxy) -> None:
        streams = await connect(proxy)
        await ask(streams, b"hello")
        await proxy.switch(Mode.HALF_OPEN)
        assert await is_silent(streams)

    async def test_a_new_one_is_accepted_and_reaches_nobody(self, proxy: FaultProxy, echo: Echo) -> None:
        await proxy.switch(Mode.HALF_OPEN)
        assert await is_silent(await connect(proxy))
        assert echo.seen == 0

    async def test_the_other_end_hanging_up_is_not_told_either(self, proxy: FaultProxy, echo: Echo) -> None:
        streams = await connect(proxy)
        await ask(streams, b"hello")
        await proxy.switch(Mode.HALF_OPEN)
        echo.hang_up()
        assert await is_silent(streams)

    async def test_a_link_that_lost_bytes_stays_dead_and_a_new_one_lives(self, proxy: FaultProxy) -> None:
        streams = await connect(proxy)
        await ask(streams, b"hello")
        await proxy.switch(Mode.HALF_OPEN)
        assert await is_silent(streams)
        await proxy.switch(Mode.PASS)
        assert await is_silent(streams)
        assert await ask(await connect(proxy), b"again") == b"again"


class TestReset:
    async def test_links_end_at_once_also_new_ones(self, proxy: FaultProxy, echo: Echo) -> None:
        streams = await connect(proxy)
        await ask(streams, b"hello")
        await proxy.switch(Mode.RESET)
        with pytest.raises(ConnectionResetError):
            await ask(streams, b"hello")
        assert await is_cut(proxy)
        assert echo.seen == 1


class TestRefuse:
    async def test_nobody_listens_until_it_passes_again_at_the_same_port(self, proxy: FaultProxy) -> None:
        streams = await connect(proxy)
        await ask(streams, b"hello")
        port = proxy.port
        await proxy.switch(Mode.REFUSE)
        with pytest.raises(ConnectionResetError):
            await ask(streams, b"hello")
        with pytest.raises(ConnectionRefusedError):
            await connect(proxy)
        await proxy.switch(Mode.PASS)
        assert proxy.port == port
        assert await ask(await connect(proxy), b"back") == b"back"


class TestProcess:
    async def test_is_switched_by_lines_of_json(self, echo: Echo) -> None:
        process = subprocess.Popen(
            [sys.executable, "-m", "busbar.testing.proxy", str(echo.port)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            port = json.loads(await asyncio.to_thread(process.stdout.readline))["port"]
            assert await ask(await asyncio.open_connection("127.0.0.1", port), b"hello") == b"hello"
            process.stdin.write('{"mode": "refuse"}\n')
            process.stdin.flush()
            assert json.loads(await asyncio.to_thread(process.stdout.readline)) == {"mode": "refuse"}
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", port)
        finally:
            process.stdin.close()
            assert await asyncio.to_thread(process.wait, 10) == 0
