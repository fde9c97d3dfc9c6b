"""Calls of plans happen exactly once: with several runners at once, and when one dies half-way."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest

from busbar.bus.jobs import run_if_due
from busbar.db import DATABASE_TROUBLE
from busbar.sdk import Context, StoredEvent, execute, fetch, fetchval, system_actor, transaction, uuid7
from busbar.testing.plugins import add_site
from busbar_pm import plan_calls, plans
from busbar_pm.assets import AssetFields
from busbar_pm.assets import create as add_asset
from busbar_pm.automation import JOBS
from busbar_pm.events import IncidentFacts, PmTicketCreated
from busbar_pm.incidents import NewIncident, report
from busbar_pm.plan_triggers import Calendar, IncidentTrigger, Trigger
from busbar_pm.plans import OrderTemplate, PlanFields

TODAY = date(2027, 3, 10)
MONTHLY = Calendar(every=1, unit="months", first_due=TODAY)


class Died(BaseException):
    """The process is gone, here and now."""


def at(day: date) -> Context:
    moment = datetime.combine(day, datetime.min.time(), tzinfo=UTC)
    return Context(actor=system_actor("pm"), correlation_id=f"job-{uuid7()}", clock=lambda: moment)


async def add(ctx: Context, trigger: Trigger = MONTHLY, **fields: Any) -> UUID:
    await add_asset(ctx, asset_id=None, site_id="north", fields=AssetFields(asset_type="feeder", name="F"))
    asset_id = await fetchval("select max(asset_id) from pm.asset where site_id = 'north'")
    template = OrderTemplate(order_type="preventive", description="Walk the line")
    given = {"name": "P", "asset_id": asset_id, "trigger": trigger, "template": template} | fields
    return await plans.create(ctx, PlanFields(**given))


async def state() -> tuple[int, int, int, int]:
    tables = ("pm.maintenance_call", "pm.maintenance_order", "core.ticket", "core.event")
    return tuple([await fetchval(f"select count(*) from {table}") for table in tables])  # type: ignore[return-value]


async def calls() -> list[tuple[Any, ...]]:
    sql = "select c.number, c.due_date, c.covered, o.scheduled_date from pm.maintenance_call c "
    return [tuple(row) for row in await fetch(f"{sql} join pm.maintenance_order o using (order_id) order by number")]


class TestACalendarPlan:
    async def test_opens_an_order_for_each_due_date_before_it(self, ctx: Context) -> None:
        plan_id = await add(ctx, lead_days=7)
        for day in (date(2027, 3, 2), date(2027, 3, 3), date(2027, 3, 4), date(2027, 4, 2), date(2027, 4, 3)):
            await plan_calls.call_calendar_plans(at(day))
        assert await calls() == [
            (1, date(2027, 3, 10), 0, date(2027, 3, 10)),
            (2, date(2027, 4, 10), 0, date(2027, 4, 10)),
        ]
        sql = "select next_due from pm.maintenance_plan where plan_id = $1"
        assert await fetchval(sql, plan_id) == date(2027, 5, 10)

    async def test_opens_one_order_for_all_dates_that_passed_meanwhile(self, ctx: Context) -> None:
        await add(ctx)
        await plan_calls.call_calendar_plans(at(date(2027, 6, 30)))
        assert await calls() == [(1, date(2027, 6, 10), 3, date(2027, 6, 10))]

    async def test_makes_up_for_nothing_after_it_rested(self, ctx: Context) -> None:
        plan_id = await add(ctx, active=False)
        await plan_calls.call_calendar_plans(at(date(2027, 6, 1)))
        await plans.set_active(at(date(2027, 6, 30)), plan_id, active=True)
        await plan_calls.call_calendar_plans(at(date(2027, 6, 30)))
        assert await calls() == []
        await plan_calls.call_calendar_plans(at(date(2027, 7, 10)))
        assert await calls() == [(1, date(2027, 7, 10), 0, date(2027, 7, 10))]

    async def test_of_a_site_without_the_module_waits(self, ctx: Context) -> None:
        await add(ctx)
        await add_site("north")
        await plan_calls.call_calendar_plans(at(TODAY))
        assert await calls() == []
        await add_site("north", "pm")
        await plan_calls.call_calendar_plans(at(TODAY))
        assert len(await calls()) == 1

    async def test_is_called_although_another_one_cannot_be(self, ctx: Context, monkeypatch: Any) -> None:
        broken, fine = await add(ctx), await add(ctx)
        whole = plan_calls.call_calendar_plan

        async def some(ctx: Context, plan_id: UUID) -> Any:
            if plan_id == broken:
                raise plan_calls.RuleViolated("The asset was sold.")
            return await whole(ctx, plan_id)

        monkeypatch.setattr(plan_calls, "call_calendar_plan", some)
        with pytest.raises(plan_calls.RuleViolated, match=r"1 maintenance plans could not be called; .*was sold"):
            await plan_calls.call_calendar_plans(at(TODAY))
        assert [row[0] for row in await fetch("select plan_id from pm.maintenance_call")] == [fine]


class TestTwoRunners:
    async def test_open_each_due_order_once(self, ctx: Context) -> None:
        for _ in range(6):
            await add(ctx)
        await asyncio.gather(*(plan_calls.call_calendar_plans(at(TODAY)) for _ in range(4)))
        assert await fetchval("select count(*) from pm.maintenance_call") == 6
        assert await fetchval("select count(*) from pm.maintenance_order") == 6
        assert await fetchval("select count(distinct plan_id) from pm.maintenance_order") == 6

    async def test_run_the_job_one_after_the_other(self, ctx: Context) -> None:
        await add(ctx, trigger=msgspec.structs.replace(MONTHLY, first_due=date(2020, 1, 1)))
        (job,) = JOBS
        now = datetime.now(UTC)
        await execute("insert into core.job (name, next_run_at) values ($1, $2)", job.name, now)
        ran = await asyncio.gather(*(run_if_due(job, clock=lambda: now) for _ in range(3)))
        assert sorted(ran) == [False, False, True]
        assert len(await calls()) == 1


class TestARunnerThatDies:
    @pytest.mark.parametrize("where", ["plan", "execute"])
    async def test_before_the_commit_leaves_nothing_and_the_next_one_calls(
        self, ctx: Context, monkeypatch: Any, where: str
    ) -> None:
        await add(ctx)
        before = await state()
        whole: Callable[..., Awaitable[Any]] = getattr(plan_calls, where)

        async def die_after(*args: Any, **named: Any) -> Any:
            await whole(*args, **named)
            raise Died

        monkeypatch.setattr(plan_calls, where, die_after)
        with pytest.raises(Died):
            await plan_calls.call_calendar_plans(at(TODAY))
        monkeypatch.setattr(plan_calls, where, whole)
        assert await state() == before
        await plan_calls.call_calendar_plans(at(TODAY))
        assert len(await calls()) == 1

    async def test_after_the_commit_is_followed_by_one_that_calls_only_the_rest(
        self, ctx: Context, monkeypatch: Any
    ) -> None:
        for _ in range(3):
            await add(ctx)
        whole, called = plan_calls.call_calendar_plan, []

        async def die_after_the_second(ctx: Context, plan_id: UUID) -> Any:
            called.append(await whole(ctx, plan_id))
            if len(called) == 2:
                raise Died
            return called[-1]

        monkeypatch.setattr(plan_calls, "call_calendar_plan", die_after_the_second)
        with pytest.raises(Died):
            await plan_calls.call_calendar_plans(at(TODAY))
        monkeypatch.setattr(plan_calls, "call_calendar_plan", whole)
        await plan_calls.call_calendar_plans(at(TODAY))
        await plan_calls.call_calendar_plans(at(TODAY))
        assert await fetchval("select count(*) from pm.maintenance_order") == 3

    async def test_cannot_note_a_number_twice_even_without_the_lock(self, ctx: Context) -> None:
        plan_id = await add(ctx)
        await plan_calls.call_calendar_plans(at(TODAY))
        sql = "update pm.maintenance_plan set calls = 0, next_due = $2 where plan_id = $1"
        await execute(sql, plan_id, TODAY)
        before = await state()
        with pytest.raises(DATABASE_TROUBLE, match="call_number_once"):
            await plan_calls.call_calendar_plans(at(TODAY))
        assert await state() == before


class Runner:
    """A process of its own that calls the plans that are due today."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @classmethod
    async def start(cls, dsn: str) -> "Runner":
        command = (sys.executable, "-m", "busbar_pm.tests.plan_runner", dsn, TODAY.isoformat())
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        runner = cls(process)
        await runner.says("ready")
        return runner

    async def says(self, word: str) -> None:
        assert self.process.stdout is not None
        async with asyncio.timeout(30):
            assert (await self.process.stdout.readline()).decode().strip() == word

    async def kill(self) -> None:
        self.process.kill()
        await self.process.wait()


_WAITING = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"


@pytest.mark.slow
class TestAProcessThatIsKilled:
    async def test_in_the_middle_of_a_call_leaves_it_to_two_others_who_call_once_each(
        self, ctx: Context, database: str
    ) -> None:
        for _ in range(12):
            await add(ctx)
        counter = "insert into core.ticket_counter (module, day, last) values ('pm', $1, 0)"
        await execute(counter, TODAY)
        async with transaction():
            # Whoever opens a ticket waits for this row, in the middle of the transaction of the call.
            await fetch("select * from core.ticket_counter where day = $1 for update", TODAY)
            killed = await Runner.start(database)
            async with asyncio.timeout(30):
                while await fetchval(_WAITING) == 0:
                    await asyncio.sleep(0.02)
            await killed.kill()
        runners = await asyncio.gather(Runner.start(database), Runner.start(database))
        for runner in runners:
            await runner.says("done")
            assert await runner.process.wait() == 0
        once = "select count(*), count(distinct plan_id) from pm."
        for table in ("maintenance_call", "maintenance_order"):
            (row,) = await fetch(once + table)
            assert tuple(row) == (12, 12), table
        tickets = [row[0] for row in await fetch("select ticket_id from core.ticket order by ticket_id")]
        assert [int(ticket_id[-4:]) for ticket_id in tickets] == list(range(1, 13))


def told(incident_id: UUID, asset_id: str, **fields: Any) -> StoredEvent:
    facts = {
        "incident_id": str(incident_id), "asset_id": asset_id, "asset_name": "F", "asset_type": "feeder",
        "fault_type": "fault", "severity": "P1", "started_at": datetime(2027, 3, 10, tzinfo=UTC),
        "customers_affected": 0, "latitude": None, "longitude": None,
    }  # fmt: skip
    created = PmTicketCreated(
        ticket_id="T", site="north", ticket_type="Incident", title="t", description="d", priority="P1", status="Open",
        created_at=datetime(2027, 3, 10, tzinfo=UTC), sla_deadline=datetime(2027, 3, 10, tzinfo=UTC),
        created_by="erna", incident=IncidentFacts(**(facts | fields)),
    )  # fmt: skip
    return StoredEvent(
        event_id=uuid7(), event_type="PM_TICKET_CREATED", module="pm", site_id="north", subject="T",
        time=datetime(2027, 3, 10, tzinfo=UTC), data=msgspec.Raw(msgspec.json.encode(created)), schema_version=1,
        correlation_id="chain", traceparent=None, actor_id="erna", origin=None,
    )  # fmt: skip


class TestAnIncident:
    async def test_told_twice_and_at_once_opens_one_order(self, ctx: Context) -> None:
        await add(ctx, trigger=IncidentTrigger())
        asset_id = await fetchval("select asset_id from pm.asset")
        incident_id = await self._report(ctx, asset_id)

        async def handle() -> None:
            async with transaction():
                await plan_calls.follow_incident(at(TODAY), told(incident_id, asset_id))

        await asyncio.gather(handle(), handle(), handle())
        await handle()
        assert len(await calls()) == 1
        assert await fetchval("select incident_id from pm.maintenance_order") == incident_id

    async def test_that_was_over_when_it_was_reported_opens_none(self, ctx: Context) -> None:
        await add(ctx, trigger=IncidentTrigger())
        asset_id = await fetchval("select asset_id from pm.asset")
        over = told(await self._report(ctx, asset_id), asset_id, restored_at=datetime(2027, 3, 11, tzinfo=UTC))
        async with transaction():
            await plan_calls.follow_incident(at(TODAY), over)
        assert await calls() == []

    async def _report(self, ctx: Context, asset_id: str) -> UUID:
        new = NewIncident(asset_id=asset_id, fault_type="fault", severity="P1", description="x")
        return UUID((await report(ctx, new)).incident_id)


class TestThePeriodBetween:
    async def test_a_lead_time_longer_than_the_cycle_still_calls_each_date_once(self, ctx: Context) -> None:
        weekly = Calendar(every=1, unit="weeks", first_due=TODAY)
        await add(ctx, trigger=weekly, lead_days=30)
        for days in range(-40, 15):
            await plan_calls.call_calendar_plans(at(TODAY + timedelta(days=days)))
        due = [(row[1], row[2]) for row in await calls()]
        assert due == [(TODAY + timedelta(weeks=n), 0) for n in range(len(due))]
        assert len(due) == 7
