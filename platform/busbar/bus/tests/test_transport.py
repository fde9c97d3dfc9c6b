"""What every transport does; each test runs over the embedded one and over RabbitMQ."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from busbar.auth.actor import Context
from busbar.bus.tests.carriers import Carrier, EmbeddedCarrier, rabbit_carrier
from busbar.bus.tests.lab import LANE, all_finished, effects, have_effect, relay_facts, working
from busbar.bus.worker import PER_LANE_MAX
from busbar.db import execute, fetch, fetchrow, fetchval
from busbar.db.wakeup import Channel, poke
from busbar.events.envelope import StoredEvent
from busbar.events.subscriptions import Handler
from busbar.testing.broker import TestBroker


@pytest.fixture
def embedded() -> Carrier:
    return EmbeddedCarrier()


@pytest.fixture
async def over_rabbitmq(database: str, rabbitmq: TestBroker, vhost: str) -> AsyncIterator[Carrier]:
    async with rabbit_carrier(rabbitmq, vhost) as running:
        yield running


@pytest.fixture(params=["embedded", "over_rabbitmq"])
def carrier(request: pytest.FixtureRequest) -> Carrier:
    found: Carrier = request.getfixturevalue(request.param)
    return found


@pytest.fixture
async def start(carrier: Carrier) -> AsyncIterator[Callable[[Handler], Awaitable[None]]]:
    """Starts workers, which run until the end of the test."""
    async with AsyncExitStack() as stack:
        numbers = iter(range(1, 100))

        async def start(handler: Handler) -> None:
            transport = await carrier.transport()
            await stack.enter_async_context(working(handler, number=next(numbers), transport=transport))

        yield start


Start = Callable[[Handler], Awaitable[None]]


class TestATransport:
    async def test_brings_every_event_to_its_handler_once(self, start: Start) -> None:
        await start(have_effect)
        subjects = [f"S-{n}" for n in range(60)]
        await relay_facts(*subjects)
        await all_finished()
        assert sorted(await effects()) == sorted(subjects)

    async def test_brings_what_was_told_before_the_worker_came(self, start: Start) -> None:
        await relay_facts("early")
        await start(have_effect)
        await all_finished()
        assert await effects() == ["early"]

    async def test_keeps_the_order_within_a_subject_over_several_workers(self, start: Start) -> None:
        order: defaultdict[str, list[int]] = defaultdict(list)

        async def note(ctx: Context, event: StoredEvent) -> None:
            assert event.position is not None
            order[event.subject].append(event.position)

        for _ in range(3):
            await start(note)
        await relay_facts(*(f"S-{n % 5}" for n in range(100)))
        await all_finished()
        assert {subject: len(positions) for subject, positions in order.items()} == {f"S-{n}": 20 for n in range(5)}
        assert all(positions == sorted(positions) for positions in order.values())

    async def test_spreads_the_work_over_the_workers(self, start: Start) -> None:
        async def slowly(ctx: Context, event: StoredEvent) -> None:
            await asyncio.sleep(0.02)

        for _ in range(2):
            await start(slowly)
        await relay_facts(*(f"S-{n}" for n in range(100)))
        await all_finished()
        shares = Counter(row["worker"] for row in await fetch("select worker from core.delivery_attempt"))
        assert set(shares) == {1, 2}
        assert min(shares.values()) >= 15, f"one worker did nearly everything: {shares}"

    async def test_holds_no_more_than_the_lane_has_room_for(self, start: Start) -> None:
        running: list[int] = [0]

        async def linger(ctx: Context, event: StoredEvent) -> None:
            running.append(running[-1] + 1)
            await asyncio.sleep(0.005)
            running.append(running[-1] - 1)

        await start(linger)
        await relay_facts(*(f"S-{n}" for n in range(120)))
        await all_finished()
        assert 1 < max(running) <= PER_LANE_MAX

    async def test_brings_again_what_failed(self, start: Start) -> None:
        tries: Counter[str] = Counter()

        async def fail_twice(ctx: Context, event: StoredEvent) -> None:
            tries[event.subject] += 1
            if tries[event.subject] < 3:
                raise LookupError("not yet")
            await have_effect(ctx, event)

        await start(fail_twice)
        await relay_facts("a", "b")
        await all_finished()
        assert sorted(await effects()) == ["a", "b"]
        assert tries == {"a": 3, "b": 3}

    async def test_brings_what_an_operator_sends_again(self, start: Start) -> None:
        mended = asyncio.Event()

        async def fail_until_mended(ctx: Context, event: StoredEvent) -> None:
            if not mended.is_set():
                raise LookupError("broken")
            await have_effect(ctx, event)

        await start(fail_until_mended)
        await relay_facts("a")
        await all_finished()
        assert await fetchval("select state from core.delivery") == "dead"
        mended.set()
        await execute(
            "update core.delivery set state = 'pending', charged = 0, next_attempt_at = now(), finished_at = null"
        )
        poke(Channel.DELIVERIES)
        await all_finished()
        assert await effects() == ["a"]

    async def test_a_worker_that_is_stopped_gives_back_what_it_holds(self, carrier: Carrier, start: Start) -> None:
        begun = asyncio.Event()

        async def never_end(ctx: Context, event: StoredEvent) -> None:
            await have_effect(ctx, event)
            begun.set()
            await asyncio.sleep(60)

        async with working(never_end, number=50, transport=await carrier.transport()) as stopped:
            await relay_facts("a")
            async with asyncio.timeout(30):
                await begun.wait()
            await stopped.stop(within_s=0.05)
        await start(have_effect)
        await all_finished()
        assert await effects() == ["a"], "what was undone is done by another worker, once"
        row = await fetchrow("select attempts, charged, state from core.delivery")
        assert tuple(row) == (2, 1, "delivered")

    async def test_a_late_predecessor_holds_up_its_key_only(self, start: Start) -> None:
        goes_on = asyncio.Event()

        async def wait_for_the_first(ctx: Context, event: StoredEvent) -> None:
            if event.position == 1:
                await goes_on.wait()
            await have_effect(ctx, event)

        await start(wait_for_the_first)
        await relay_facts("slow", "slow", "slow", "quick")
        async with asyncio.timeout(30):
            while await effects() != ["quick"]:
                await asyncio.sleep(0.01)
        assert await fetchval("select count(*) from core.delivery where state = 'pending'") == 2
        goes_on.set()
        await all_finished()
        assert await effects() == ["quick", "slow", "slow", "slow"]

    async def test_is_named_in_nothing_that_the_ledger_keeps(self, start: Start) -> None:
        await start(have_effect)
        await relay_facts("a")
        await all_finished()
        row = await fetchrow("select subscription, state, worker, lease_until, last_error from core.delivery")
        assert tuple(row) == (LANE, "delivered", None, None, None)


class TestATake:
    async def test_brings_no_more_in_all_than_is_asked_for(self, carrier: Carrier) -> None:
        transport = await carrier.transport()
        with transport.work_signal():
            await relay_facts(*(f"S-{n}" for n in range(9)))
            poke(Channel.STREAM)
            sizes: list[int] = []
            async with asyncio.timeout(20):
                while sum(sizes) < 9:
                    held = await transport.take({LANE: 9}, worker=1, at_most=4)
                    sizes += [len(held)] if held else []
                    for each in held:
                        transport.done(each)
                    await asyncio.sleep(0.01)
        assert max(sizes) <= 4
