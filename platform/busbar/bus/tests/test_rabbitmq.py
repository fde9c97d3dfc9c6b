"""What the transport over RabbitMQ does that no other has to: messages are its fast path, and the ledger its net."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import structlog

from busbar.auth.actor import Context
from busbar.bus import rabbitmq as transport_module
from busbar.bus.broker import Broker, Outgoing, running_broker
from busbar.bus.broker_metrics import bus_taken
from busbar.bus.consumers import Incoming
from busbar.bus.tests.carriers import RabbitCarrier, carrier_over, rabbit_carrier
from busbar.bus.tests.lab import LANE, all_finished, effects, have_effect, relay_facts, working
from busbar.bus.topology import DEAD, EVENTS, STATIC_QUEUES, deliver_queue, routing_key
from busbar.db import fetch, fetchval
from busbar.db.wakeup import Channel, poke
from busbar.events.envelope import StoredEvent
from busbar.testing.broker import TestBroker

QUEUE = deliver_queue(LANE, ["*.tst.*"])


@pytest.fixture
async def carrier(database: str, rabbitmq: TestBroker, vhost: str) -> AsyncIterator[RabbitCarrier]:
    async with rabbit_carrier(rabbitmq, vhost) as running:
        yield running


@pytest.fixture
async def peer(rabbitmq: TestBroker, vhost: str) -> AsyncIterator[Broker]:
    """A client beside those of the workers."""
    async with running_broker(rabbitmq.url_of(vhost), name="peer") as running:
        async with asyncio.timeout(20):
            await running.connected.wait()
        yield running


def taken(path: str) -> float:
    return float(bus_taken.labels(path)._value.get())


async def consuming(broker: Broker) -> None:
    async with asyncio.timeout(20):
        while QUEUE.name not in broker.consuming:
            await asyncio.sleep(0.02)


async def tell_and_publish(*subjects: str) -> None:
    """Relay facts, and wake the publication as the relay does."""
    await relay_facts(*subjects)
    poke(Channel.STREAM)


class TestMessages:
    async def test_bring_what_is_new(self, carrier: RabbitCarrier) -> None:
        transport = await carrier.transport()
        await consuming(carrier.brokers[0])
        async with working(have_effect, transport=transport):
            before = taken("bus"), taken("ledger")
            await tell_and_publish(*(f"S-{n}" for n in range(40)))
            await all_finished()
        assert taken("bus") - before[0] >= 35
        assert taken("ledger") - before[1] <= 5

    async def test_are_kept_until_the_outcome_is_in_the_ledger(
        self, carrier: RabbitCarrier, rabbitmq: TestBroker, vhost: str
    ) -> None:
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def linger(ctx: Context, event: StoredEvent) -> None:
            begun.set()
            await go_on.wait()

        transport = await carrier.transport()
        await consuming(carrier.brokers[0])
        async with working(linger, transport=transport):
            await tell_and_publish("a")
            async with asyncio.timeout(30):
                await begun.wait()
            await asyncio.sleep(1)
            assert (await rabbitmq.queues(vhost=vhost))[QUEUE.name].unacked == 1
            go_on.set()
            await all_finished()
            async with asyncio.timeout(30):
                while (await rabbitmq.queues(vhost=vhost))[QUEUE.name].unacked:
                    await asyncio.sleep(0.1)

    async def test_that_come_twice_have_one_effect(self, carrier: RabbitCarrier, peer: Broker) -> None:
        transport = await carrier.transport()
        await consuming(carrier.brokers[0])
        async with working(have_effect, transport=transport):
            await tell_and_publish("a", "b")
            await all_finished()
            again = [
                Outgoing(
                    exchange=EVENTS,
                    routing_key=routing_key("north", "tst", "TST_FACT"),
                    body=b"{}",
                    message_id=str(row["event_id"]),
                )
                for row in await fetch("select event_id from core.event")
            ]
            assert await peer.publish(again * 3) == []
            await tell_and_publish("c")
            await all_finished()
        assert sorted(await effects()) == ["a", "b", "c"]

    async def test_that_are_not_ours_go_to_the_dead_letters_and_harm_nobody(
        self, carrier: RabbitCarrier, peer: Broker
    ) -> None:
        dead: list[str] = []

        async def take(incoming: Incoming) -> None:
            dead.append(incoming.message_id)

        peer.consume(next(queue for queue in STATIC_QUEUES if queue.name == DEAD), take, prefetch=8)
        transport = await carrier.transport()
        await consuming(carrier.brokers[0])
        async with working(have_effect, transport=transport):
            foreign = Outgoing(
                exchange=EVENTS,
                routing_key=routing_key("north", "tst", "TST_FACT"),
                body=b"\xff",
                message_id="not ours",
            )
            await peer.publish([foreign])
            await tell_and_publish("a")
            await all_finished()
            async with asyncio.timeout(30):
                while dead != ["not ours"]:
                    await asyncio.sleep(0.02)
        assert await effects() == ["a"]

    async def test_of_a_delivery_that_cannot_be_tried_now_are_let_go_after_a_while(
        self, carrier: RabbitCarrier, rabbitmq: TestBroker, vhost: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # The broker closes channels on which a message is held for half an hour.
        monkeypatch.setattr(transport_module, "HELD_S", 0.3)
        transport = await carrier.transport()
        await consuming(carrier.brokers[0])
        async with working(have_effect, transport=transport, quarantined=lambda name: True):
            await tell_and_publish("a")
            async with asyncio.timeout(30):
                while await fetchval("select position from core.publication") != 1:
                    await asyncio.sleep(0.02)
            await asyncio.sleep(1.2)
            transport.follow()
            await asyncio.sleep(1.2)
            queue = (await rabbitmq.queues(vhost=vhost))[QUEUE.name]
            assert (queue.ready, queue.unacked) == (0, 0)
            assert await fetchval("select state from core.delivery") == "pending", "the ledger has it"


class TestTheNet:
    async def test_takes_what_the_bus_has_lost(self, carrier: RabbitCarrier) -> None:
        transport = await carrier.transport()
        await consuming(carrier.brokers[0])
        async with working(have_effect, transport=transport):
            await relay_facts("lost")
            await fetch("update core.publication set position = 1 returning 1")
            await all_finished()
        assert await effects() == ["lost"]

    async def test_begins_a_silent_consumer_anew(
        self, carrier: RabbitCarrier, rabbitmq: TestBroker, vhost: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # A queue that is deleted and made again at once leaves a consumer that nothing comes to, and no word of it.
        monkeypatch.setattr(transport_module, "RENEW_S", 0.5)
        monkeypatch.setattr(transport_module, "LATE_S", 0.5)
        monkeypatch.setattr(transport_module, "HEARD_S", 0.2)
        transport = await carrier.transport()
        broker = carrier.brokers[0]
        await consuming(broker)
        with structlog.testing.capture_logs() as lines:
            async with working(have_effect, transport=transport):
                broker._consumers._running[QUEUE.name].channel.consumers.clear()
                await tell_and_publish("unheard")
                await all_finished()
                assert "consumer_silent" in {line["event"] for line in lines}
                await consuming(broker)
                before = taken("bus")
                await tell_and_publish("heard")
                await all_finished()
        assert taken("bus") - before == 1
        assert await effects() == ["unheard", "heard"]

    async def test_carries_on_alone_while_there_is_no_broker(self, database: str) -> None:
        async with carrier_over("amqp://u:p@127.0.0.1:1/busbar") as carrier:
            transport = await carrier.transport(connect=False)
            async with working(have_effect, transport=transport):
                subjects = [f"S-{n}" for n in range(40)]
                await relay_facts(*subjects)
                await transport.publish([])
                await all_finished()
        assert sorted(await effects()) == sorted(subjects)
