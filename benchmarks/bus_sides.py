"""The sides that `bench_bus` compares, each run in a process of its own: `python -m benchmarks.bus_sides SIDE`.

Arguments come as JSON on standard input, what was measured goes as JSON to standard output.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, Final
from uuid import uuid4

import aio_pika
import asyncpg
import msgspec
import uvloop
from aio_pika.abc import AbstractIncomingMessage
from faststream.rabbit import Channel as RabbitChannel
from faststream.rabbit import ExchangeType, RabbitBroker, RabbitExchange, RabbitMessage, RabbitQueue
from faststream.rabbit.schemas.queue import QueueType

from benchmarks.findings import quantile
from busbar.auth.actor import Context
from busbar.bus.broker import running_broker
from busbar.bus.embedded import EmbeddedTransport
from busbar.bus.handlers import HandlerLane
from busbar.bus.publication import Publication
from busbar.bus.rabbitmq import PREFETCH, RabbitTransport
from busbar.bus.topology import EVENTS, binding_keys, quorum, routing_key
from busbar.bus.transport import Transport
from busbar.bus.worker import PER_LANE_MAX, Lane, Worker
from busbar.db import end_tasks, execute, open_pools, spawn
from busbar.db.wakeup import Channel, poke
from busbar.events import ledger
from busbar.events.envelope import CONTENT_TYPE, StoredEvent
from busbar.events.registry import REGISTRY
from busbar.events.relay import Relay
from busbar.events.subscriptions import HandlerMatcher
from busbar.events.tests.facts import FACT, a_subscription, tell
from busbar.kit.clock import utc_now
from busbar.kit.garbage import collect_rarely
from busbar.observability.logs import configure_logging

SUBJECTS: Final = 500
"""Events of one subject wait for each other, so there are many."""
IN_FLIGHT: Final = 100
"""Publishes whose confirms are awaited together, on the sides that are not Busbar; its own batches have 250."""
WARM_UP: Final = 200
LANE: Final = "tst.reader"
QUEUE: Final = "busbar.bench"

_BACKLOG = f"""
insert into core.event (event_id, event_type, module, site_id, subject, time, data, schema_version, correlation_id,
    traceparent, actor_id, origin)
select id, 'TST_FACT', 'tst', 'north', 'S-' || n % {SUBJECTS}, now(),
    jsonb_build_object('n', -n, 'note', repeat('x', 800)), 1, id::text,
    '00-0123456789abcdef0123456789abcdef-0123456789abcdef-01', id::text, null
from (select n, gen_random_uuid() as id from generate_series(1, $1::int) n) asked
"""
_TAKE = "insert into public.taken (message_id) values ($1) on conflict do nothing returning true"
_EFFECT = "insert into public.effect (subject) values ($1)"

Arrived = Callable[[int], None]
"""Told the number of each event when its handler begins."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What to measure."""

    dsn: str
    amqp_url: str
    events: int
    per_second: float
    seconds: float


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What was found."""

    per_second: float
    cpu_ms: float
    """Processor time of the side's process for each event."""
    told_p50_ms: float
    """From the call that tells of an event to its handler."""
    told_p99_ms: float
    committed_p50_ms: float | None
    """From its commit; None on the sides that have none."""
    committed_p99_ms: float | None


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One way from an event to its handler, running."""

    drain: Callable[[int], Awaitable[float]]
    """Send so many, and wait until all are handled; returns when it began, after what there was to prepare."""
    send: Callable[[int], Awaitable[None]]
    """Send the event of this number; done when it is committed, or confirmed where there is no outbox."""
    commits: bool = False


class Counter:
    """How many were handled, and a way to wait for more."""

    def __init__(self) -> None:
        self._count = 0
        self._wanted = 0
        self._there = asyncio.Event()

    def up(self) -> None:
        """One more."""
        self._count += 1
        if self._count >= self._wanted:
            self._there.set()

    async def more(self, count: int) -> None:
        """Wait until `count` more than were waited for before are there."""
        self._wanted += count
        self._there.clear()
        if self._count < self._wanted:
            await self._there.wait()


@asynccontextmanager
async def busbar(asked: Asked, arrived: Arrived, *, brokered: bool) -> AsyncIterator[Side]:
    """Outbox, relay, publication, queue, worker, and a handler whose effect and outcome are one transaction."""
    REGISTRY.register(FACT)
    configure_logging(level="WARNING", write=lambda lines: None)

    count = Counter()

    async def handler(ctx: Context, event: StoredEvent) -> None:
        arrived(msgspec.json.decode(event.data)["n"])
        await execute(_EFFECT, event.subject)
        count.up()

    subscription = a_subscription(LANE, handler=handler)
    lane = HandlerLane(subscription, clock=utc_now, quarantined=lambda name: False)
    lanes: Mapping[str, Lane] = {LANE: lane}
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(open_pools(asked.dsn))
        await execute("update core.publication set position = 0")
        transport: Transport = EmbeddedTransport()
        if brokered:
            broker = await stack.enter_async_context(running_broker(asked.amqp_url))
            rabbit = RabbitTransport(broker, lambda: {LANE: binding_keys(("TST_*",), (), REGISTRY)})
            rabbit.follow()
            await broker.connected.wait()
            _keep(stack, Publication(broker, rabbit.bound).run(), "publication")
            transport = rabbit
        worker = Worker(transport, lambda: lanes, number=1)
        relay = Relay([HandlerMatcher([subscription], lambda site, module: True)], transport.publish, refresh=_known)
        _keep(stack, relay.run(), "relay")
        _keep(stack, worker.run(), "worker")

        async def drain(events: int) -> float:
            await execute(_BACKLOG, events)
            began_s = time.perf_counter()
            poke(Channel.EVENTS)
            await count.more(events)
            while await ledger.open_count():
                await asyncio.sleep(0.005)
            return began_s

        async def send(number: int) -> None:
            await tell(number, subject=f"S-{number % SUBJECTS}")

        yield Side(drain=drain, send=send, commits=True)


@asynccontextmanager
async def bare(asked: Asked, arrived: Arrived) -> AsyncIterator[Side]:
    """aio-pika alone: publish, confirm, consume, acknowledge; no database, and a handler that does nothing."""
    count = Counter()
    async with await aio_pika.connect(asked.amqp_url) as out, await aio_pika.connect(asked.amqp_url) as back:
        channel = await out.channel()
        exchange = await channel.declare_exchange(EVENTS, aio_pika.ExchangeType.TOPIC, durable=True)
        consuming = await back.channel()
        await consuming.set_qos(PREFETCH)
        queue = await consuming.declare_queue(QUEUE, durable=True, arguments=quorum())
        await queue.bind(exchange, "*.tst.*")

        async def taken(message: AbstractIncomingMessage) -> None:
            arrived(int(message.headers["n"]))
            await message.ack()
            count.up()

        await queue.consume(taken)
        publishing = asyncio.Semaphore(IN_FLIGHT)

        async def send(number: int) -> None:
            async with publishing:
                message = aio_pika.Message(
                    _body(number),
                    content_type=CONTENT_TYPE,
                    delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                    message_id=str(uuid4()),
                    headers={"n": number},
                )
                await exchange.publish(message, routing_key("north", "tst", FACT.name), mandatory=True)

        yield Side(drain=_sending(send, count), send=send)


@asynccontextmanager
async def faststream(asked: Asked, arrived: Arrived) -> AsyncIterator[Side]:
    """FastStream with the bookkeeping that makes an effect happen once.

    Publish with confirms, consume, and for each message one transaction: its id into a table with a unique key, and the
    effect; acknowledged after the commit. There is no outbox: what is published is not bound to a commit.
    """
    count = Counter()
    broker = RabbitBroker(
        asked.amqp_url, logger=None, default_channel=RabbitChannel(prefetch_count=PREFETCH, publisher_confirms=True)
    )
    exchange = RabbitExchange(EVENTS, type=ExchangeType.TOPIC, durable=True)
    arguments = {name: value for name, value in quorum().items() if name != "x-queue-type"}
    queue = RabbitQueue(QUEUE, queue_type=QueueType.QUORUM, durable=True, arguments=arguments, routing_key="*.tst.*")
    pool = await asyncpg.create_pool(asked.dsn, min_size=PER_LANE_MAX, max_size=PER_LANE_MAX)

    @broker.subscriber(queue, exchange)
    async def taken(event: bytes, message: RabbitMessage) -> None:
        arrived(int(message.headers["n"]))
        async with pool.acquire() as connection, connection.transaction():
            if await connection.fetchval(_TAKE, message.message_id):
                await connection.execute(_EFFECT, "S-1")
        count.up()

    publishing = asyncio.Semaphore(IN_FLIGHT)

    async def send(number: int) -> None:
        async with publishing:
            await broker.publish(
                _body(number),
                exchange=exchange,
                routing_key=routing_key("north", "tst", FACT.name),
                persist=True,
                mandatory=True,
                message_id=str(uuid4()),
                content_type=CONTENT_TYPE,
                headers={"n": str(number)},
            )

    async with broker:
        await broker.start()
        yield Side(drain=_sending(send, count), send=send)
    await pool.close()


SIDES: Mapping[str, Callable[[Asked, Arrived], AbstractAsyncContextManager[Side]]] = {
    "busbar": partial(busbar, brokered=True),
    "embedded": partial(busbar, brokered=False),
    "bare": bare,
    "faststream": faststream,
}


async def measure(name: str, asked: Asked) -> Measured:
    """Drain a backlog, then send at an even pace and see when each arrives.

    Python's collector is set on every side as Busbar's processes set it.
    """
    collect_rarely()
    at: dict[int, float] = {}

    def arrived(number: int) -> None:
        if number >= 0:
            at[number] = time.perf_counter()

    async with SIDES[name](asked, arrived) as side:
        await side.drain(WARM_UP)
        cpu_began_s = time.process_time()
        began_s = await side.drain(asked.events)
        seconds, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_began_s
        told, committed = {}, {}
        for number in range(int(asked.per_second * asked.seconds)):
            told[number] = time.perf_counter()
            await side.send(number)
            committed[number] = time.perf_counter()
            await asyncio.sleep(max(0.0, told[number] + 1 / asked.per_second - time.perf_counter()))
        async with asyncio.timeout(10):
            while len(at) < len(told):
                await asyncio.sleep(0.01)
    from_told = [(at[number] - moment) * 1e3 for number, moment in told.items()]
    # A handler may begin while the commit's answer is still on its way.
    from_commit = [max(0.0, at[number] - moment) * 1e3 for number, moment in committed.items()]
    return Measured(
        per_second=asked.events / seconds,
        cpu_ms=cpu_s / asked.events * 1e3,
        told_p50_ms=quantile(from_told, 0.5),
        told_p99_ms=quantile(from_told, 0.99),
        committed_p50_ms=quantile(from_commit, 0.5) if side.commits else None,
        committed_p99_ms=quantile(from_commit, 0.99) if side.commits else None,
    )


def _sending(send: Callable[[int], Awaitable[None]], count: Counter) -> Callable[[int], Awaitable[float]]:
    """Drains by sending: publishers and consumer work at the same time, as Busbar's do."""

    async def drain(events: int) -> float:
        began_s = time.perf_counter()
        sending = [spawn(_one(send, -n), name="send") for n in range(1, events + 1)]
        await count.more(events)
        await asyncio.wait(sending)
        return began_s

    return drain


async def _one(send: Callable[[int], Awaitable[None]], number: int) -> None:
    await send(number)


async def _known() -> None:
    """The subscription is the only one, and does not change."""


def _keep(stack: AsyncExitStack, work: Coroutine[Any, Any, None], name: str) -> None:
    stack.push_async_callback(end_tasks, spawn(work, name=name, pool="background"))


def _body(number: int) -> bytes:
    """As long as Busbar's message of the same event."""
    event = {
        "specversion": "1.0",
        "id": str(uuid4()),
        "source": "/busbar/north/tst",
        "type": FACT.name,
        "subject": f"S-{number % SUBJECTS}",
        "time": "2026-11-28T15:00:00.000000Z",
        "datacontenttype": "application/json",
        "data": {"n": number, "note": "x" * 800},
        "correlationid": str(uuid4()),
        "site": "north",
        "schemaversion": 1,
        "traceparent": "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01",
    }
    return msgspec.json.encode(event)


if __name__ == "__main__":
    sys.stdout.buffer.write(
        msgspec.json.encode(uvloop.run(measure(sys.argv[1], msgspec.json.decode(sys.stdin.buffer.read(), type=Asked))))
    )
