"""The client of the broker against a real RabbitMQ that is killed, blocked, emptied and lied to (LESSONS B1 to B7)."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest
import structlog

from busbar.bus import consumers
from busbar.bus.broker import PUBLISH_S, Broker, BrokerTrouble, Outgoing, running_broker
from busbar.bus.consumers import Handle, Incoming, Refused
from busbar.bus.topology import DEAD, DELIVERY_LIMIT, EVENTS, STATIC_QUEUES, Queue, deliver_queue
from busbar.testing.broker import TestBroker, broker
from busbar.testing.proxy import Mode, fault_proxy

NAMES_S = 1.5
"""RabbitMQ 3.10 writes the name of a new queue half a second late, and cannot find it after a kill before that."""
QUEUE = deliver_queue("tst.reader", ["*.tst.*"])


@pytest.fixture
async def client(rabbitmq: TestBroker, vhost: str) -> AsyncIterator[Broker]:
    async with running_broker(rabbitmq.url_of(vhost)) as running:
        await connected(running)
        yield running


@pytest.fixture(scope="module")
async def mortal() -> AsyncIterator[TestBroker]:
    """A node of this module's own, for tests that kill it."""
    async with broker() as node:
        yield node


async def connected(client: Broker) -> None:
    async with asyncio.timeout(30):
        await client.connected.wait()


async def until(holds: Callable[[], bool], within_s: float = 20) -> None:
    async with asyncio.timeout(within_s):
        while not holds():
            await asyncio.sleep(0.02)


async def publish_through(client: Broker, messages: list[Outgoing]) -> None:
    """Publish as the publication does: again until all are confirmed and none came back."""
    async with asyncio.timeout(30):
        while messages:
            try:
                if messages := await client.publish(messages, timeout_s=2):
                    await client.restore()
            except BrokerTrouble:
                await asyncio.sleep(0.1)


def message(n: int | str, key: str = "north.tst.TST_FACT") -> Outgoing:
    return Outgoing(exchange=EVENTS, routing_key=key, body=b'{"n":1}', message_id=f"m-{n}")


def collect(client: Broker, queue: Queue = QUEUE) -> list[str]:
    """Consume a queue into the list that is returned."""
    got: list[str] = []
    client.consume(queue, _gather(got), prefetch=32)
    return got


async def consuming(client: Broker, queue: Queue = QUEUE) -> None:
    await until(lambda: queue.name in client.consuming)


class TestPublishing:
    async def test_survives_a_kill_of_the_broker(self, mortal: TestBroker) -> None:
        # Without delivery_mode 2 the messages would be gone (B3).
        kept = deliver_queue("tst.kept", ["*.kept.*"])
        async with running_broker(mortal.url) as client:
            client.consume(kept, _never, prefetch=1)
            await consuming(client, kept)
            await asyncio.sleep(NAMES_S)
            sent = [message(n, key="north.kept.TST_FACT") for n in range(50)]
            assert await client.publish(sent) == []
        await mortal.kill()
        await mortal.start()
        async with running_broker(mortal.url) as client:
            got = collect(client, kept)
            await until(lambda: len(set(got)) == 50)
            assert sorted(set(got)) == sorted(f"m-{n}" for n in range(50))

    async def test_gives_back_what_no_queue_takes(self, client: Broker) -> None:
        # A plain publish looks successful here (B3).
        taken, lost = message(1), message(2, key="north.mm.MM_STOCK_CHANGED")
        collect(client)
        await consuming(client)
        assert await client.publish([taken, lost]) == [lost]

    async def test_makes_a_deleted_queue_anew(self, client: Broker, rabbitmq: TestBroker, vhost: str) -> None:
        collect(client)
        await consuming(client)
        await rabbitmq.delete_queue(QUEUE.name, vhost=vhost)
        await publish_through(client, [message(1)])
        assert QUEUE.name in await rabbitmq.queues(vhost=vhost)

    async def test_has_many_confirms_in_flight(self, rabbitmq: TestBroker, vhost: str) -> None:
        # One by one a quorum queue takes a quarter of what it takes together (B6); here that would be four minutes.
        async with (
            fault_proxy(rabbitmq.port) as proxy,
            running_broker(rabbitmq.url_of(vhost, port=proxy.port)) as client,
        ):
            await connected(client)
            collect(client)
            await consuming(client)
            await proxy.switch(Mode.DELAY, delay_s=0.12)
            assert await client.publish([message(n) for n in range(1_000)], timeout_s=60) == []

    async def test_keeps_the_order(self, client: Broker) -> None:
        order: list[str] = []

        async def take(incoming: Incoming) -> None:
            order.append(incoming.message_id)

        client.consume(QUEUE, take, prefetch=1)
        await consuming(client)
        await client.publish([message(n) for n in range(100)])
        await until(lambda: len(order) == 100)
        assert order == [f"m-{n}" for n in range(100)]

    async def test_does_not_wait_for_ever_under_a_memory_alarm(self, mortal: TestBroker) -> None:
        # Without a timeout of our own the call would never end (B4).
        async with running_broker(mortal.url) as client:
            got = collect(client)
            await consuming(client)
            await client.publish([message("before")])
            await mortal.alarm_on()
            try:
                async with asyncio.timeout(4 * PUBLISH_S):
                    with pytest.raises(BrokerTrouble, match="1 of 1 messages were not confirmed within"):
                        await client.publish([message("during")], timeout_s=1)
            finally:
                await mortal.alarm_off()

            await publish_through(client, [message("after")])
            await until(lambda: {"before", "after"} <= {each.removeprefix("m-") for each in got})

    async def test_without_a_broker_says_so_at_once(self) -> None:
        async with running_broker("amqp://u:p@127.0.0.1:1/busbar") as client:
            with pytest.raises(BrokerTrouble, match="There is no connection to the broker"):
                await client.publish([message(1)])


class TestConsuming:
    async def test_goes_on_after_the_broker_was_dead_with_messages_at_hand(self, mortal: TestBroker) -> None:
        # aio-pika's robust iterator would end here without a word (B2).
        release = asyncio.Event()
        finished: Counter[str] = Counter()

        async def hold(incoming: Incoming) -> None:
            await release.wait()
            finished[incoming.message_id] += 1

        async with running_broker(mortal.url) as client:
            client.consume(QUEUE, hold, prefetch=5)
            await consuming(client)
            await asyncio.sleep(NAMES_S)
            await publish_through(client, [message(n) for n in range(10)])
            await asyncio.sleep(0.2)
            await mortal.kill()
            await until(lambda: not client.connected.is_set() and not client.consuming)
            await mortal.start()
            release.set()
            await connected(client)
            await until(lambda: len(finished) == 10)

    async def test_is_begun_anew_when_a_canary_does_not_come_back(
        self, client: Broker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # The broker still counts the consumers, and nobody reads what it gives them (B2).
        monkeypatch.setattr(consumers, "CANARY_S", 0.3)
        got = collect(client)
        await consuming(client)
        link = client._consumers.link
        assert link is not None
        link.channel.consumers.clear()
        await until(lambda: client._consumers.link is not link)
        await consuming(client)
        assert await client.publish([message(1)]) == []
        await until(lambda: got == ["m-1"])

    async def test_is_begun_anew_when_its_queue_is_deleted(
        self, client: Broker, rabbitmq: TestBroker, vhost: str
    ) -> None:
        got = collect(client)
        await consuming(client)
        await rabbitmq.delete_queue(QUEUE.name, vhost=vhost)
        # What comes now comes through a new queue and a new consumer; how soon these are there, nobody need see.
        async with asyncio.timeout(20):
            while not got:
                await publish_through(client, [message(1)])
                await asyncio.sleep(0.1)

    async def test_of_a_queue_that_is_stuck_removes_it_and_makes_it_anew(
        self, client: Broker, rabbitmq: TestBroker, vhost: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # A queue without its leader answers nothing, and keeps the confirm of every event that goes to it waiting.
        monkeypatch.setattr(consumers, "AGAIN_S", 0.2)
        monkeypatch.setattr(consumers, "RPC_S", 1.0)
        stuck = deliver_queue("tst.stuck", ["*.tst.*"])
        got_stuck, got = collect(client, stuck), collect(client)
        await consuming(client, stuck)
        await consuming(client)
        name = f"'{vhost}_{stuck.name}'"
        with structlog.testing.capture_logs() as lines:
            await rabbitmq.ctl("eval", f"ra:stop_server(quorum_queues, {{{name}, node()}}).")
            await client._consumers._running[stuck.name].channel.close()
            await until(lambda: stuck.name not in client.consuming)
            await consuming(client, stuck)
            await consuming(client)
            await publish_through(client, [message(1)])
            await until(lambda: "m-1" in got and "m-1" in got_stuck)
        assert "queue_removed" in {line["event"] for line in lines}

    async def test_loses_nothing_when_it_is_stopped(self, rabbitmq: TestBroker, vhost: str) -> None:
        # aio-pika's own context manager rejects without requeue when it is cancelled (B1).
        async with running_broker(rabbitmq.url_of(vhost)) as stopped:
            stopped.consume(QUEUE, _never, prefetch=5)
            await consuming(stopped)
            await connected(stopped)
            await stopped.publish([message(n) for n in range(5)])
            await asyncio.sleep(0.3)
        async with running_broker(rabbitmq.url_of(vhost)) as client:
            got = collect(client)
            await until(lambda: len(got) == 5)
        assert (await rabbitmq.queues(vhost=vhost))[DEAD].ready == 0

    async def test_gives_back_what_a_handler_fails_at_then_parks_it(
        self, client: Broker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Before RabbitMQ 4 nothing ends this but a limit that the queue was given (B5).
        monkeypatch.setattr(consumers, "REQUEUE_S", 0.01)
        tries: Counter[str] = Counter()

        async def fail(incoming: Incoming) -> None:
            tries[incoming.message_id] += 1
            if incoming.message_id == "m-poison":
                raise LookupError("again and again")

        client.consume(QUEUE, fail, prefetch=8)
        dead_queue = next(queue for queue in STATIC_QUEUES if queue.name == DEAD)
        dead = collect(client, dead_queue)
        await consuming(client)
        await consuming(client, dead_queue)
        with structlog.testing.capture_logs():
            await client.publish([message("poison"), message("good")])
            await until(lambda: dead == ["m-poison"])
        assert tries == {"m-poison": DELIVERY_LIMIT + 1, "m-good": 1}

    async def test_parks_at_once_what_is_refused(self, client: Broker) -> None:
        tries: list[str] = []

        async def refuse(incoming: Incoming) -> None:
            tries.append(incoming.message_id)
            raise Refused("this is no event")

        client.consume(QUEUE, refuse, prefetch=8)
        dead_queue = next(queue for queue in STATIC_QUEUES if queue.name == DEAD)
        dead = collect(client, dead_queue)
        await consuming(client)
        await consuming(client, dead_queue)
        with structlog.testing.capture_logs() as lines:
            await client.publish([message(1)])
            await until(lambda: dead == ["m-1"])
        assert tries == ["m-1"]
        (told,) = [line for line in lines if line["event"] == "message_refused"]
        assert told["error"] == "this is no event"
        assert told["queue"] == QUEUE.name

    async def test_acknowledges_what_is_done_also_while_an_earlier_one_is_at_work(
        self, client: Broker, rabbitmq: TestBroker, vhost: str
    ) -> None:
        may_end, done = asyncio.Event(), Counter[str]()

        async def take(incoming: Incoming) -> None:
            if incoming.message_id == "m-3":
                await may_end.wait()
            if incoming.message_id == "m-5":
                raise Refused("this is no event")
            done[incoming.message_id] += 1

        client.consume(QUEUE, take, prefetch=4)
        await consuming(client)
        with structlog.testing.capture_logs():
            await client.publish([message(n) for n in range(30)])
            await until(lambda: len(done) == 28)  # by four at a time, though one is held
            may_end.set()
            await until(lambda: len(done) == 29)
            await client.publish([message(30)])
            await until(lambda: len(done) == 30)
        assert set(done.values()) == {1}
        async with asyncio.timeout(20):
            while (left := (await rabbitmq.queues(vhost=vhost))[QUEUE.name]).ready or left.unacked:
                await asyncio.sleep(0.1)

    async def test_holds_no_more_than_it_was_allowed(self, client: Broker) -> None:
        held: list[str] = []

        async def hold(incoming: Incoming) -> None:
            held.append(incoming.message_id)
            await asyncio.Event().wait()

        client.consume(QUEUE, hold, prefetch=7)
        await consuming(client)
        await client.publish([message(n) for n in range(30)])
        await until(lambda: len(held) == 7)
        await asyncio.sleep(0.2)
        assert len(held) == 7

    async def test_follows_what_is_wanted(self, client: Broker, rabbitmq: TestBroker, vhost: str) -> None:
        got = collect(client)
        await consuming(client)
        wider = deliver_queue("tst.reader", ["*.tst.*", "*.oth.*"])
        client.consume(wider, _gather(got), prefetch=8)
        await _bound(client, "north.oth.OTH_FACT")
        narrower = deliver_queue("tst.reader", ["*.oth.*"])
        client.consume(narrower, _gather(got), prefetch=8)
        await _unbound(client, "north.tst.TST_FACT")
        client.forget(QUEUE.name)
        async with asyncio.timeout(20):
            while QUEUE.name in await rabbitmq.queues(vhost=vhost):
                await asyncio.sleep(0.1)


class TestReconnecting:
    async def test_waits_longer_each_time_and_spread(self) -> None:
        # Fixed waits let all clients come back in the same moment (B7).
        def waits() -> list[float]:
            return [line["again_in_s"] for line in lines if line["event"] == "broker_lost"]

        with structlog.testing.capture_logs() as lines:
            async with AsyncExitStack() as stack:
                for _ in range(8):
                    await stack.enter_async_context(running_broker("amqp://u:p@127.0.0.1:1/busbar"))
                # Each of the eight has two links: by then some of them wait for the fourth time.
                await until(lambda: len(waits()) >= 16 * 4)
        first, later = waits()[:16], waits()[-16:]
        assert len(set(first)) == 16, "no two wait equally long"
        assert sum(later) > 2 * sum(first)


async def _never(incoming: Incoming) -> None:
    await asyncio.Event().wait()


def _gather(got: list[str]) -> Handle:
    async def take(incoming: Incoming) -> None:
        got.append(incoming.message_id)

    return take


async def _bound(client: Broker, key: str) -> None:
    async with asyncio.timeout(20):
        while await client.publish([message(1, key=key)]):
            await asyncio.sleep(0.05)


async def _unbound(client: Broker, key: str) -> None:
    async with asyncio.timeout(20):
        while not await client.publish([message(1, key=key)]):
            await asyncio.sleep(0.05)
