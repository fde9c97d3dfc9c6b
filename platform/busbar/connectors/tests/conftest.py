"""Fixtures of the endpoints' tests: a remote that listens, a desk, and waits short enough for a test."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from busbar.bus import worker
from busbar.bus.broker import Broker, running_broker
from busbar.connectors import commands, verdict
from busbar.connectors.commands import Changes
from busbar.connectors.desk import EndpointDesk
from busbar.connectors.outcomes import OutcomeReader
from busbar.connectors.tests import support
from busbar.connectors.tests.camel import Peer, at, running_peer
from busbar.connectors.tests.support import Remote, add_endpoint, add_site, make_desk
from busbar.testing.broker import TestBroker


@pytest.fixture
async def remote() -> AsyncIterator[Remote]:
    started = Remote()
    await started.start()
    try:
        yield started
    finally:
        await started.stop()


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "POLL_S", 0.05)
    monkeypatch.setattr(verdict, "RETRY_S_FIRST", 0.02)
    monkeypatch.setattr(verdict, "AFTER_PROBE_S", 0.7)


@pytest.fixture
async def desk(database: str, remote: Remote, short_waits: None) -> AsyncIterator[EndpointDesk]:
    """A desk with the endpoint `acme-1`."""
    support.ATTEMPTS.clear()
    made = make_desk()
    await add_site(support.SITE, "south")
    await add_endpoint(made, remote)
    try:
        yield made
    finally:
        await made.close()


@pytest.fixture
async def broker(rabbitmq: TestBroker, vhost: str) -> AsyncIterator[Broker]:
    """This process's way to a fresh virtual host of a real RabbitMQ."""
    async with running_broker(rabbitmq.url_of(vhost)) as client:
        async with asyncio.timeout(30):
            await client.connected.wait()
        yield client


@pytest.fixture
async def camels(desk: EndpointDesk, broker: Broker) -> EndpointDesk:
    """The desk with `acme-1` run by Camel, and the exchange with it going on."""
    desk.brokered = True
    desk.hand_over_through(broker)
    await commands.change_endpoint(support.context(), desk, "acme-1", Changes(runner="camel"))
    await desk.refresh()
    OutcomeReader(desk).consume_from(broker)
    return desk


@pytest.fixture
async def peer(rabbitmq: TestBroker, vhost: str, camels: EndpointDesk, remote: Remote) -> AsyncIterator[Peer]:
    """A peer that does at the remote what is handed over to it."""
    async with running_peer(rabbitmq.url_of(vhost), at(remote.url, token=support.CANARY)) as running:
        yield running
