"""What this process consumes: each queue on a channel of its own, so that trouble with one harms no other.

Liveness of the link is a canary: a message that must come back through it (LESSONS B2). A consumer that the broker
cancels, whose channel it closes, or that `renew` is told of, is begun anew. A queue that cannot be consumed, as one
that has lost its leader for good, would also keep the confirms of every event waiting: it is removed and made anew, for
the ledger has what was in it.
"""

import asyncio
import contextlib
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Final

import aiormq
import msgspec
import structlog
from aiormq.abc import DeliveredMessage
from aiormq.exceptions import ChannelNotFoundEntity

from busbar.bus.acknowledge import Acknowledger
from busbar.bus.broker_metrics import bus_refused
from busbar.bus.link import LINK_TROUBLE, RPC_S, Link, close_channel, declare
from busbar.bus.topology import CANARY, Queue
from busbar.db import end_tasks, spawn

log = structlog.get_logger()

CANARY_S: Final = 5.0
"""A canary is sent so often, and must be back within as long again."""
REQUEUE_S: Final = 1.0
"""A message whose handler failed goes back to its queue after so long."""
AGAIN_S: Final = 5.0
"""A queue that could not be consumed is tried again after so long."""
FAILURES_MAX: Final = 2
"""A queue that could not be consumed so often in a row is removed."""


class Refused(Exception):
    """A consumed message cannot be taken, now or later: to the dead letters with it."""


class Incoming(msgspec.Struct, frozen=True, kw_only=True):
    """A message that was consumed."""

    queue: str
    body: bytes
    headers: Mapping[str, Any]
    message_id: str
    routing_key: str
    redelivered: bool


Handle = Callable[[Incoming], Awaitable[None]]
"""Returns: acknowledged. Raises Refused: dead-lettered. Raises anything else: requeued after `REQUEUE_S`."""


class _Wanted(msgspec.Struct, frozen=True):
    queue: Queue
    handle: Handle
    prefetch: int


class _Running(msgspec.Struct, frozen=True):
    wanted: _Wanted
    channel: aiormq.Channel


class Consumers:
    """The consumers of this process; `serve` keeps them on a link.

    `send_canary` publishes an empty message to `topology.CANARY` with this routing key; it returns whether a queue took
    it, or None when nobody can say.
    """

    def __init__(self, send_canary: Callable[[str], Awaitable[bool | None]]) -> None:
        self.link: Link | None = None
        self._send_canary = send_canary
        self._wanted: dict[str, _Wanted] = {}
        self._running: dict[str, _Running] = {}
        self._forgotten: set[str] = set()
        self._ended: list[aiormq.Channel] = []
        self._failures: Counter[str] = Counter()
        self._again_s: dict[str, float] = {}
        self._changed = asyncio.Event()
        self._canary: asyncio.Future[None] | None = None

    @property
    def consuming(self) -> frozenset[str]:
        """The queues whose messages come now."""
        return frozenset(self._running)

    @property
    def queues(self) -> list[Queue]:
        """The queues that should be there."""
        return [wanted.queue for wanted in self._wanted.values()]

    def want(self, queue: Queue, handle: Handle, *, prefetch: int) -> None:
        """Declare the queue and consume it from now on; once more with other bindings changes these."""
        self._wanted[queue.name] = _Wanted(queue, handle, prefetch)
        self._forgotten.discard(queue.name)
        self._changed.set()

    def forget(self, queue_name: str) -> None:
        """Consume it no more, and delete it."""
        if self._wanted.pop(queue_name, None) is not None:
            self._forgotten.add(queue_name)
            self._changed.set()

    def renew(self, queue_name: str) -> None:
        """Begin its consumer anew: nothing comes, though something should."""
        if (running := self._running.pop(queue_name, None)) is not None:
            self._ended.append(running.channel)
            self._changed.set()

    async def serve(self, link: Link) -> None:
        """Consume over this link until it is lost. Raises one of `LINK_TROUBLE`."""
        self.link = link
        canary = await self._hatch(link)
        lost = spawn(link.lost(), name="broker-lost")
        try:
            while link.stands:
                self._changed.clear()
                await self._apply(link)
                changed = spawn(self._changed.wait(), name="consumers-changed")
                await asyncio.wait({lost, changed}, timeout=CANARY_S, return_when=asyncio.FIRST_COMPLETED)
                await end_tasks(changed)
                if link.stands and not self._changed.is_set():
                    await self._sing(link, canary)
        finally:
            self._running.clear()
            self._ended.clear()
            await end_tasks(lost)

    async def _apply(self, link: Link) -> None:
        """Make the consumers of this link those that are wanted."""
        for name in [name for name in self._running if name not in self._wanted]:
            self.renew(name)
        while self._ended:
            await close_channel(self._ended.pop())
        while self._forgotten:
            name = self._forgotten.pop()
            with contextlib.suppress(ChannelNotFoundEntity):
                await self._remove(link, name, ())
        now_s = asyncio.get_running_loop().time()
        for name, wanted in list(self._wanted.items()):
            running = self._running.get(name)
            if running is not None and running.wanted.queue != wanted.queue:
                await self._rebind(link, running, wanted)
            elif running is None and self._again_s.get(name, 0.0) <= now_s:
                await self._begin_or_note(link, wanted)

    async def _begin_or_note(self, link: Link, wanted: _Wanted) -> None:
        name = wanted.queue.name
        if self._failures[name] >= FAILURES_MAX:
            log.error("queue_removed", queue=name, reason="it cannot be consumed; it is made anew")
            self._failures[name] = 0
            await self._remove(link, name, wanted.queue.bindings)
        try:
            await self._begin(link, wanted)
            self._failures[name] = 0
        except LINK_TROUBLE as error:
            # Noted also when it took the whole link with it, or it would do so for ever.
            self._failures[name] += 1
            self._again_s[name] = asyncio.get_running_loop().time() + AGAIN_S
            log.warning("queue_not_consumed", queue=name, error=repr(error), again_in_s=AGAIN_S)
            if not link.stands:
                raise

    async def _begin(self, link: Link, wanted: _Wanted) -> None:
        name = wanted.queue.name
        async with link.another_channel() as channel:
            await declare(channel, wanted.queue)
            await channel.basic_qos(prefetch_count=wanted.prefetch, timeout=RPC_S)

            def ended(*_: Any) -> None:
                if (running := self._running.get(name)) is not None and running.channel is channel:
                    log.warning("consumer_ended", queue=name)
                    self.renew(name)

            channel.on_consumer_cancel_callbacks.add(ended)
            channel.closing.add_done_callback(ended)
            await channel.basic_consume(name, _callback(channel, wanted), timeout=RPC_S)
            self._running[name] = _Running(wanted, channel)

    async def _rebind(self, link: Link, running: _Running, wanted: _Wanted) -> None:
        name = wanted.queue.name
        async with link.another_channel() as channel:
            await declare(channel, wanted.queue)
            for binding in set(running.wanted.queue.bindings) - set(wanted.queue.bindings):
                await channel.queue_unbind(name, binding.exchange, binding.key, timeout=RPC_S)
        await close_channel(channel)
        self._running[name] = _Running(wanted, running.channel)

    async def _remove(self, link: Link, name: str, bindings: tuple[Any, ...]) -> None:
        """Delete a queue; its bindings first, which goes without its leader, and frees the confirms."""
        try:
            async with link.another_channel() as channel:
                for binding in bindings:
                    await channel.queue_unbind(name, binding.exchange, binding.key, timeout=RPC_S)
                await channel.queue_delete(name, timeout=RPC_S)
            await close_channel(channel)
        except ChannelNotFoundEntity:
            raise
        except LINK_TROUBLE as error:
            if not link.stands:
                raise
            log.warning("queue_not_deleted", queue=name, error=repr(error))

    async def _hatch(self, link: Link) -> str:
        """A queue that dies with this link, and a consumer that says when its message is back."""
        name = f"{CANARY}.{secrets.token_hex(8)}"
        await link.channel.queue_declare(name, exclusive=True, auto_delete=True, timeout=RPC_S)
        await link.channel.queue_bind(name, CANARY, name, timeout=RPC_S)

        async def back(message: DeliveredMessage) -> None:
            if self._canary is not None and not self._canary.done():
                self._canary.set_result(None)

        await link.channel.basic_consume(name, back, no_ack=True, timeout=RPC_S)
        return name

    async def _sing(self, link: Link, canary: str) -> None:
        self._canary = asyncio.get_running_loop().create_future()
        taken = await self._send_canary(canary)
        if taken is None:
            return  # It was not sent, which says nothing about the consumers.
        if not taken:
            link.lose("the canary's queue is gone")
            return
        try:
            async with asyncio.timeout(CANARY_S):
                await self._canary
        except TimeoutError:
            link.lose(f"a canary did not come back within {CANARY_S:g} s")


def _callback(channel: aiormq.Channel, wanted: _Wanted) -> Callable[[DeliveredMessage], Coroutine[Any, Any, None]]:
    """Our own policy of acknowledgement: aio-pika's would reject without requeue, also on a stop (LESSONS B1)."""
    acknowledger = Acknowledger(channel, queue=wanted.queue.name)

    async def arrived(message: DeliveredMessage) -> None:
        properties = message.header.properties
        incoming = Incoming(
            queue=wanted.queue.name,
            body=message.body,
            headers=properties.headers or {},
            message_id=properties.message_id or "",
            routing_key=str(message.routing_key or ""),
            redelivered=bool(message.redelivered),
        )
        tag = message.delivery_tag
        assert tag is not None
        try:
            try:
                await wanted.handle(incoming)
            except Refused as refusal:
                bus_refused.inc()
                log.warning("message_refused", queue=incoming.queue, message_id=incoming.message_id, error=str(refusal))
                await channel.basic_nack(tag, requeue=False, wait=False)
                acknowledger.refused(tag)
            except Exception:
                log.exception("message_not_handled", queue=incoming.queue, message_id=incoming.message_id)
                await asyncio.sleep(REQUEUE_S)
                await channel.basic_nack(tag, requeue=True, wait=False)
                acknowledger.refused(tag)
            else:
                acknowledger.handled(tag)
        except LINK_TROUBLE as error:
            # The broker gives it to somebody again, who finds in the ledger that it is done.
            log.debug("message_not_settled", queue=incoming.queue, message_id=incoming.message_id, error=repr(error))

    return arrived
