"""The worker and deliveries that have lost their worker before: each is tried with nothing else at work."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from busbar.bus import worker
from busbar.bus.embedded import EmbeddedTransport
from busbar.bus.worker import Worker
from busbar.db import execute, fetchval, spawn
from busbar.db.wakeup import Channel, poke
from busbar.events.ledger import Claimed, Outcome
from busbar.events.tests.facts import a_relay, a_subscription, tell

pytestmark = pytest.mark.usefixtures("database")

LANE = "tst.reader"
RISKY, USUAL = 4, 40


class SlowLane:
    """Takes a moment for each delivery, and notes what is under way at the same time."""

    def __init__(self) -> None:
        self.running: set[int] = set()
        self.beside: dict[int, set[int]] = {}
        """By delivery, all that ran at some time with it."""
        self.paused = False

    def free(self, running: int) -> int:
        return 0 if self.paused else 16 - running

    async def attempt(self, held: Claimed) -> Outcome:
        self.running.add(held.delivery_id)
        for one in self.running:
            self.beside.setdefault(one, set()).update(self.running)
        await asyncio.sleep(0.02)
        self.running.remove(held.delivery_id)
        return Outcome(state="delivered")


@pytest.fixture
def lane() -> SlowLane:
    return SlowLane()


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "RISKY_S", 0.05)
    monkeypatch.setattr(worker, "POLL_S", 0.05)


@asynccontextmanager
async def working(lane: SlowLane) -> AsyncIterator[None]:
    """A worker, for the time of the block."""
    running = Worker(EmbeddedTransport(), lambda: {LANE: lane}, number=1)
    task = spawn(running.run(), name="worker", pool="background")
    try:
        yield
    finally:
        await running.stop(within_s=2)
        task.cancel()
        await asyncio.wait({task})


async def add(count: int, word: str = "S") -> None:
    for n in range(count):
        await tell(n, subject=f"{word}-{n}")
    await a_relay(a_subscription(LANE)).move_batch()
    poke(Channel.DELIVERIES)


async def until_delivered(count: int) -> None:
    async with asyncio.timeout(30):
        while await fetchval("select count(*) from core.delivery where state = 'delivered'") < count:
            await asyncio.sleep(0.02)


class TestAWorker:
    async def test_tries_risky_deliveries_alone_beside_a_steady_stream_of_others(self, lane: SlowLane) -> None:
        await add(RISKY + USUAL)
        ids = "select array_agg(delivery_id) from core.delivery where lost > 0"
        await execute(f"update core.delivery set lost = 2 where position % {(RISKY + USUAL) // RISKY} = 0")
        risky = set(await fetchval(ids))
        assert len(risky) == RISKY
        async with working(lane):
            await until_delivered(RISKY + USUAL)
        assert {one: lane.beside[one] for one in risky} == {one: {one} for one in risky}
        usual = [beside for one, beside in lane.beside.items() if one not in risky]
        assert max(len(beside) for beside in usual) > 1

    async def test_does_not_stop_others_for_a_risky_delivery_that_cannot_be_tried(self, lane: SlowLane) -> None:
        await add(2)
        await execute("update core.delivery set lost = 2, next_attempt_at = now() + interval '1 h' where position = 1")
        async with working(lane):
            await until_delivered(1)
            await add(USUAL, "OTHER")
            await until_delivered(1 + USUAL)
        assert max(len(beside) for beside in lane.beside.values()) > 1
        assert await fetchval("select state from core.delivery where position = 1") == "pending"
