"""Another peer in Camel's place: it takes what is handed over, does it at the remote, and tells what became of it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import aio_pika
import aiohttp
import msgspec
from aio_pika.abc import AbstractIncomingMessage

from busbar.bus.topology import HANDOVER, OUTCOMES

Answer = dict[str, Any]
Work = Callable[[dict[str, Any]], Awaitable[Answer]]


class Peer:
    """Works on what is handed over to it, one after the other, and keeps what it was given."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.given: list[dict[str, Any]] = []
        """The messages' bodies, in order."""
        self.messages: list[AbstractIncomingMessage] = []
        self.may_go_on = asyncio.Event()
        """Cleared: it takes messages, and does nothing yet."""
        self.may_go_on.set()
        self._outcomes: aio_pika.abc.AbstractExchange | None = None

    async def say(self, body: Answer | bytes, *, times: int = 1) -> None:
        """Send an outcome, or whatever it is."""
        assert self._outcomes is not None
        encoded = body if isinstance(body, bytes) else msgspec.json.encode(body)
        for _ in range(times):
            message = aio_pika.Message(
                encoded, delivery_mode=aio_pika.DeliveryMode.PERSISTENT, headers={"busbar-runner": "camel"}
            )
            await self._outcomes.publish(message, "camel")

    async def _take(self, message: AbstractIncomingMessage) -> None:
        given = msgspec.json.decode(message.body)
        self.given.append(given)
        self.messages.append(message)
        started_at = datetime.now(UTC)
        await self.may_go_on.wait()
        told = await self.work(given)
        await self.say(outcome_of(given, **({"started_at": started_at} | told)))
        await message.ack()


def outcome_of(given: dict[str, Any], **told: Any) -> Answer:
    """An outcome for what was handed over."""
    now = datetime.now(UTC)
    names = {"delivery_id": given["delivery_id"], "attempt": given["attempt"]}
    usual = {"state": "delivered", "remote_id": None, "marker": None, "detail": None, "retry_after_s": None}
    return names | usual | {"started_at": now, "finished_at": now, "tries": 1} | told


def at(url: str, *, token: str) -> Work:
    """Send what is composed to the remote, with credentials of its own."""

    async def work(given: dict[str, Any]) -> Answer:
        composed = given["composed"]
        headers = {"Authorization": f"Bearer {token}"}
        async with (
            aiohttp.ClientSession() as session,
            session.post(url + composed["path"], json=composed["body"], headers=headers) as response,
        ):
            if response.status == 400:
                return {"state": "dead", "detail": "The remote refused it."}
            if response.status == 429:
                after_s = float(response.headers["Retry-After"])
                return {"state": "retrying", "detail": "Too much.", "retry_after_s": after_s, "charge": False}
            if response.status != 200:
                return {"state": "retrying", "detail": f"The remote said {response.status}.", "tries": 3}
            answer = await response.json()
        return {"remote_id": answer["id"], "marker": answer["revision"], "detail": "The record was written."}

    return work


@asynccontextmanager
async def running_peer(url: str, work: Work) -> AsyncIterator[Peer]:
    """A peer that is bound to everything that is handed over, for the time of the block."""
    peer = Peer(work)
    connection = await aio_pika.connect(url)
    try:
        channel = await connection.channel()
        peer._outcomes = await channel.get_exchange(OUTCOMES)
        queue = await channel.declare_queue("busbar.peer.camel", exclusive=True)
        await queue.bind(HANDOVER, "camel.#")
        await queue.consume(peer._take)
        yield peer
    finally:
        with contextlib.suppress(aio_pika.exceptions.AMQPError):
            await connection.close()
