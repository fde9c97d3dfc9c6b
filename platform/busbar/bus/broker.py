"""The way to a RabbitMQ broker: publish with confirms, consume under supervision.

Two connections, for a broker in memory alarm stops reading from a connection that publishes, and acknowledgements
would stop with it. Each is opened again for as long as the process runs, after waits that grow and are spread
(LESSONS B7).
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog
from aiormq.exceptions import DeliveryError, PublishError
from pamqp.commands import Basic

from busbar.bus.broker_metrics import broker_connected
from busbar.bus.consumers import Consumers, Handle
from busbar.bus.link import LINK_TROUBLE, BrokerAddress, Link, declare, open_link, was_cancelled
from busbar.bus.topology import CANARY, Queue
from busbar.db import end_tasks, spawn
from busbar.kit.backoff import delay_s

log = structlog.get_logger()

PUBLISH_S: Final = 5.0
"""After so long without a confirm a publish counts as unknown, and the link as lost (LESSONS B4)."""
RECONNECT_S_FIRST: Final = 0.2
RECONNECT_S_MAX: Final = 10.0
_PERSISTENT: Final = 2


class BrokerTrouble(Exception):
    """The broker did not confirm; whether it has the messages is unknown, so send them again."""


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


class Broker:
    """This process's connections to the broker. `run` keeps them up; the rest may be called at any time."""

    def __init__(self, url: str, *, ca_file: Path | None = None, name: str = "busbar") -> None:
        self.address = BrokerAddress(url, ca_file=ca_file)
        self.connected = asyncio.Event()
        """Set while messages can be published."""
        self._name = name
        self._publishing: Link | None = None
        self._consumers = Consumers(self._send_canary)
        broker_connected.set(0)

    async def run(self) -> None:
        """Keep both connections up until cancelled."""
        consuming = spawn(self._supervise("consume", self._consumers.serve), name="broker-consume", pool="background")
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

    @property
    def consuming(self) -> frozenset[str]:
        """The queues whose messages come now."""
        return self._consumers.consuming

    def consume(self, queue: Queue, handle: Handle, *, prefetch: int) -> None:
        """Declare the queue and consume it from now on, through every outage; calling again changes its bindings."""
        self._consumers.want(queue, handle, prefetch=prefetch)

    def renew(self, queue_name: str) -> None:
        """Begin its consumer anew: nothing comes, though something should."""
        self._consumers.renew(queue_name)

    def forget(self, queue_name: str) -> None:
        """Consume it no more, and delete it."""
        self._consumers.forget(queue_name)

    async def restore(self) -> None:
        """Declare all that should be there again: a message found no queue though one wants it.

        Consumers are begun anew too. The broker tells them of a queue that was deleted, but RabbitMQ 3.10 does not when
        the queue is there again by then: they would be silent (LESSONS B2).

        Raises:
            BrokerTrouble: the broker cannot be reached now.
        """
        link = self._publishing
        if link is None:
            raise BrokerTrouble("There is no connection to the broker.")
        try:
            await link.declare_static()
            for queue in self._consumers.queues:
                await declare(link.channel, queue)
                self._consumers.renew(queue.name)
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
            except asyncio.CancelledError:
                if was_cancelled():
                    raise
                reason = "the client library gave up what was waited for"
            except Exception as error:
                # Whatever it is, a process that consumes no more would go on without anybody knowing (LESSONS D1).
                log.exception("broker_link_failed", purpose=purpose)
                reason = repr(error)
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

    async def _send_canary(self, queue: str) -> bool | None:
        message = Outgoing(exchange=CANARY, routing_key=queue, body=b"", message_id=secrets.token_hex(8))
        try:
            return not await self.publish([message])
        except BrokerTrouble:
            return None


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
    except asyncio.CancelledError:
        if was_cancelled():
            raise
        return ConnectionResetError("the connection was closed before the confirm came")
    return True
