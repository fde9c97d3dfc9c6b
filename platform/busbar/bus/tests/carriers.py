"""The two transports, each as something from which any number of workers get theirs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Protocol

from busbar.bus.broker import Broker, running_broker
from busbar.bus.embedded import EmbeddedTransport
from busbar.bus.publication import Publication
from busbar.bus.rabbitmq import RabbitTransport
from busbar.bus.tests.lab import LANE
from busbar.bus.topology import binding_keys
from busbar.bus.transport import Transport
from busbar.db import end_tasks, spawn
from busbar.events.registry import REGISTRY
from busbar.testing.broker import TestBroker


class Carrier(Protocol):
    """Gives each worker its transport."""

    async def transport(self) -> Transport: ...


class EmbeddedCarrier:
    """Without a broker."""

    async def transport(self) -> Transport:
        return EmbeddedTransport()


class RabbitCarrier:
    """Over one virtual host; every worker has connections and a publisher of its own, as processes have."""

    def __init__(self, stack: AsyncExitStack, url: str) -> None:
        self._stack = stack
        self._url = url
        self.brokers: list[Broker] = []

    async def transport(self, *, connect: bool = True) -> RabbitTransport:
        broker = await self._stack.enter_async_context(running_broker(self._url, name=f"test {len(self.brokers)}"))
        self.brokers.append(broker)
        transport = RabbitTransport(broker, lambda: {LANE: binding_keys(("TST_*",), (), REGISTRY)})
        transport.follow()
        publishing = spawn(Publication(broker, transport.bound).run(), name="publication", pool="background")
        self._stack.push_async_callback(end_tasks, publishing)
        if connect:
            await self.connected()
        return transport

    async def connected(self) -> None:
        """Wait until every broker client has its connection."""
        async with asyncio.timeout(20):
            for broker in self.brokers:
                await broker.connected.wait()


@asynccontextmanager
async def rabbit_carrier(rabbitmq: TestBroker, vhost: str) -> AsyncIterator[RabbitCarrier]:
    """A carrier over this virtual host; what it started ends with the block."""
    async with carrier_over(rabbitmq.url_of(vhost)) as carrier:
        yield carrier


@asynccontextmanager
async def carrier_over(url: str) -> AsyncIterator[RabbitCarrier]:
    """A carrier over whatever is at this address."""
    async with AsyncExitStack() as stack:
        yield RabbitCarrier(stack, url)
