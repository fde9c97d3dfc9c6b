"""Deliveries of a handler that share a transaction: earned by good work, undone as a whole, and never felt outside."""

import asyncio
from collections import Counter
from collections.abc import Iterator

import pytest

from busbar.auth.actor import Context
from busbar.bus import handlers
from busbar.bus.tests.lab import all_finished, effects, have_effect, relay_facts, working
from busbar.db import execute, fetch, fetchval, spawn, transaction
from busbar.errors import RuleViolated
from busbar.events.envelope import StoredEvent
from busbar.observability.correlation import correlation_id_var


@pytest.fixture(autouse=True)
def soon_trusted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(handlers, "TRUSTED_AFTER", 4)
    monkeypatch.setattr(handlers, "QUICK_S", 60.0)
    yield


async def have_effect_and_name_the_transaction(ctx: Context, event: StoredEvent) -> None:
    await have_effect(ctx, event)
    await execute("insert into public.named (subject, xid) values ($1, txid_current())", event.subject)


@pytest.fixture(autouse=True)
async def named(effect_table: None) -> None:
    await execute("create table public.named (subject text, xid bigint)")


async def earn_trust() -> None:
    """Have a few handled one by one; what is told afterwards at one time is taken, and handled, together."""
    await relay_facts(*(f"earning-{n}" for n in range(8)))
    await all_finished()
    await execute("truncate public.named, public.effect, core.delivery_attempt")


async def transactions() -> list[int]:
    """How many deliveries each transaction had, largest first."""
    rows = await fetch("select count(*) as n from public.named group by xid order by n desc")
    return [row["n"] for row in rows]


class TestDeliveriesThatWaitTogether:
    async def test_share_transactions_once_the_lane_has_done_well(self) -> None:
        async with working(have_effect_and_name_the_transaction):
            await earn_trust()
            await relay_facts(*(f"S-{n}" for n in range(60)))
            await all_finished()
        assert sorted(await effects()) == sorted(f"S-{n}" for n in range(60))
        shared = await transactions()
        assert sum(shared) == 60
        assert shared[0] > 1
        assert await fetchval("select count(*) from core.delivery_attempt where outcome = 'delivered'") == 60

    async def test_do_not_before_that(self) -> None:
        async with working(have_effect_and_name_the_transaction):
            await relay_facts("a", "b", "c", "d")
            await all_finished()
        assert await transactions() == [1, 1, 1, 1]

    async def test_keep_each_its_own_correlation_id(self) -> None:
        seen: dict[str, tuple[str, str | None]] = {}

        async def note(ctx: Context, event: StoredEvent) -> None:
            await have_effect_and_name_the_transaction(ctx, event)
            seen[event.subject] = (ctx.correlation_id, correlation_id_var.get())

        async with working(note):
            await earn_trust()
            seen.clear()
            await relay_facts(*(f"S-{n}" for n in range(40)))
            await all_finished()
        assert (await transactions())[0] > 1
        assert seen == {f"S-{n}": (f"c-S-{n}", f"c-S-{n}") for n in range(40)}

    async def test_stop_sharing_when_others_would_wait_long_for_what_is_locked(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(handlers, "SHARED_S", 0.0)
        async with working(have_effect_and_name_the_transaction):
            await earn_trust()
            await relay_facts(*(f"S-{n}" for n in range(60)))
            await all_finished()
        assert sorted(await effects()) == sorted(f"S-{n}" for n in range(60))
        assert await transactions() == [1] * 60


class TestOneThatFails:
    async def test_is_parked_alone_and_the_others_have_their_effect_once(self) -> None:
        async def refuse_one(ctx: Context, event: StoredEvent) -> None:
            await have_effect_and_name_the_transaction(ctx, event)
            if event.subject == "S-30":
                raise RuleViolated("not this one")

        async with working(refuse_one):
            await earn_trust()
            await relay_facts(*(f"S-{n}" for n in range(60)))
            await all_finished()
        assert sorted(await effects()) == sorted(f"S-{n}" for n in range(60) if n != 30)
        (dead,) = await fetch(
            "select e.subject, d.attempts, d.last_error from core.delivery d join core.event e using (event_id) "
            "where d.state = 'dead'"
        )
        assert tuple(dead) == ("S-30", 1, "BUS_002: not this one")

    async def test_takes_the_trust_away(self) -> None:
        async def refuse_first(ctx: Context, event: StoredEvent) -> None:
            await have_effect_and_name_the_transaction(ctx, event)
            if event.subject.startswith("bad"):
                raise RuleViolated("not this one")

        async with working(refuse_first):
            await earn_trust()
            await relay_facts("bad-1", "bad-2", "good-1", "good-2", "good-3")
            await all_finished()
        assert await transactions() == [1, 1, 1]

    async def test_waits_for_a_lock_only_alone(self) -> None:
        # Several deliveries together hold several locks, in no order: two such could wait for each other.
        await execute("create table public.wanted (subject text primary key, n int)")
        await execute("insert into public.wanted select 'S-' || n, 0 from generate_series(0, 39) n")

        async def count(ctx: Context, event: StoredEvent) -> None:
            await have_effect_and_name_the_transaction(ctx, event)
            await execute("update public.wanted set n = n + 1 where subject = $1", event.subject)

        async def hold_a_lock(begun: asyncio.Event) -> None:
            async with transaction():
                await execute("update public.wanted set n = 0 where subject = 'S-39'")
                begun.set()
                await asyncio.sleep(0.5)

        begun = asyncio.Event()
        holding = asyncio.ensure_future(hold_a_lock(begun))
        await begun.wait()
        async with working(count):
            await relay_facts(*(f"S-{n}" for n in range(40)))
            async with asyncio.timeout(30):
                while await fetchval("select count(*) from core.delivery where state = 'delivered'") < 39:
                    await asyncio.sleep(0.01)
            await holding
            await all_finished()
        counted = Counter({row["subject"]: row["n"] for row in await fetch("select * from public.wanted")})
        assert counted == {f"S-{n}": 1 for n in range(40)}

    async def test_lets_the_others_be_given_back_when_they_cannot_begin_soon(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(handlers, "TURN_S", 0.02)
        failed = asyncio.Event()

        async def fail_one_and_be_slow(ctx: Context, event: StoredEvent) -> None:
            await have_effect_and_name_the_transaction(ctx, event)
            if event.subject == "S-30" and not failed.is_set():
                failed.set()
                raise RuleViolated("not this one, not now")
            if failed.is_set():
                await asyncio.sleep(0.1)

        async with working(fail_one_and_be_slow):
            await earn_trust()
            await relay_facts(*(f"S-{n}" for n in range(60)))
            await all_finished()
        assert sorted(await effects()) == sorted(f"S-{n}" for n in range(60)), "each has its effect once"
        given_back = await fetch("select detail from core.delivery_attempt where outcome = 'pending'")
        assert {row["detail"] for row in given_back} == {"given back: its turn did not come in time"}

    async def test_that_is_slow_takes_the_trust_away(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(handlers, "QUICK_S", 0.0)
        async with working(have_effect_and_name_the_transaction):
            await relay_facts(*(f"S-{n}" for n in range(40)))
            await all_finished()
        assert await transactions() == [1] * 40

    async def test_whose_attempt_was_taken_over_undoes_all_of_them(self) -> None:
        stolen = asyncio.Event()

        async def lose_one(ctx: Context, event: StoredEvent) -> None:
            await have_effect_and_name_the_transaction(ctx, event)
            if event.subject == "S-20" and not stolen.is_set():
                stolen.set()
                await _steal(event)

        async with working(lose_one):
            await earn_trust()
            await relay_facts(*(f"S-{n}" for n in range(40)))
            await all_finished()
        assert sorted(await effects()) == sorted(f"S-{n}" for n in range(40)), "each has its effect once"


async def _steal(event: StoredEvent) -> None:
    """What the reconciler does with an attempt whose worker seems gone; on a connection of its own."""
    await spawn(
        execute(
            "update core.delivery set state = 'retrying', worker = null, attempts = attempts + 1 where event_id = $1",
            event.event_id,
        ),
        name="steal",
    )
