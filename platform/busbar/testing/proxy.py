"""A TCP proxy that misbehaves on request, for links that fail in ways in which no server would.

In a test's own loop: `async with fault_proxy(port) as proxy`. As a process of its own: `python -m busbar.testing.proxy
PORT` prints `{"port": …}`, and each line of input, `{"mode": "half-open"}`, switches it; it ends with its input.
"""

import asyncio
import contextlib
import enum
import socket
import struct
import sys
from collections.abc import AsyncIterator

import msgspec

CHUNK_BYTES = 65_536
LOOPBACK = "127.0.0.1"


class Mode(enum.Enum):
    """How the proxy behaves, to links that stand and to new ones."""

    PASS = "pass"
    DELAY = "delay"
    """Whatever is sent arrives later, in both directions."""
    HALF_OPEN = "half-open"
    """Connections are accepted and stay open, but nothing arrives, in either direction; nor does an end. A link that
    has lost something this way stays dead when the mode changes, as it would."""
    RESET = "reset"
    """Links are ended by a reset, new ones at once."""
    REFUSE = "refuse"
    """Nobody listens; links that stand are reset."""


class _Link:
    """A client's connection and, unless nothing would get there, one to the target."""

    def __init__(self, client: asyncio.StreamWriter) -> None:
        self.writers = [client]
        self.dead = False

    def reset(self) -> None:
        for writer in self.writers:
            # A linger of zero seconds makes a close a reset.
            with contextlib.suppress(OSError):  # it may be closed already
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()


class FaultProxy:
    """Passes TCP connections to `port` of the loopback address on, or does not; `fault_proxy` makes one."""

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.port = 0
        """Where clients connect to; it stays the same in every mode."""
        self.mode = Mode.PASS
        self.delay_s = 0.0
        self._links: set[_Link] = set()
        self._server: asyncio.Server | None = None

    @property
    def links(self) -> int:
        """How many connections of clients are open."""
        return len(self._links)

    async def switch(self, mode: Mode, *, delay_s: float = 0.5) -> None:
        """Behave like this from now on; `delay_s` matters for `Mode.DELAY` only."""
        self.mode, self.delay_s = mode, delay_s
        if mode is Mode.REFUSE:
            self._stop_listening()
        elif self._server is None:
            await self.listen()
        if mode in (Mode.RESET, Mode.REFUSE):
            self._reset_all()

    async def listen(self) -> None:
        """Take connections."""
        self._server = await asyncio.start_server(self._serve, LOOPBACK, self.port, reuse_address=True)
        self.port = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        """End every link, and listen no more."""
        self._stop_listening()
        self._reset_all()

    def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _reset_all(self) -> None:
        for link in tuple(self._links):
            link.reset()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(writer)
        if self.mode in (Mode.RESET, Mode.REFUSE):
            link.reset()
            return
        self._links.add(link)
        try:
            # Resets and broken pipes are how links end here.
            with contextlib.suppress(OSError):
                await self._carry(link, reader, writer)
        finally:
            self._links.discard(link)
            for each in link.writers:
                each.close()

    async def _carry(self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.mode is Mode.HALF_OPEN:
            link.dead = True
            await self._pump(link, reader, writer)
            return
        there_reader, there_writer = await asyncio.open_connection(LOOPBACK, self.target_port)
        link.writers.append(there_writer)
        await asyncio.gather(self._pump(link, reader, there_writer), self._pump(link, there_reader, writer))

    async def _pump(self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry bytes one way until they end; on a dead link, swallow them, and say nothing of an end or a reset."""
        try:
            while data := await reader.read(CHUNK_BYTES):
                if self.mode is Mode.DELAY:
                    await asyncio.sleep(self.delay_s)
                if not self._is_dead(link):
                    writer.write(data)
                    await writer.drain()
        except OSError:
            if not self._is_dead(link):
                raise
        if not self._is_dead(link):
            writer.close()

    def _is_dead(self, link: _Link) -> bool:
        link.dead = link.dead or self.mode is Mode.HALF_OPEN
        return link.dead


@contextlib.asynccontextmanager
async def fault_proxy(target_port: int) -> AsyncIterator[FaultProxy]:
    """A proxy in this loop for the time of the block."""
    proxy = FaultProxy(target_port)
    await proxy.listen()
    try:
        yield proxy
    finally:
        proxy.close()


class _Request(msgspec.Struct, frozen=True):
    mode: Mode
    delay_s: float = 0.5


async def serve(target_port: int) -> None:
    """Run a proxy that is switched by standard input, until that ends."""
    async with fault_proxy(target_port) as proxy:
        _say({"port": proxy.port})
        while line := await asyncio.to_thread(sys.stdin.readline):
            request = msgspec.json.decode(line, type=_Request)
            await proxy.switch(request.mode, delay_s=request.delay_s)
            _say({"mode": request.mode})


def _say(answer: dict[str, object]) -> None:
    sys.stdout.write(msgspec.json.encode(answer).decode() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
