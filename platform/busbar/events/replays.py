"""Replays of many deliveries: a job that goes through all that a filter finds, some each second, oldest first.

Each step is one transaction: it sends some again, writes their audit entries and moves the job's own mark. So a process
may die at any moment; whichever is there goes on. A delivery that fails again is not sent a second time.
"""

import asyncio
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec
import structlog

from busbar.audit import record
from busbar.auth.actor import Actor, Context
from busbar.db import DATABASE_TROUBLE, execute, fetchrow, fetchval, on_commit, transaction
from busbar.db.wakeup import Channel, poke
from busbar.errors import NotFound, RuleViolated
from busbar.events.deliveries import DeliveryFilter, conditions
from busbar.kit.clock import Clock
from busbar.kit.ids import uuid7
from busbar.web.conditions import Where
from busbar.web.pagination import Page, SortColumn, fetch_page, page_request

log = structlog.get_logger()

STEP_S: Final = 1.0
"""One step of a job is so long after the one before."""
PER_SECOND_MAX: Final = 1_000
PER_SECOND: Final = 50
"""Unless asked otherwise: a remote that has just come back is not to be run over."""


class ReplayView(msgspec.Struct, frozen=True, kw_only=True):
    """A replay of many: how far it is, and what became of the deliveries."""

    replay_id: UUID
    state: str
    """`running`, `done` or `stopped`."""
    reason: str
    wanted: DeliveryFilter
    """Which deliveries it is for; those that were there when it began, and can be sent again at their turn."""
    per_second: int
    matching: int
    """How many there were when it began."""
    replayed: int
    """How many were sent again so far."""
    delivered: int
    """Of these, how many have arrived since."""
    dead: int
    """And how many are dead letters again."""
    created_by: str
    correlation_id: str
    created_at: datetime
    finished_at: datetime | None


class ReplayPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a replay of many would do, or the job that does it."""

    matching: int
    """Deliveries that the filter finds and that can be sent again."""
    replay: ReplayView | None
    """The job; null for a dry run, and when there is nothing to do."""


_SENDABLE = "d.state in ('dead', 'retrying') and not (d.state = 'dead' and d.attempts = 0)"
"""What never could be worked out is for `dead_letters.replay`, one by one."""
_MATCHING = """
select count(*) as count, max(d.delivery_id) as last from core.delivery d join core.event e using (event_id)
where {where} and {sendable}
"""
_OPEN = """
insert into core.replay (replay_id, state, reason, wanted, actor, per_second, matching, last_delivery_id, created_by,
    username, correlation_id, created_at, next_step_at)
values ($1, 'running', $2, $3::jsonb, $4::jsonb, $5, $6, $7, $8, $9, $10, $11, $11)
"""
_TURN = """
select replay_id, reason, wanted, actor, per_second, mark, last_delivery_id, correlation_id from core.replay
where state = 'running' and next_step_at <= $1 order by next_step_at limit 1 for update skip locked
"""
_STEP = """
with chosen as (
    select d.delivery_id, d.state, d.site_id from core.delivery d join core.event e using (event_id)
    where {where} and {sendable} order by d.delivery_id limit {limit} for update of d
), again as (
    update core.delivery d
    set state = 'pending', charged = 0, next_attempt_at = now(), worker = null, lease_until = null,
        finished_at = null, updated_at = now(), replay_id = {replay_id}
    from chosen c where d.delivery_id = c.delivery_id
), trail as (
    insert into core.audit (at, actor_id, actor_name, action, object_kind, object_id, site_id, previous_status,
        new_status, comment, details, correlation_id)
    select {at}, {actor_id}, {actor_name}, 'delivery.replay', 'delivery', c.delivery_id::text, c.site_id, c.state,
        'pending', {reason}, jsonb_build_object('replay_id', {replay_id}), {correlation_id}
    from chosen c
)
select count(*) as count, max(delivery_id) as last from chosen
"""
_STEPPED = """
update core.replay set mark = coalesce($2, mark), replayed = replayed + $3, next_step_at = $4,
    state = case when $5 then 'done' else state end, finished_at = case when $5 then $6::timestamptz end
where replay_id = $1
"""
_STOP = """
update core.replay set state = 'stopped', finished_at = $2 where replay_id = $1 and state = 'running'
returning replay_id
"""
_COLUMNS = """
r.replay_id, r.state, r.reason, r.wanted, r.per_second, r.matching, r.replayed, r.username as created_by,
r.correlation_id, r.created_at, r.finished_at,
(select count(*) from core.delivery d where d.replay_id = r.replay_id and d.state = 'delivered') as delivered,
(select count(*) from core.delivery d where d.replay_id = r.replay_id and d.state = 'dead') as dead
"""
_BY_TIME = {
    "created_at": SortColumn(sql="r.created_at", type=datetime),
    "replay_id": SortColumn(sql="r.replay_id", type=UUID),
}


async def plan_replay(
    ctx: Context, wanted: DeliveryFilter, *, reason: str, dry_run: bool, per_second: int = PER_SECOND
) -> ReplayPlan:
    """Count the dead and retrying deliveries that a filter finds; unless it is a dry run, begin to send them again."""
    where = conditions(ctx.actor, wanted)
    found = await fetchrow(_MATCHING.format(where=where.sql, sendable=_SENDABLE), *where.values)
    assert found is not None
    if dry_run or not found["count"]:
        return ReplayPlan(matching=found["count"], replay=None)
    replay_id, actor = uuid7(), ctx.actor
    async with transaction():
        await execute(
            _OPEN,
            replay_id,
            reason,
            msgspec.json.encode(wanted).decode(),
            msgspec.json.encode(actor).decode(),
            per_second,
            found["count"],
            found["last"],
            actor.user_id,
            actor.username,
            ctx.correlation_id,
            ctx.clock(),
        )
        await record(
            ctx,
            action="replay.start",
            object_kind="replay",
            object_id=str(replay_id),
            comment=reason,
            details={"matching": found["count"], "per_second": per_second},
        )
    return ReplayPlan(matching=found["count"], replay=await get_replay(ctx, replay_id))


async def get_replay(ctx: Context, replay_id: UUID) -> ReplayView:
    """One replay.

    Raises:
        NotFound: there is none, or it is somebody else's and the actor does not work for all sites.
    """
    where = _mine(ctx.actor)
    where.add("r.replay_id = {}", replay_id)
    row = await fetchrow(f"select {_COLUMNS} from core.replay r where {where.sql}", *where.values)
    if row is None:
        raise NotFound(f"There is no replay {replay_id}.")
    return _view(row)


async def list_replays(ctx: Context, *, limit: int = 50, cursor: str | None = None) -> Page[ReplayView]:
    """A page of replays, newest first: all for who works for all sites, else the actor's own."""
    asked = page_request(
        limit=limit, cursor=cursor, sort=None, columns=_BY_TIME, default="-created_at", key="replay_id"
    )
    return await fetch_page(asked, _mine(ctx.actor), columns=_COLUMNS, source="core.replay r", to_item=_view)


async def stop_replay(ctx: Context, replay_id: UUID) -> ReplayView:
    """Send no more of it again; what was sent is on its way.

    Raises:
        NotFound: as with `get_replay`.
        RuleViolated: it has ended.
    """
    former = await get_replay(ctx, replay_id)
    async with transaction():
        if await fetchval(_STOP, replay_id, ctx.clock()) is None:
            raise RuleViolated(f"The replay is {(await get_replay(ctx, replay_id)).state}; there is nothing to stop.")
        await record(
            ctx,
            action="replay.stop",
            object_kind="replay",
            object_id=str(replay_id),
            previous_status=former.state,
            new_status="stopped",
        )
    return await get_replay(ctx, replay_id)


async def take_step(now: datetime) -> int | None:
    """Take the replay whose turn it is one step further; how many deliveries that sent again, None if none has a turn.

    Several processes may call it: each replay is with one of them at a time.
    """
    async with transaction():
        job = await fetchrow(_TURN, now)
        if job is None:
            return None
        count, last = await _send_again(job, now)
        is_done = count < job["per_second"]
        next_step_at = now + timedelta(seconds=STEP_S)
        await execute(_STEPPED, job["replay_id"], last, count, next_step_at, is_done, now)
        if count:
            on_commit(partial(poke, Channel.DELIVERIES))
    if is_done:
        log.info("replay_done", replay_id=str(job["replay_id"]))
    return count


async def run_replays(clock: Clock) -> None:
    """Take replays further until cancelled."""
    while True:
        try:
            while await take_step(clock()) is not None:
                pass
        except DATABASE_TROUBLE as error:
            log.warning("replays_not_taken_further", error=str(error) or repr(error))
        await asyncio.sleep(STEP_S / 2)


async def _send_again(job: asyncpg.Record, now: datetime) -> tuple[int, int | None]:
    """Send the next ones again, by the right of whoever asked; how many, and the last of them."""
    actor = msgspec.json.decode(job["actor"], type=Actor)
    where = conditions(actor, msgspec.json.decode(job["wanted"], type=DeliveryFilter))
    where.add("d.delivery_id > {}", job["mark"])
    where.add("d.delivery_id <= {}", job["last_delivery_id"])
    own: dict[str, tuple[str, Any]] = {
        "at": ("timestamptz", now),
        "actor_id": ("text", actor.user_id),
        "actor_name": ("text", actor.username),
        "reason": ("text", job["reason"]),
        "correlation_id": ("text", job["correlation_id"]),
        "replay_id": ("uuid", job["replay_id"]),
        "limit": ("int", job["per_second"]),
    }
    places = {name: f"${len(where.values) + n}::{kind}" for n, (name, (kind, _)) in enumerate(own.items(), 1)}
    statement = _STEP.format(where=where.sql, sendable=_SENDABLE, **places)
    row = await fetchrow(statement, *where.values, *(value for _, value in own.values()))
    assert row is not None
    return row["count"], row["last"]


def _mine(actor: Actor) -> Where:
    where = Where()
    where.add("r.created_by = {}", None if actor.site_filter is None else actor.user_id)
    return where


def _view(row: asyncpg.Record) -> ReplayView:
    return ReplayView(**{**row, "wanted": msgspec.json.decode(row["wanted"], type=DeliveryFilter)})
