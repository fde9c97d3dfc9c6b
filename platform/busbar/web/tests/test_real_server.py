"""The wrapper under a real server on a real socket: callers that leave, endless bodies, connections that end."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
import uvicorn

from busbar.observability.tests.conftest import Lines
from busbar.web.limits import Limits
from busbar.web.tests.small_app import SmallApp


class Served:
    """A running server."""

    def __init__(self, small_app: SmallApp, server: uvicorn.Server) -> None:
        self.small_app = small_app
        self.port: int = server.servers[0].sockets[0].getsockname()[1]

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def exchange(self, request: bytes) -> bytes:
        """What the server says until it closes the connection."""
        reader, writer = await self.connect()
        writer.write(request)
        async with asyncio.timeout(30):
            answer = await reader.read()
        writer.close()
        return answer


@contextlib.asynccontextmanager
async def serving(small_app: SmallApp) -> AsyncIterator[Served]:
    server = uvicorn.Server(uvicorn.Config(small_app.edge, port=0, log_config=None, lifespan="off"))  # type: ignore[arg-type]
    with contextlib.ExitStack() as stack:
        # The signal handlers of the test run stay as they are.
        stack.enter_context(pytest.MonkeyPatch.context()).setattr(server, "capture_signals", contextlib.nullcontext)
        task = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        try:
            yield Served(small_app, server)
        finally:
            server.should_exit = True
            await task


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving(SmallApp(limits=Limits(body_bytes_max=1_000, body_seconds_max=0.2))) as running:
        yield running


async def until_idle(small_app: SmallApp) -> None:
    async with asyncio.timeout(30):
        while small_app.edge.requests_in_flight:
            await asyncio.sleep(0.01)


class TestBodyOnTheWire:
    async def test_that_is_announced_too_large_is_refused_unread(self, served: Served) -> None:
        answer = await served.exchange(
            b"POST /assets HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n"
        )
        assert answer.startswith(b"HTTP/1.1 413")
        assert b"x-correlation-id: " in answer

    async def test_that_never_ends_is_refused_at_the_limit(self, served: Served) -> None:
        chunk = b"200\r\n" + b" " * 0x200 + b"\r\n"
        answer = await served.exchange(
            b"POST /assets HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 3
        )
        assert answer.startswith(b"HTTP/1.1 413")

    async def test_that_stops_arriving_is_given_up(self, served: Served) -> None:
        answer = await served.exchange(
            b"POST /assets HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
        )
        assert answer.startswith(b"HTTP/1.1 408")
        assert served.small_app.edge.requests_in_flight == 0


class TestCallerThatLeaves:
    async def test_in_the_middle_of_the_body_is_nobodys_fault(self, log_lines: Lines) -> None:
        small_app = SmallApp()
        async with serving(small_app) as served:
            _reader, writer = await served.connect()
            writer.write(
                b"POST /assets HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
            )
            await writer.drain()
            async with asyncio.timeout(30):
                while not small_app.edge.requests_in_flight:
                    await asyncio.sleep(0.01)
            writer.close()
            await until_idle(small_app)
        (line,) = [line for line in log_lines() if line["event"] == "request"]
        assert (line["status"], line["log_level"]) == (499, "INFO")
        assert small_app.metrics.error_rate() == 0

    async def test_while_the_answer_is_made_frees_the_place(self) -> None:
        small_app = SmallApp()
        async with serving(small_app) as served:
            _reader, writer = await served.connect()
            writer.write(b"GET /held HTTP/1.1\r\nHost: x\r\n\r\n")
            await small_app.gates.inside.wait()
            writer.close()
            small_app.gates.go_on.set()
            await until_idle(small_app)


class TestDraining:
    async def test_ends_the_connection_after_the_answer(self) -> None:
        small_app = SmallApp()
        async with serving(small_app) as served:
            small_app.health.lifecycle.drain()
            answer = await served.exchange(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"connection: close" in answer
