"""One AMQP connection, from its opening until it is lost; supervision is the caller's.

Plain connections, not aio-pika's robust ones: those give consumers up in silence after long outages (LESSONS B2). Here
whatever goes wrong with the connection or its first channel ends the link, and a new one starts clean.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import aio_pika
import aiormq
import structlog
from aio_pika.connection import make_url
from aiormq.exceptions import AMQPError, ChannelInvalidStateError

from busbar.bus.topology import EXCHANGES, STATIC_QUEUES, Queue

log = structlog.get_logger()

CONNECT_S: Final = 5.0
HEARTBEAT_S: Final = 10
CLOSE_S: Final = 2.0
RPC_S: Final = 5.0
"""So long the broker may take to declare a queue, or to answer anything else but a publish."""

LINK_TROUBLE: Final = (AMQPError, ChannelInvalidStateError, OSError, TimeoutError, asyncio.InvalidStateError)
"""How it shows that the broker cannot be reached, or ends what was begun."""


class BrokerAddress:
    """Where the broker is, and how to prove who we are and whom we talk to."""

    def __init__(self, url: str, *, ca_file: Path | None = None) -> None:
        self.url = url
        self._ca_file = ca_file
        parts = urlsplit(url)
        self.shown = f"{parts.scheme}://{parts.hostname}:{parts.port or (5671 if parts.scheme == 'amqps' else 5672)}"
        """Without user and password."""

    def tls(self) -> ssl.SSLContext | None:
        """How TLS is verified, for an `amqps` address. Raises OSError when the CA file cannot be read."""
        if not self.url.startswith("amqps:"):
            return None
        return ssl.create_default_context(cafile=None if self._ca_file is None else str(self._ca_file))


class Link:
    """A connection that stands, and its first channel."""

    def __init__(self, connection: aio_pika.abc.AbstractConnection, channel: aiormq.Channel) -> None:
        self.channel = channel
        self._connection = connection
        self._lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def lose(self, reason: str) -> None:
        """The link is not to be trusted any more."""
        if not self._lost.done():
            self._lost.set_result(reason)

    @property
    def stands(self) -> bool:
        """Whether nothing is known against it."""
        return not self._lost.done()

    async def lost(self) -> str:
        """Wait for the end; the reason."""
        return await asyncio.shield(self._lost)

    async def declare_static(self) -> None:
        """The exchanges, and the queues that are there whatever is configured."""
        for name, kind in EXCHANGES.items():
            await self.channel.exchange_declare(name, exchange_type=kind, durable=True, timeout=RPC_S)
        for queue in STATIC_QUEUES:
            await declare(self.channel, queue)

    @asynccontextmanager
    async def another_channel(self) -> AsyncIterator[aiormq.Channel]:
        """A channel that is closed when the block fails: what ends it harms no other."""
        try:
            opened = self._connection.channel(publisher_confirms=False)
            await opened.initialize(timeout=RPC_S)
        except RuntimeError as error:  # so the client library calls a connection that was closed a moment ago
            self.lose(f"no channel could be opened: {error!r}")
            raise ConnectionResetError(str(error)) from error
        channel = await opened.get_underlay_channel()
        assert isinstance(channel, aiormq.Channel)
        try:
            yield channel
        except BaseException:
            await close_channel(channel)
            raise


async def declare(channel: aiormq.Channel, queue: Queue) -> None:
    """A durable queue and its bindings; nothing happens where they are as they should be."""
    await channel.queue_declare(queue.name, durable=True, arguments=dict(queue.arguments), timeout=RPC_S)
    for binding in queue.bindings:
        await channel.queue_bind(queue.name, binding.exchange, binding.key, timeout=RPC_S)


async def close_channel(channel: aiormq.Channel) -> None:
    """Close it if it can be closed."""
    try:
        async with asyncio.timeout(CLOSE_S):
            await channel.close()
    except LINK_TROUBLE as error:
        log.debug("channel_not_closed_politely", error=repr(error))


@asynccontextmanager
async def open_link(address: BrokerAddress, *, name: str) -> AsyncIterator[Link]:
    """A link for the time of the block. Raises one of `LINK_TROUBLE`."""
    connection = aio_pika.Connection(make_url(address.url, heartbeat=HEARTBEAT_S, name=name), ssl_context=address.tls())
    try:
        async with asyncio.timeout(2 * CONNECT_S):
            await _connect(connection)
            opened = connection.channel(publisher_confirms=True, on_return_raises=True)
            await opened.initialize(timeout=CONNECT_S)
            channel = await opened.get_underlay_channel()
            assert isinstance(channel, aiormq.Channel)
        link = Link(connection, channel)

        def closed(_: Any, error: BaseException | None = None) -> None:
            link.lose(f"the broker closed it: {error}" if error else "it was closed")

        connection.close_callbacks.add(closed)
        opened.close_callbacks.add(closed)
        yield link
    finally:
        try:
            async with asyncio.timeout(CLOSE_S):
                await connection.close()
        except LINK_TROUBLE as error:
            log.debug("link_not_closed_politely", link=name, error=repr(error))


def was_cancelled() -> bool:
    """Whether somebody cancelled this task, after a CancelledError; aiormq cancels what waits on a dying connection."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


async def _connect(connection: aio_pika.Connection) -> None:
    try:
        await connection.connect(timeout=CONNECT_S)
    except StopAsyncIteration:
        # So aiormq says that the other side hung up in the middle of the handshake.
        raise ConnectionResetError("the broker ended the connection while it was being opened") from None
