"""How a handler's attempt may fail: whose fault it is, when it is tried again, and when it is given up."""

import asyncio
import itertools
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from busbar.auth.actor import Context
from busbar.bus import handlers
from busbar.bus.handlers import ATTEMPTS_MAX
from busbar.bus.tests.lab import all_finished, effects, have_effect, relay_facts, working
from busbar.db import execute, fetch, fetchrow, fetchval
from busbar.db.wakeup import Channel, poke
from busbar.errors import Conflict, NotFound, RuleViolated, Unavailable
from busbar.events.envelope import StoredEvent

LATER = datetime(2100, 1, 1, tzinfo=UTC)
"""A clock that shows this makes no retry due by itself."""


async def told_attempts(count: int) -> list[asyncpg.Record]:
    """The attempts, once there are so many."""
    async with asyncio.timeout(30):
        while len(rows := await fetch("select * from core.delivery_attempt order by id")) < count:
            await asyncio.sleep(0.01)
    return rows


class TestUnknownFailure:
    async def test_is_tried_again_later_and_later_then_parked(self) -> None:
        async def fail(ctx: Context, event: StoredEvent) -> None:
            await have_effect(ctx, event)
            raise LookupError("no such column")

        async with working(fail, clock=lambda: LATER):
            await relay_facts("a")
            for attempt in range(1, ATTEMPTS_MAX):
                await told_attempts(attempt)
                row = await fetchrow("select state, attempts, charged, last_error, next_attempt_at from core.delivery")
                assert tuple(row)[:4] == ("retrying", attempt, attempt, "LookupError('no such column')")
                whole_s = 0.5 * 2 ** (attempt - 1)
                wait = row["next_attempt_at"] - LATER
                assert timedelta(seconds=whole_s / 2) <= wait <= timedelta(seconds=whole_s)
                await execute("update core.delivery set next_attempt_at = now()")
                poke(Channel.DELIVERIES)
            await all_finished()
        row = await fetchrow("select state, attempts, last_error from core.delivery")
        assert tuple(row) == ("dead", ATTEMPTS_MAX, "LookupError('no such column')")
        assert await effects() == [], "the effect goes with the attempt"

    @pytest.mark.parametrize(
        "statement",
        [
            "select 1 / 0",
            "insert into public.effect (subject) values (null)",
            "select no_such_column",
            "select pg_sleep('x')",
        ],
    )
    async def test_of_a_statement_is_the_handlers_own_fault(self, statement: str) -> None:
        async def ask_wrongly(ctx: Context, event: StoredEvent) -> None:
            await execute(statement)

        async with working(ask_wrongly):
            await relay_facts("a")
            await all_finished()
        assert tuple(await fetchrow("select state, attempts from core.delivery")) == ("dead", ATTEMPTS_MAX)

    async def test_of_arguments_or_files_is_the_handlers_own_fault(self, tmp_path: Path) -> None:
        # Both look like trouble with a connection: asyncpg's InterfaceError, and an OSError.
        async def stumble(ctx: Context, event: StoredEvent) -> None:
            if event.subject == "arguments":
                await execute("select $1::int", 1, 2)
            (tmp_path / "missing").read_bytes()

        async with working(stumble):
            await relay_facts("arguments", "file")
            await all_finished()
        rows = await fetch("select state, attempts from core.delivery")
        assert [tuple(row) for row in rows] == [("dead", ATTEMPTS_MAX)] * 2


class TestHandlerThatHangs:
    async def test_is_ended_in_time_and_parked_in_the_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(handlers, "TIMEOUT_S", 0.05)

        async def hang(ctx: Context, event: StoredEvent) -> None:
            await have_effect(ctx, event)
            await asyncio.Event().wait()

        async with working(hang):
            await relay_facts("a")
            await all_finished()
        row = await fetchrow("select state, attempts, last_error from core.delivery")
        assert tuple(row) == ("dead", ATTEMPTS_MAX, "took longer than 0.05 s")
        assert await effects() == []


class TestRule:
    @pytest.mark.parametrize(
        ("refusal", "told"),
        [
            (RuleViolated("The cost center is closed."), "BUS_002: The cost center is closed."),
            (NotFound("There is no asset X."), "RES_001: There is no asset X."),
            (Conflict("There is one already."), "RES_002: There is one already."),
        ],
    )
    async def test_that_says_no_parks_it_at_once_with_its_sentence(self, refusal: Exception, told: str) -> None:
        async def refuse(ctx: Context, event: StoredEvent) -> None:
            await have_effect(ctx, event)
            raise refusal

        async with working(refuse):
            await relay_facts("a")
            await all_finished()
        row = await fetchrow("select state, attempts, last_error, finished_at is not null from core.delivery")
        assert tuple(row) == ("dead", 1, told, True)
        assert await effects() == []


class TestTroubleWithTheDatabase:
    async def test_in_the_middle_costs_no_attempt_and_doubles_no_effect(self) -> None:
        passes = itertools.count(1)

        async def lose_connection(ctx: Context, event: StoredEvent) -> None:
            await have_effect(ctx, event)
            if next(passes) <= ATTEMPTS_MAX + 2:
                await fetchval("select pg_terminate_backend(pg_backend_pid())")

        async with working(lose_connection):
            await relay_facts("a")
            await all_finished()
        row = await fetchrow("select state, attempts, charged from core.delivery")
        assert tuple(row) == ("delivered", ATTEMPTS_MAX + 3, 1), "only the attempt that succeeded counts"
        assert await effects() == ["a"]
        outcomes = await fetch("select outcome, detail from core.delivery_attempt order by id")
        assert [each["outcome"] for each in outcomes] == ["retrying"] * (ATTEMPTS_MAX + 2) + ["delivered"]
        assert all(each["detail"].startswith("database: ") for each in outcomes[:-1])

    async def test_that_makes_something_unavailable_costs_none_either(self) -> None:
        passes = itertools.count(1)

        async def busy(ctx: Context, event: StoredEvent) -> None:
            if next(passes) <= ATTEMPTS_MAX + 2:
                raise Unavailable("The database is busy.")
            await have_effect(ctx, event)

        async with working(busy):
            await relay_facts("a")
            await all_finished()
        assert await effects() == ["a"]
        assert await fetchval("select charged from core.delivery") == 1
        detail = await fetchval("select distinct detail from core.delivery_attempt where outcome = 'retrying'")
        assert detail == "The database is busy."


class TestOrder:
    async def test_within_a_subject_is_kept_while_attempts_fail_and_subjects_overtake_each_other(self) -> None:
        tried: Counter[tuple[str, int]] = Counter()
        order: dict[str, list[int]] = defaultdict(list)

        async def stumble(ctx: Context, event: StoredEvent) -> None:
            assert event.position is not None
            tried[event.subject, event.position] += 1
            if tried[event.subject, event.position] <= event.position % 3:
                raise LookupError("not yet")
            await have_effect(ctx, event)
            order[event.subject].append(event.position)

        async with working(stumble):
            await relay_facts(*(f"S-{n % 5}" for n in range(60)))
            await all_finished()
        assert sum(map(len, order.values())) == 60
        assert all(positions == sorted(positions) for positions in order.values())
        assert await fetchval("select count(*) from public.effect") == 60
        assert await effects() != [f"S-{n % 5}" for n in range(60)], "subjects do not wait"


class TestStop:
    async def test_lets_finish_what_finishes_in_time_and_takes_nothing_new(self) -> None:
        started, go_on = asyncio.Event(), asyncio.Event()

        async def slow(ctx: Context, event: StoredEvent) -> None:
            started.set()
            await go_on.wait()
            await have_effect(ctx, event)

        async with working(slow) as worker:
            await relay_facts("a")
            await started.wait()
            stopping = asyncio.ensure_future(worker.stop(within_s=8))
            await relay_facts("b")
            go_on.set()
            await stopping
        rows = await fetch("select ordering_key, state, attempts from core.delivery order by position")
        assert [tuple(row) for row in rows] == [("a", "delivered", 1), ("b", "pending", 0)]
        assert await effects() == ["a"]

    async def test_lets_another_worker_take_at_once_what_was_given_back(self) -> None:
        started = asyncio.Event()

        async def endless(ctx: Context, event: StoredEvent) -> None:
            started.set()
            await asyncio.Event().wait()

        async with working(endless, number=1) as worker:
            await relay_facts("a")
            await started.wait()
            await worker.stop(within_s=0.01)
        async with working(have_effect, number=2):
            await all_finished()
        row = await fetchrow("select state, attempts, charged from core.delivery")
        assert (row["state"], row["attempts"]) == ("delivered", 2)
        assert await effects() == ["a"]
