"""A handler that fails with everything: its events wait for the plugin. One that fails with some: those are parked."""

import asyncio
from datetime import timedelta

import pytest

from busbar.auth.actor import Context
from busbar.bus.handlers import ATTEMPTS_MAX
from busbar.bus.suspension import SUSPENDED_AFTER, WAIT_S_MAX
from busbar.bus.tests.lab import LANE, all_finished, effects, have_effect, relay_facts, working
from busbar.db import execute, fetch
from busbar.errors import RuleViolated
from busbar.events import standing_orders
from busbar.events.envelope import StoredEvent
from busbar.events.tests.facts import a_subscription
from busbar.kit.clock import utc_now

MANY = [f"s-{n}" for n in range(3 * SUSPENDED_AFTER)]


@pytest.fixture(autouse=True)
async def _quick(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Suspended lanes try every few moments, and the subscription is known, as after a start."""
    monkeypatch.setattr("busbar.bus.suspension.TRY_EVERY_S", 0.02)
    monkeypatch.setattr("busbar.bus.worker.POLL_S", 0.02)
    await standing_orders.keep([a_subscription(LANE)], modules=["tst"])


class Plugin:
    """Its handler fails with these subjects, or with all, until it is mended."""

    def __init__(self, *bad: str) -> None:
        self.bad = bad
        self.broken = not bad
        self.calls = 0

    async def handle(self, ctx: Context, event: StoredEvent) -> None:
        self.calls += 1
        await have_effect(ctx, event)
        if self.broken or event.subject in self.bad:
            raise KeyError(event.subject)

    async def called(self, times: int) -> None:
        async with asyncio.timeout(30):
            while self.calls < times:
                await asyncio.sleep(0.01)


async def states() -> dict[str, int]:
    rows = await fetch("select state, count(*) as count from core.delivery group by state")
    return {row["state"]: row["count"] for row in rows}


class TestAHandlerThatFailsWithEverything:
    async def test_parks_nothing_and_catches_up_when_it_is_mended(self) -> None:
        plugin = Plugin()
        async with working(plugin.handle):
            await relay_facts(*MANY)
            await plugin.called(2 * ATTEMPTS_MAX * len(MANY))
            assert "dead" not in await states()
            plugin.broken = False
            await all_finished()
        assert sorted(await effects()) == sorted(MANY)
        assert await states() == {"delivered": len(MANY)}

    async def test_is_shown_until_it_is_mended(self) -> None:
        plugin = Plugin()
        async with working(plugin.handle):
            await relay_facts(*MANY)
            await plugin.called(2 * len(MANY))
            (suspended,) = await standing_orders.suspended()
            assert (suspended.name, suspended.module) == (LANE, "tst")
            assert suspended.detail.startswith("KeyError(")
            plugin.broken = False
            await all_finished()
        assert await standing_orders.suspended() == []

    async def test_is_tried_again_within_a_minute_for_each(self) -> None:
        plugin = Plugin()
        async with working(plugin.handle, clock=utc_now):
            await relay_facts(*MANY)
            await execute("update core.delivery set attempts = 40")
            await plugin.called(len(MANY))
        uncharged = await fetch("select next_attempt_at from core.delivery where state = 'retrying' and charged = 0")
        assert len(uncharged) > len(MANY) / 2
        assert max(row["next_attempt_at"] for row in uncharged) < utc_now() + timedelta(seconds=WAIT_S_MAX)

    async def test_is_tried_slowly(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("busbar.bus.suspension.TRY_EVERY_S", 60.0)
        plugin = Plugin()
        async with working(plugin.handle):
            await relay_facts(*(f"s-{n}" for n in range(100)))
            await plugin.called(SUSPENDED_AFTER)
            await asyncio.sleep(0.5)
        assert plugin.calls < 50

    async def test_begins_anew_with_the_process(self) -> None:
        await standing_orders.suspend(LANE, since=utc_now(), detail="of yore")
        await standing_orders.keep([a_subscription(LANE)], modules=["tst"])
        assert await standing_orders.suspended() == []


class TestPoison:
    async def test_in_a_heap_is_passed_and_then_parked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("busbar.bus.handlers.delay_s", lambda *_, **__: 0.05)
        bad, good = MANY, ["good-1", "good-2"]
        async with working(Plugin(*bad).handle, clock=utc_now):
            await relay_facts(*bad, *good)
            await good_come_steadily(until_dead=len(bad))
            await all_finished()
        assert {"good-1", "good-2"} <= set(await effects())
        assert (await states())["dead"] == len(bad)
        assert await standing_orders.suspended() == []

    async def test_alone_is_parked_after_its_attempts(self) -> None:
        bad = MANY[: SUSPENDED_AFTER - 1]
        async with working(Plugin(*bad).handle):
            await relay_facts(*bad)
            await all_finished()
        assert await states() == {"dead": len(bad)}


class TestARuleThatSaysNo:
    async def test_suspends_nothing(self) -> None:
        async def refuse(ctx: Context, event: StoredEvent) -> None:
            raise RuleViolated("The cost center is closed.")

        async with working(refuse):
            await relay_facts(*MANY)
            await all_finished()
        assert await states() == {"dead": len(MANY)}
        assert await standing_orders.suspended() == []


async def good_come_steadily(*, until_dead: int) -> None:
    """Good events among the bad ones, until those have used up their attempts."""
    for n in range(500):
        await relay_facts(f"steady-{n}")
        await asyncio.sleep(0.01)
        if (await states()).get("dead", 0) == until_dead:
            return
    raise AssertionError("the bad ones were not parked")
