"""Scheduled jobs: what plugins do by the clock, each in one process at a time, whichever that is."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import timedelta
from typing import Final

import msgspec
import structlog

from busbar.auth.actor import Context, system_actor
from busbar.db import DATABASE_TROUBLE, execute, fetch, fetchval
from busbar.kit.clock import Clock
from busbar.observability.correlation import correlated, new_correlation_id
from busbar.observability.metrics import JOB_FAILED, JOB_OVERDUE, Reading, register_collector

log = structlog.get_logger()

TIMEOUT_S: Final = 300.0
"""So long one run may take; until then no other process starts the job again."""
LOOK_S_MAX: Final = 5.0
"""So often, at the least, a process looks whether a job is due: another one may have died with it."""
ERROR_CHARACTERS_MAX: Final = 500
POLL_PREFIX: Final = "poll:"
"""Begins the name of the job that polls an endpoint."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a plugin does again and again.

    `name` is `<plugin>.<words>`, unique and stable. `run` is called about every `every_s` seconds, never twice at once,
    with the plugin's own actor and a new correlation id; it must be able to run again after it was cut off anywhere,
    and opens its own transactions.
    """

    name: str
    module: str
    every_s: float
    run: Callable[[Context], Awaitable[None]]


_ANNOUNCE = "insert into core.job (name, next_run_at) values ($1, $2) on conflict (name) do nothing"
# Claimed for as long as a run may take: if this process dies, another one goes on then.
_CLAIM = "update core.job set next_run_at = $3 where name = $1 and next_run_at <= $2 returning name"
_DONE = "update core.job set next_run_at = $2, last_run_at = $3, last_error = $4 where name = $1"


async def run_job(job: Job, *, clock: Clock, quarantined: Callable[[str], bool]) -> None:
    """Look whether the job is due and run it, until cancelled."""
    await announce(job, clock)
    while True:
        if not quarantined(job.module):
            try:
                await run_if_due(job, clock=clock)
            except DATABASE_TROUBLE as error:
                log.warning("job_not_looked_at", job=job.name, error=str(error) or repr(error))
        await asyncio.sleep(min(job.every_s, LOOK_S_MAX))


async def announce(job: Job, clock: Clock) -> None:
    """Make the job known; it is due at once the first time."""
    await execute(_ANNOUNCE, job.name, clock())


async def forget_jobs_but(names: Sequence[str], *, polls: bool) -> None:
    """Forget all polls, or all other jobs, but these: nobody runs them any more, and they must not seem overdue."""
    await execute(
        "delete from core.job where (name like $1) = $2 and name <> all($3)", f"{POLL_PREFIX}%", polls, list(names)
    )


async def run_if_due(job: Job, *, clock: Clock) -> bool:
    """Run the job once if it is due and no other process has it; whether it ran. A failure is logged and kept."""
    began = clock()
    if await fetchval(_CLAIM, job.name, began, began + timedelta(seconds=TIMEOUT_S)) is None:
        return False
    error = await _run(job, clock)
    await execute(_DONE, job.name, began + timedelta(seconds=job.every_s), began, error)
    return True


async def _run(job: Job, clock: Clock) -> str | None:
    ctx = Context(actor=system_actor(job.module), correlation_id=new_correlation_id(), clock=clock)
    try:
        with correlated(ctx.correlation_id):
            async with asyncio.timeout(TIMEOUT_S):
                await job.run(ctx)
    except Exception as error:
        log.exception("job_failed", job=job.name)
        return repr(error)[:ERROR_CHARACTERS_MAX]
    return None


def register_job_metrics(clock: Clock) -> None:
    """Let `/metrics` show which jobs fail and which do not run; call it once the database is open."""

    async def collect() -> Iterable[Reading]:
        now, readings = clock(), []
        for row in await fetch("select name, next_run_at, last_error from core.job"):
            labels = {"name": row["name"]}
            overdue_s = max(0.0, (now - row["next_run_at"]).total_seconds())
            readings.append(Reading(family=JOB_FAILED.name, value=float(row["last_error"] is not None), labels=labels))
            readings.append(Reading(family=JOB_OVERDUE.name, value=overdue_s, labels=labels))
        return readings

    register_collector("jobs", collect, families=(JOB_FAILED, JOB_OVERDUE))
