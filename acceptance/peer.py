"""A peer on the bus, as a system of somebody else is one: a queue of its own, bound to every event."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import aio_pika
from aio_pika.abc import AbstractIncomingMessage

NAME = "audit"
PASSWORD = "a ledger of one's own"
QUEUE = f"busbar.peer.{NAME}.all"
EVENTS = "busbar.events"
# Its many failed attempts while a broker is away say nothing, and would fill the report of a test.
logging.getLogger("aiormq").setLevel(logging.CRITICAL)
# Its next connection gets nothing before the broker has taken back what the lost one had.
ARGUMENTS = {"x-queue-type": "quorum", "x-single-active-consumer": True}
EVENT_TYPE = "application/cloudevents+json"
CONNECT_S = 5.0
AGAIN_S = 0.3
TROUBLE = (aio_pika.exceptions.AMQPError, OSError, TimeoutError)


class Peer:
    """What the bus has brought so far: `ids` of events in the order of their first arrival."""

    def __init__(self, urls: Sequence[str]) -> None:
        """`urls` are those of the nodes of a cluster, of which any will do."""
        self._urls = urls
        self.ids: dict[str, None] = {}
        self.again = 0
        """How many messages came that had come before: at least once is what is promised."""
        self.subscribed = asyncio.Event()

    async def follow(self) -> None:
        """Follow until cancelled, through every outage."""
        while True:
            for url in self._urls:
                with suppress(*TROUBLE):
                    await self._once(url)
                self.subscribed.clear()
                await asyncio.sleep(AGAIN_S)

    async def _once(self, url: str) -> None:
        lost = asyncio.Event()
        async with asyncio.timeout(2 * CONNECT_S):
            connection = await aio_pika.connect(url, timeout=CONNECT_S)
            connection.close_callbacks.add(lambda *_: lost.set())
        try:
            async with asyncio.timeout(2 * CONNECT_S):
                channel = await connection.channel()
                channel.close_callbacks.add(lambda *_: lost.set())
                await channel.set_qos(prefetch_count=200)
                queue = await channel.declare_queue(QUEUE, durable=True, arguments=ARGUMENTS)
                await queue.bind(EVENTS, "#")
                await queue.consume(self._arrived)
            self.subscribed.set()
            await lost.wait()
        finally:
            with suppress(*TROUBLE):
                async with asyncio.timeout(CONNECT_S):
                    await connection.close()

    async def _arrived(self, message: AbstractIncomingMessage) -> None:
        assert message.message_id is not None
        if message.content_type == EVENT_TYPE:
            self.again += message.message_id in self.ids
            self.ids.setdefault(message.message_id)
        with suppress(*TROUBLE):  # it comes again then
            await message.ack()


@asynccontextmanager
async def listening(*urls: str) -> AsyncIterator[Peer]:
    """A peer that follows the bus for the time of the block, and is subscribed at its begin."""
    peer = Peer(urls)
    task = asyncio.create_task(peer.follow())
    try:
        async with asyncio.timeout(30):
            await peer.subscribed.wait()
        yield peer
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
