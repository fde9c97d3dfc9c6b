"""Plugins' handlers with real workers on a real ledger: each effect once, poison parked, a lost worker replaced."""

import asyncio

from busbar.auth.actor import Context
from busbar.bus.handlers import ATTEMPTS_MAX
from busbar.bus.tests.lab import all_finished, have_effect, relay_facts, working
from busbar.db import execute, fetch, fetchrow, fetchval
from busbar.db.wakeup import Channel, poke
from busbar.errors import RuleViolated
from busbar.events import ledger
from busbar.events.envelope import StoredEvent


class TestHandler:
    async def test_has_its_effect_once_for_each_event_with_the_correlation_id_of_its_cause(self) -> None:
        async with working(have_effect):
            await relay_facts("a", "b", "c")
            await all_finished()
        rows = await fetch("select subject, correlation_id from public.effect order by 1")
        assert [tuple(row) for row in rows] == [("a", "c-a"), ("b", "c-b"), ("c", "c-c")]
        assert await fetchval("select count(*) from core.delivery where state = 'delivered'") == 3

    async def test_has_its_effect_once_when_it_fails_after_the_effect(self) -> None:
        failures = {"a": 2}

        async def stumble(ctx: Context, event: StoredEvent) -> None:
            await have_effect(ctx, event)
            if failures.get(event.subject, 0):
                failures[event.subject] -= 1
                raise ConnectionResetError("the process lost its breath before the commit")

        async with working(stumble):
            await relay_facts("a")
            await all_finished()
        assert await fetchval("select count(*) from public.effect") == 1
        rows = await fetch("select attempt, outcome from core.delivery_attempt order by id")
        assert [tuple(row) for row in rows] == [(1, "retrying"), (2, "retrying"), (3, "delivered")]

    async def test_of_a_worker_that_was_taken_for_dead_loses_its_effect(self) -> None:
        stuck, let_go = asyncio.Event(), asyncio.Event()

        async def slow(ctx: Context, event: StoredEvent) -> None:
            await have_effect(ctx, event)
            stuck.set()
            await let_go.wait()

        # Once stuck, the first worker takes nothing more: the second one has to.
        async with working(slow, number=1, quarantined=lambda name: stuck.is_set()):
            await relay_facts("a")
            await stuck.wait()
            await execute("update core.delivery set lease_until = now() - interval '1 s'")
            assert await ledger.take_over(set()) == 1
            async with working(have_effect, number=2):
                poke(Channel.DELIVERIES)
                await all_finished()
            let_go.set()
        assert await fetchval("select count(*) from public.effect") == 1
        row = await fetchrow("select state, attempts from core.delivery")
        assert tuple(row) == ("delivered", 2)
        outcomes = await fetch("select attempt, outcome, worker from core.delivery_attempt order by id")
        assert [tuple(row) for row in outcomes] == [(1, "lost", 1), (2, "delivered", 2)]

    async def test_that_always_fails_is_parked_after_its_attempts_while_others_flow(self) -> None:
        async def picky(ctx: Context, event: StoredEvent) -> None:
            if event.subject == "poison":
                raise ValueError("cannot digest this")
            await have_effect(ctx, event)

        async with working(picky):
            await relay_facts("a", "poison", "b", "poison", "c")
            await all_finished()
        rows = await fetch("select subject from public.effect order by 1")
        assert [row["subject"] for row in rows] == ["a", "b", "c"]
        dead = await fetch("select attempts, last_error from core.delivery where state = 'dead'")
        assert [tuple(row) for row in dead] == [(ATTEMPTS_MAX, "ValueError('cannot digest this')")] * 2

    async def test_whose_rule_says_no_is_parked_at_once(self) -> None:
        async def refuse(ctx: Context, event: StoredEvent) -> None:
            raise RuleViolated("The cost center is closed.")

        async with working(refuse):
            await relay_facts("a")
            await all_finished()
        row = await fetchrow("select state, attempts, last_error from core.delivery")
        assert tuple(row) == ("dead", 1, "BUS_002: The cost center is closed.")

    async def test_of_a_quarantined_plugin_waits_and_catches_up(self) -> None:
        quarantined = True
        async with working(have_effect, quarantined=lambda name: quarantined):
            await relay_facts("a", "b")
            await fetchval("select 1")
            assert await fetchval("select count(*) from core.delivery where state = 'pending'") == 2
            quarantined = False
            poke(Channel.DELIVERIES)
            await all_finished()
        assert await fetchval("select count(*) from public.effect") == 2


class TestStop:
    async def test_gives_back_what_does_not_finish_in_time(self) -> None:
        started = asyncio.Event()

        async def endless(ctx: Context, event: StoredEvent) -> None:
            await have_effect(ctx, event)
            started.set()
            await asyncio.Event().wait()

        async with working(endless) as worker:
            await relay_facts("a")
            await started.wait()
            await worker.stop(within_s=0.05)
        row = await fetchrow("select state, charged from core.delivery")
        assert tuple(row) == ("retrying", 0)
        assert await fetchval("select count(*) from public.effect") == 0
        assert await fetchval("select outcome from core.delivery_attempt") == "given_back"
