"""Scheduled jobs: one process at a time, again when it is time, and a failure that is kept and harms nobody."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta

import pytest
import structlog

from busbar.auth.actor import Context
from busbar.bus import jobs
from busbar.bus.jobs import (
    ERROR_CHARACTERS_MAX,
    TIMEOUT_S,
    Job,
    forget_jobs_but,
    register_job_metrics,
    run_if_due,
    run_job,
)
from busbar.db import end_tasks, execute, fetch, fetchrow, spawn
from busbar.kit.clock import utc_now
from busbar.observability.metrics import Reading
from busbar.tickets.tests.desk import HandClock


class Work:
    """A job that counts its runs."""

    def __init__(self, *, every_s: float = 60, then: Callable[[], Awaitable[None]] | None = None) -> None:
        self.contexts: list[Context] = []
        self._then = then
        self.job = Job(name="tst.count", module="tst", every_s=every_s, run=self._run)

    async def _run(self, ctx: Context) -> None:
        self.contexts.append(ctx)
        await execute("insert into public.effect (subject, correlation_id) values ('run', $1)", ctx.correlation_id)
        if self._then is not None:
            await self._then()


@pytest.fixture
async def clock() -> HandClock:
    clock = HandClock()
    await execute("insert into core.job (name, next_run_at) values ('tst.count', $1)", clock.now)
    return clock


async def row() -> tuple[object, ...]:
    found = await fetchrow("select next_run_at, last_run_at, last_error from core.job where name = 'tst.count'")
    assert found is not None
    return tuple(found)


class TestRun:
    async def test_comes_when_it_is_due_and_not_before(self, clock: HandClock) -> None:
        work = Work(every_s=60)
        assert await run_if_due(work.job, clock=clock)
        began = clock.now
        assert await row() == (began + timedelta(seconds=60), began, None)
        clock.advance(seconds=59)
        assert not await run_if_due(work.job, clock=clock)
        clock.advance(seconds=1)
        assert await run_if_due(work.job, clock=clock)
        assert len(work.contexts) == 2

    async def test_is_the_plugins_own_with_a_correlation_id_of_its_own(self, clock: HandClock) -> None:
        work = Work(every_s=0)
        for _ in range(2):
            assert await run_if_due(work.job, clock=clock)
        one, other = work.contexts
        assert (one.actor.user_id, one.clock) == ("system:tst", clock)
        assert one.correlation_id != other.correlation_id

    async def test_happens_in_one_process_when_many_look_at_once(self, clock: HandClock) -> None:
        work = Work(then=lambda: asyncio.sleep(0.05))
        ran = await asyncio.gather(*(run_if_due(work.job, clock=clock) for _ in range(6)))
        assert sorted(ran) == [False] * 5 + [True]
        assert len(work.contexts) == 1

    async def test_of_a_process_that_died_is_taken_over_after_the_time_that_a_run_may_take(
        self, clock: HandClock
    ) -> None:
        started = asyncio.Event()

        async def hang() -> None:
            started.set()
            await asyncio.Event().wait()

        dies = spawn(run_if_due(Work(then=hang).job, clock=clock), name="dies")
        await started.wait()
        await end_tasks(dies)
        work = Work()
        clock.advance(seconds=TIMEOUT_S - 1)
        assert not await run_if_due(work.job, clock=clock), "it may still be at work"
        clock.advance(seconds=1)
        assert await run_if_due(work.job, clock=clock)
        assert len(work.contexts) == 1


class TestFailure:
    async def test_is_logged_and_kept_until_the_next_run_that_works(self, clock: HandClock) -> None:
        async def fail() -> None:
            raise ValueError("x" * 2 * ERROR_CHARACTERS_MAX)

        with structlog.testing.capture_logs() as lines:
            assert await run_if_due(Work(then=fail).job, clock=clock)
        assert [(line["event"], line["job"]) for line in lines] == [("job_failed", "tst.count")]
        next_run_at, last_run_at, last_error = await row()
        assert (next_run_at, last_run_at) == (clock.now + timedelta(seconds=60), clock.now)
        assert str(last_error).startswith("ValueError('xxx")
        assert len(str(last_error)) == ERROR_CHARACTERS_MAX
        clock.advance(seconds=60)
        assert await run_if_due(Work().job, clock=clock)
        assert (await row())[2] is None

    async def test_of_a_run_that_takes_too_long_is_that_it_was_ended(
        self, clock: HandClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(jobs, "TIMEOUT_S", 0.05)
        assert await run_if_due(Work(then=lambda: asyncio.Event().wait()).job, clock=clock)
        assert (await row())[2] == "TimeoutError()"


class TestMetrics:
    async def test_show_which_job_failed_and_which_does_not_run(
        self, clock: HandClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def fail() -> None:
            raise RuntimeError("no such meter")

        collected: dict[str, Callable[[], Awaitable[Iterable[Reading]]]] = {}
        monkeypatch.setattr(jobs, "register_collector", lambda name, ask, families: collected.update({name: ask}))
        register_job_metrics(clock)

        async def shown() -> list[float]:
            return [reading.value for reading in await collected["jobs"]() if reading.labels["name"] == "tst.count"]

        assert await run_if_due(Work(every_s=60, then=fail).job, clock=clock)
        assert await shown() == [1.0, 0.0]
        clock.advance(seconds=90)
        assert await shown() == [1.0, 30.0]
        assert await run_if_due(Work(every_s=60).job, clock=clock)
        assert await shown() == [0.0, 0.0]

    async def test_forget_what_nobody_runs_any_more(self, clock: HandClock) -> None:
        await execute("insert into core.job (name, next_run_at) values ('old.job', now()), ('poll:desk', now())")
        await forget_jobs_but(["tst.count"], polls=False)
        assert [row["name"] for row in await fetch("select name from core.job order by name")] == [
            "poll:desk",
            "tst.count",
        ]


class TestRunner:
    async def test_runs_again_and_again_beside_another_and_never_at_the_same_time(self) -> None:
        at_work = 0
        most = 0

        async def work_alone() -> None:
            nonlocal at_work, most
            at_work += 1
            most = max(most, at_work)
            await asyncio.sleep(0.01)
            at_work -= 1

        work = Work(every_s=0.02, then=work_alone)
        tasks = [
            spawn(run_job(work.job, clock=utc_now, quarantined=lambda name: False), name=f"job-{n}") for n in range(2)
        ]
        async with asyncio.timeout(30):
            while len(work.contexts) < 6:
                await asyncio.sleep(0.01)
        await end_tasks(*tasks)
        assert most == 1

    async def test_leaves_out_what_a_quarantined_plugin_wants(self) -> None:
        work = Work(every_s=0.01)
        task = spawn(run_job(work.job, clock=utc_now, quarantined=lambda name: name == "tst"), name="job")
        await asyncio.sleep(0.1)
        await end_tasks(task)
        assert work.contexts == []
