"""The way to a RabbitMQ broker: publish with confirms, consume under supervision.

Two connections, for a broker in memory alarm stops reading from a connection that publishes, and acknowledgements
would stop with it. Each is opened again for as long as the process runs, after waits that grow and are spread
(LESSONS B7). Liveness is a canary: a message that must come back through the consumers' own channel (LESSONS B2).
"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog
from aiormq.abc import DeliveredMessage
from aiormq.exceptions import ChannelNotFoundEntity, DeliveryError, PublishError
from pamqp.commands import Basic

from busbar.bus.broker_metrics import broker_connected, bus_refused
from busbar.bus.link import LINK_TROUBLE, RPC_S, BrokerAddress, Link, OnMessage, open_link
from busbar.bus.topology import CANARY, Queue
from busbar.db import end_tasks, spawn
from busbar.kit.backoff import delay_s

log = structlog.get_logger()

PUBLISH_S: Final = 5.0
"""After so long without a confirm a publish counts as unknown, and the link as lost (LESSONS B4)."""
CANARY_S: Final = 5.0
"""A canary is sent so often, and must be back within as long again."""
REQUEUE_S: Final = 1.0
"""A message whose handler failed goes back to its queue after so long."""
RECONNECT_S_FIRST: Final = 0.2
RECONNECT_S_MAX: Final = 10.0
_PERSISTENT: Final = 2


class BrokerTrouble(Exception):
    """The broker did not confirm; whether it has the messages is unknown, so send them again."""


class Refused(Exception):
    """A consumed message cannot be taken, now or later: to the dead letters with it."""


class Outgoing(msgspec.Struct, frozen=True, kw_only=True):
    """A message to be published; it is always persistent."""

    exchange: str
    routing_key: str
    body: bytes
    message_id: str
    correlation_id: str | None = None
    headers: Mapping[str, Any] = {}
    content_type: str = "application/json"
    mandatory: bool = True
    """Whether some queue is expected to take it: otherwise it comes back."""


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


class _Consumer(msgspec.Struct, frozen=True):
    queue: Queue
    handle: Handle
    prefetch: int


class Broker:
    """This process's connections to the broker. `run` keeps them up; the rest may be called at any time."""

    def __init__(self, url: str, *, ca_file: Path | None = None, name: str = "busbar") -> None:
        self.address = BrokerAddress(url, ca_file=ca_file)
        self.connected = asyncio.Event()
        """Set while messages can be published."""
        self.consuming: frozenset[str] = frozenset()
        """The queues whose messages come now."""
        self._name = name
        self._publishing: Link | None = None
        self._consumers: dict[str, _Consumer] = {}
        self._forgotten: set[str] = set()
        self._wanted = asyncio.Event()
        self._canary: asyncio.Future[None] | None = None
        broker_connected.set(0)

    async def run(self) -> None:
        """Keep both connections up until cancelled."""
        consuming = spawn(self._supervise("consume", self._consume), name="broker-consume", pool="background")
        try:
            await self._supervise("publish", self._hold_open)
        finally:
            await end_tasks(consuming)

    async def publish(self, messages: Sequence[Outgoing], *, timeout_s: float = PUBLISH_S) -> list[Outgoing]:
        """Publish all, their confirms in flight together, in this order; those that no queue took are returned.

        Raises:
            BrokerTrouble: not all were confirmed within `timeout_s`.
        """
        link = self._publishing
        if link is None or not link.stands:
            raise BrokerTrouble("There is no connection to the broker.")
        sending = [spawn(_publish(link, message), name="publish") for message in messages]
        try:
            _, late = await asyncio.wait(sending, timeout=timeout_s) if sending else (set(), set())
        except asyncio.CancelledError:
            await end_tasks(*sending)
            raise
        if late:
            link.lose(f"{len(late)} messages were not confirmed within {timeout_s:g} s")
            await end_tasks(*late)
            raise BrokerTrouble(f"{len(late)} of {len(messages)} messages were not confirmed within {timeout_s:g} s.")
        outcomes = [task.result() for task in sending]
        if trouble := next((outcome for outcome in outcomes if isinstance(outcome, Exception)), None):
            raise BrokerTrouble(f"The broker did not take a message: {trouble!r}") from trouble
        return [message for message, taken in zip(messages, outcomes, strict=True) if not taken]

    def consume(self, queue: Queue, handle: Handle, *, prefetch: int) -> None:
        """Declare the queue and consume it from now on, through every outage; calling again changes its bindings."""
        self._consumers[queue.name] = _Consumer(queue, handle, prefetch)
        self._forgotten.discard(queue.name)
        self._wanted.set()

    def forget(self, queue_name: str) -> None:
        """Consume it no more, and delete it."""
        if self._consumers.pop(queue_name, None) is not None:
            self._forgotten.add(queue_name)
            self._wanted.set()

    async def restore(self) -> None:
        """Declare all that should be there again: a message found no queue though one wants it.

        Raises:
            BrokerTrouble: the broker cannot be reached now.
        """
        link = self._publishing
        if link is None:
            raise BrokerTrouble("There is no connection to the broker.")
        try:
            await link.declare_static()
            for consumer in list(self._consumers.values()):
                await link.declare(consumer.queue)
        except LINK_TROUBLE as error:
            link.lose(f"the topology could not be declared: {error!r}")
            raise BrokerTrouble(f"The topology could not be declared: {error!r}") from error

    async def _supervise(self, purpose: str, serve: Callable[[Link], Awaitable[None]]) -> None:
        failures = 0
        while True:
            reason = "it ended"
            try:
                async with open_link(self.address, name=f"{self._name} {purpose}") as link:
                    await link.declare_static()
                    failures = 0
                    log.info("broker_connected", purpose=purpose, broker=self.address.shown)
                    await serve(link)
                    reason = await link.lost()
            except (*LINK_TROUBLE, BrokerTrouble) as error:
                reason = str(error) or repr(error)
            failures += 1
            wait_s = delay_s(failures, first_s=RECONNECT_S_FIRST, max_s=RECONNECT_S_MAX)
            log.warning("broker_lost", purpose=purpose, broker=self.address.shown, error=reason, again_in_s=wait_s)
            await asyncio.sleep(wait_s)

    async def _hold_open(self, link: Link) -> None:
        self._publishing = link
        self.connected.set()
        broker_connected.set(1)
        try:
            await link.lost()
        finally:
            self.connected.clear()
            broker_connected.set(0)
            self._publishing = None

    async def _consume(self, link: Link) -> None:
        canary = await self._hatch(link)
        running: dict[str, tuple[_Consumer, str]] = {}
        lost = spawn(link.lost(), name="broker-lost")
        try:
            while link.stands:
                self._wanted.clear()
                await self._apply(link, running)
                self.consuming = frozenset(running)
                woken = spawn(self._wanted.wait(), name="broker-wanted")
                await asyncio.wait({lost, woken}, timeout=CANARY_S, return_when=asyncio.FIRST_COMPLETED)
                await end_tasks(woken)
                if link.stands and not self._wanted.is_set():
                    await self._sing(link, canary)
        finally:
            self.consuming = frozenset()
            await end_tasks(lost)

    async def _apply(self, link: Link, running: dict[str, tuple[_Consumer, str]]) -> None:
        """Make the consumers of this link those that are wanted."""
        for name in [name for name in running if name not in self._consumers]:
            await link.channel.basic_cancel(running.pop(name)[1], timeout=RPC_S)
        while self._forgotten:
            name = self._forgotten.pop()
            with contextlib.suppress(ChannelNotFoundEntity):
                await link.channel.queue_delete(name, timeout=RPC_S)
        for name, wanted in list(self._consumers.items()):
            known = running.get(name)
            if known is not None and known[0].queue == wanted.queue:
                continue
            await link.declare(wanted.queue)
            if known is None:
                tag = await link.consume(name, _callback(link, wanted), prefetch=wanted.prefetch)
            else:
                tag = known[1]
                for binding in set(known[0].queue.bindings) - set(wanted.queue.bindings):
                    await link.channel.queue_unbind(name, binding.exchange, binding.key, timeout=RPC_S)
            running[name] = (wanted, tag)

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
        message = Outgoing(exchange=CANARY, routing_key=canary, body=b"", message_id=secrets.token_hex(8))
        try:
            if await self.publish([message]):
                link.lose("the canary's queue is gone")
                return
        except BrokerTrouble:
            return  # Nothing is said about the consumers: their canary was not sent.
        try:
            async with asyncio.timeout(CANARY_S):
                await self._canary
        except TimeoutError:
            link.lose(f"a canary did not come back within {CANARY_S:g} s")


@asynccontextmanager
async def running_broker(url: str, *, ca_file: Path | None = None, name: str = "busbar") -> AsyncIterator[Broker]:
    """A broker client whose connections are kept up for the time of the block."""
    broker = Broker(url, ca_file=ca_file, name=name)
    task = spawn(broker.run(), name="broker", pool="background")
    try:
        yield broker
    finally:
        await end_tasks(task)


async def _publish(link: Link, message: Outgoing) -> bool | Exception:
    """Whether a queue took it; an exception when nobody can say."""
    properties = Basic.Properties(
        content_type=message.content_type,
        delivery_mode=_PERSISTENT,  # LESSONS B3
        message_id=message.message_id,
        correlation_id=message.correlation_id,
        headers=dict(message.headers),
    )
    try:
        await link.channel.basic_publish(
            message.body,
            exchange=message.exchange,
            routing_key=message.routing_key,
            properties=properties,
            mandatory=message.mandatory,
            wait=False,
        )
    except PublishError:
        return False
    except (DeliveryError, *LINK_TROUBLE) as error:
        return error
    return True


def _callback(link: Link, consumer: _Consumer) -> OnMessage:
    """Our own policy of acknowledgement: aio-pika's would reject without requeue, also on a stop (LESSONS B1)."""

    async def arrived(message: DeliveredMessage) -> None:
        properties = message.header.properties
        incoming = Incoming(
            queue=consumer.queue.name,
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
                await consumer.handle(incoming)
            except Refused as refusal:
                bus_refused.inc()
                log.warning("message_refused", queue=incoming.queue, message_id=incoming.message_id, error=str(refusal))
                await link.channel.basic_nack(tag, requeue=False, wait=False)
            except Exception:
                log.exception("message_not_handled", queue=incoming.queue, message_id=incoming.message_id)
                await asyncio.sleep(REQUEUE_S)
                await link.channel.basic_nack(tag, requeue=True, wait=False)
            else:
                await link.channel.basic_ack(tag, wait=False)
        except LINK_TROUBLE as error:
            # The broker gives it to somebody again, who finds in the ledger that it is done.
            log.debug("message_not_settled", queue=incoming.queue, message_id=incoming.message_id, error=repr(error))

    return arrived
