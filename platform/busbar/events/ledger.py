"""The ledger of deliveries: claim, outcome, give back. It is the truth; a broker only carries its messages.

    pending ──► in_flight ──► delivered
                 │  ▲  └────► dead        (replay: dead ──► pending)
                 ▼  │
               retrying                    skipped: a rule said no

A delivery that is in flight is held by a worker, and by its lease; once it is handed over to another runner, by its
lease alone, for that runner goes on when the worker is gone.

A delivery whose worker is lost may be what ended it. After `RISKY_LOST` such attempts in a row it is risky: a worker
takes it with nothing else at work, so that it takes nothing with it, and after `LOST_MAX` it is dead.

At every moment: deliveries = delivered + skipped + pending + retrying + in_flight + dead, and nothing is removed.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

import asyncpg
import msgspec

from busbar.db import fetch, fetchval
from busbar.db.wakeup import WORKER_GONE
from busbar.events.envelope import StoredEvent, stored

LEASE_S = 60
"""After so long an attempt is taken to be lost, whatever its worker seems; longer than any remote call may take."""
HANDOVER_LEASE_S = 600
"""After so long without an outcome another runner is taken to have lost what was handed over to it."""
HANDING_OVER_S = 30
"""So long the handing over itself may take; a process that dies in it leaves nothing waiting for longer."""
RISKY_LOST = 2
LOST_MAX = 5
RISKY_PAUSE_S = 2
"""So much longer a risky delivery waits after each loss: whoever restarts its process gets other work done between."""


class Claimed(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery that this worker holds."""

    delivery_id: int
    subscription: str
    ordering_key: str | None
    endpoint_id: str | None
    route_id: str | None
    site_id: str
    attempt: int
    charged: int
    worker: int
    document: msgspec.Raw | None
    event: StoredEvent
    claimed_at: datetime


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How an attempt ended: `delivered`, `retrying`, `dead`, `skipped`, or `pending` when it was given back unused.

    `in_flight`: it has not ended, and another runner that it was handed over to will tell.
    """

    state: str
    detail: str | None = None
    remote_id: str | None = None
    retry_at: datetime | None = None
    charge: bool = True
    """Whether the attempt counts towards the limit."""
    uncertain: bool = True
    """Whether the remote may have it, though the attempt did not end well."""
    runner: str = "busbar"
    """Who tried: `busbar` or `camel`."""
    started_at: datetime | None = None
    """Since when it tried; None for the time of the claim."""
    finished_at: datetime | None = None
    """Until when; None for now."""


class WithRunner(msgspec.Struct, frozen=True, kw_only=True):
    """The deliveries of one endpoint that were handed over and have no outcome yet."""

    count: int
    oldest_s: float
    """How long the oldest of them is under way."""


# These statements must not depend on what the planner knows: its statistics are of a time when nothing waited, and a
# backlog is when they matter. So each leaves it one index to choose (`test_claims_at_scale.py` counts what they read).
_FIRST = """select earlier.position from core.delivery earlier
        where earlier.subscription = {key}.subscription and earlier.ordering_key = {key}.ordering_key
        and earlier.state in ('pending', 'retrying', 'in_flight') order by earlier.position limit 1"""
"""The position of the first unfinished one of a subscription and ordering key: `delivery_open_by_key`."""
_DUE = f"d.next_attempt_at <= now() and coalesce(({_FIRST.format(key='d')}), d.position) = d.position"
"""It is due, and no earlier one of its subscription and ordering key is unfinished."""
_BY_SUBSCRIPTION = "d.state in ('pending', 'retrying')"
"""It can be claimed, by an index of those that can."""
_BY_EVENT = "d.state not in ('in_flight', 'delivered', 'dead', 'skipped')"
"""The same, which no partial index fits."""
_BY_KEY = "d.state in ('pending', 'retrying', 'in_flight') and d.state <> 'in_flight'"
"""The same, which of the partial indexes `delivery_open_by_key` alone fits."""
_SAFE = f"d.lost < {RISKY_LOST}"
_RISKY = f"d.lost >= {RISKY_LOST} and {_BY_SUBSCRIPTION} and {_DUE}"

_HELD = """d.delivery_id, d.subscription, d.ordering_key, d.endpoint_id, d.route_id, d.attempts, d.charged, d.document,
    d.worker, d.updated_at as claimed_at, e.event_id, e.event_type, e.module, e.site_id, e.subject, e.time, e.data,
    e.schema_version, e.correlation_id, e.traceparent, e.actor_id, e.origin, e.position"""

_CLAIM = f"""
with due as ({{found}})
update core.delivery d
set state = 'in_flight', attempts = attempts + 1, worker = $1, updated_at = now(),
    lease_until = now() + make_interval(secs => {LEASE_S})
from due, core.event e
where d.delivery_id = due.delivery_id and e.event_id = d.event_id
returning {_HELD}
"""
_CLAIM_DUE = _CLAIM.format(
    found=f"""
    select d.delivery_id from unnest($2::text[], $3::int[]) as lane (subscription, free)
    cross join lateral (
        select d.delivery_id, d.position from core.delivery d
        where d.subscription = lane.subscription and {_BY_SUBSCRIPTION} and {_SAFE} and {_DUE}
        and (d.attempts > 0 or d.next_attempt_at <= now() - make_interval(secs => $4))
        order by d.position limit lane.free for update of d skip locked
    ) d"""
)
_CLAIM_TOLD = _CLAIM.format(
    found=f"""
    select d.delivery_id from unnest($2::text[], $3::uuid[]) as told (subscription, event_id)
    join core.delivery d on d.event_id = told.event_id and d.subscription = told.subscription
    where {_BY_EVENT} and {_SAFE} and {_DUE}
    for update of d skip locked"""
)
_CLAIM_NEXT = _CLAIM.format(
    found=f"""
    select d.delivery_id from unnest($2::text[], $3::text[]) as finished (subscription, ordering_key)
    cross join lateral ({_FIRST.format(key="finished")}) first
    cross join lateral (
        select d.delivery_id from core.delivery d
        where d.subscription = finished.subscription and d.ordering_key = finished.ordering_key
        and d.position = first.position and {_BY_KEY} and {_SAFE} and d.next_attempt_at <= now()
        for update of d skip locked
    ) d"""
)
_CLAIM_RISKY = _CLAIM.format(
    found=f"""
    select d.delivery_id from core.delivery d where d.subscription = any($2::text[]) and {_RISKY}
    order by d.position limit 1 for update of d skip locked"""
)
_HAS_RISKY = f"select exists(select from core.delivery d where d.subscription = any($1::text[]) and {_RISKY})"
_WAITING_KEYS = f"""
select distinct d.subscription, d.ordering_key from unnest($1::text[], $2::uuid[]) as told (subscription, event_id)
join core.delivery d on d.event_id = told.event_id and d.subscription = told.subscription
where {_BY_EVENT} and d.attempts = 0 and d.ordering_key is not null
"""
_OPEN_KEYS = f"""
select key.subscription, key.ordering_key from unnest($1::text[], $2::text[]) as key (subscription, ordering_key)
cross join lateral (
    select from core.delivery d
    where d.subscription = key.subscription and d.ordering_key = key.ordering_key and {_BY_KEY} limit 1) d
"""

_SETTLE = """
with outcome as (
    select * from unnest($1::bigint[], $2::int[], $3::int[], $4::text[], $5::text[], $6::text[], $7::timestamptz[],
        $8::bool[], $9::timestamptz[], $10::timestamptz[], $11::text[], $12::bool[])
        as o (delivery_id, worker, attempt, state, detail, remote_id, retry_at, charge, started_at, finished_at, runner,
            uncertain)
), settled as (
    update core.delivery d
    set state = o.state, last_error = case when o.state = 'delivered' then null else o.detail end,
        remote_id = coalesce(o.remote_id, d.remote_id), charged = d.charged + o.charge::int,
        next_attempt_at = coalesce(o.retry_at, d.next_attempt_at), worker = null, lease_until = null,
        handed_over_at = null, updated_at = now(), lost = case when o.state = 'pending' then d.lost else 0 end,
        finished_at = case when o.state in ('delivered', 'dead', 'skipped') then now() end
    from outcome o
    where d.delivery_id = o.delivery_id and d.worker = o.worker and d.attempts = o.attempt and d.state = 'in_flight'
    returning d.delivery_id
), told as (
    insert into core.delivery_attempt (delivery_id, attempt, started_at, finished_at, outcome, detail, worker, runner,
        uncertain)
    select o.delivery_id, o.attempt, o.started_at, coalesce(o.finished_at, clock_timestamp()), o.state, o.detail,
        o.worker, o.runner, o.uncertain
    from outcome o join settled using (delivery_id)
)
select delivery_id from settled
"""

_GIVE_BACK = """
with held as (
    select delivery_id, attempts, worker, updated_at as started_at, {detail} as detail,
        case when handed_over_at is null then 'busbar' else 'camel' end as runner, {lost} as lost, {dead} as dead
    from core.delivery
    where state = 'in_flight' and {held}
    for update skip locked
), given_back as (
    update core.delivery d
    set state = case when held.dead then 'dead' else 'retrying' end, lost = held.lost, worker = null,
        lease_until = null, handed_over_at = null, last_error = held.detail, updated_at = now(),
        next_attempt_at = now() + make_interval(secs => {pause_s} * greatest(held.lost - 1, 0)),
        finished_at = case when held.dead then now() end
    from held where d.delivery_id = held.delivery_id
    returning d.delivery_id
), told as (
    insert into core.delivery_attempt (delivery_id, attempt, started_at, finished_at, outcome, detail, worker, runner)
    select delivery_id, attempts, started_at, clock_timestamp(), {outcome}, detail, worker, runner
    from held join given_back using (delivery_id)
)
select delivery_id from given_back
"""
_TAKE_OVER = _GIVE_BACK.format(
    held=f"(lease_until < now() or (handed_over_at is null and worker = any($1::int[]) and {WORKER_GONE}))",
    outcome="'lost'",
    detail="case when handed_over_at is not null then 'Camel sent no outcome in time' "
    f"when lost + 1 < {LOST_MAX} then 'the worker was lost during the attempt' "
    "else 'the worker was lost during the attempt, ' || lost + 1 || ' times in a row, lately with nothing else at "
    "work: it seems to end the process, see the end of its log' end",
    lost="lost + (handed_over_at is null)::int",
    dead=f"handed_over_at is null and lost + 1 >= {LOST_MAX}",
    pause_s=RISKY_PAUSE_S,
)
_RELEASE = _GIVE_BACK.format(
    held="worker = $1 and handed_over_at is null",
    outcome="'given_back'",
    detail="'the worker was stopped during the attempt'",
    lost="lost",
    dead="false",
    pause_s=0,
)
_HAND_OVER = """
update core.delivery d
set handed_over_at = coalesce(handed_over_at, now()), lease_until = now() + make_interval(secs => $4)
from unnest($1::bigint[], $2::int[], $3::int[]) as held (delivery_id, worker, attempt)
where d.delivery_id = held.delivery_id and d.worker = held.worker and d.attempts = held.attempt
    and d.state = 'in_flight'
returning d.delivery_id
"""
_HANDED_OVER = f"""
select {_HELD} from unnest($1::bigint[], $2::int[]) as told (delivery_id, attempt)
join core.delivery d on d.delivery_id = told.delivery_id and d.attempts = told.attempt
join core.event e using (event_id)
where d.state = 'in_flight' and d.handed_over_at is not null
"""
_WITH_RUNNERS = """
select endpoint_id, count(*) as count,
    greatest(0, extract(epoch from clock_timestamp() - min(handed_over_at)))::float8 as oldest_s
from core.delivery where handed_over_at is not null group by endpoint_id
"""


async def claim(free_by_lane: Mapping[str, int], *, worker: int, late_s: float = 0.0) -> list[Claimed]:
    """Take deliveries that are due, up to so many for each subscription, oldest first.

    A delivery waits while an earlier one of the same subscription and ordering key is not finished. One that was never
    tried is taken only when it is `late_s` seconds overdue: before that, something else brings it.
    """
    rows = await fetch(_CLAIM_DUE, worker, list(free_by_lane), list(free_by_lane.values()), late_s)
    return _claimed(rows)


async def claim_told(told: Sequence[tuple[str, UUID]], *, worker: int) -> list[Claimed]:
    """Take the deliveries of these subscriptions and events, so far as they are due and wait for none before them."""
    rows = await fetch(_CLAIM_TOLD, worker, [name for name, _ in told], [event_id for _, event_id in told])
    return _claimed(rows)


async def claim_next(finished: Sequence[tuple[str, str]], *, worker: int) -> list[Claimed]:
    """Take the next delivery of each of these subscriptions and ordering keys, where there is one that is due."""
    rows = await fetch(_CLAIM_NEXT, worker, [name for name, _ in finished], [key for _, key in finished])
    return _claimed(rows)


async def has_risky(subscriptions: Sequence[str]) -> bool:
    """Whether there is a risky delivery to be tried alone."""
    return bool(await fetchval(_HAS_RISKY, list(subscriptions)))


async def claim_risky(subscriptions: Sequence[str], *, worker: int) -> Claimed | None:
    """Take the oldest risky delivery that is due; the worker must have nothing else at work until it has ended."""
    return next(iter(_claimed(await fetch(_CLAIM_RISKY, worker, list(subscriptions)))), None)


async def waiting_keys(told: Sequence[tuple[str, UUID]]) -> set[tuple[str, str]]:
    """The subscription and ordering key of those of these deliveries that still wait to be tried for the first time."""
    rows = await fetch(_WAITING_KEYS, [name for name, _ in told], [event_id for _, event_id in told])
    return {(row["subscription"], row["ordering_key"]) for row in rows}


async def open_keys(keys: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
    """Those of these subscriptions and ordering keys that still have a delivery to be claimed."""
    rows = await fetch(_OPEN_KEYS, [name for name, _ in keys], [key for _, key in keys])
    return {(row["subscription"], row["ordering_key"]) for row in rows}


def _claimed(rows: Sequence[asyncpg.Record]) -> list[Claimed]:
    claimed = [
        Claimed(
            delivery_id=row["delivery_id"],
            subscription=row["subscription"],
            ordering_key=row["ordering_key"],
            endpoint_id=row["endpoint_id"],
            route_id=row["route_id"],
            site_id=row["site_id"],
            attempt=row["attempts"],
            charged=row["charged"],
            worker=row["worker"],
            document=None if row["document"] is None else msgspec.Raw(row["document"].encode()),
            event=stored(row),
            claimed_at=row["claimed_at"],
        )
        for row in rows
    ]
    return sorted(claimed, key=lambda delivery: delivery.event.position or 0)


async def settle(outcomes: Sequence[tuple[Claimed, Outcome]]) -> set[int]:
    """Write the outcomes of attempts; returns the deliveries for which this worker still held the attempt.

    An outcome is refused when the attempt was taken over meanwhile: whoever holds it now tells how it ends. One that
    was handed over is written when its runner has told; nothing is to be written now.
    """
    ended = [(held, outcome) for held, outcome in outcomes if outcome.state != "in_flight"]
    others = {held.delivery_id for held, outcome in outcomes if outcome.state == "in_flight"}
    if not ended:
        return others
    rows = await fetch(
        _SETTLE,
        [held.delivery_id for held, _ in ended],
        [held.worker for held, _ in ended],
        [held.attempt for held, _ in ended],
        [outcome.state for _, outcome in ended],
        [outcome.detail for _, outcome in ended],
        [outcome.remote_id for _, outcome in ended],
        [outcome.retry_at for _, outcome in ended],
        [outcome.charge for _, outcome in ended],
        [outcome.started_at or held.claimed_at for held, outcome in ended],
        [outcome.finished_at for _, outcome in ended],
        [outcome.runner for _, outcome in ended],
        [outcome.uncertain for _, outcome in ended],
    )
    return others | {row["delivery_id"] for row in rows}


async def hand_over(held: Sequence[Claimed], *, lease_s: int = HANDOVER_LEASE_S) -> set[int]:
    """Hold these for another runner, for `lease_s` seconds from now; returns those whose attempt had not ended.

    From now on the end of the worker gives nothing back; an outcome does, or the end of the lease.
    """
    rows = await fetch(
        _HAND_OVER,
        [each.delivery_id for each in held],
        [each.worker for each in held],
        [each.attempt for each in held],
        lease_s,
    )
    return {row["delivery_id"] for row in rows}


async def handed_over(attempts: Sequence[tuple[int, int]]) -> dict[int, Claimed]:
    """Of these deliveries and attempts those that another runner still has, by delivery."""
    rows = await fetch(_HANDED_OVER, [delivery for delivery, _ in attempts], [attempt for _, attempt in attempts])
    return {held.delivery_id: held for held in _claimed(rows)}


async def with_runners() -> dict[str, WithRunner]:
    """What other runners have now, by endpoint."""
    rows = await fetch(_WITH_RUNNERS)
    return {row["endpoint_id"]: WithRunner(count=row["count"], oldest_s=row["oldest_s"]) for row in rows}


async def suspects() -> set[int]:
    """Workers that hold deliveries and whose process seems gone."""
    rows = await fetch(
        "select distinct worker from core.delivery "
        f"where state = 'in_flight' and handed_over_at is null and {WORKER_GONE}"
    )
    return {row["worker"] for row in rows}


async def take_over(workers: set[int]) -> int:
    """Give back what the gone workers held, and every attempt whose lease has run out; returns how many.

    What was lost for the `LOST_MAX`-th time in a row is dead instead.
    """
    return len(await fetch(_TAKE_OVER, sorted(workers)))


async def open_count() -> int:
    """How many deliveries are not finished."""
    count = await fetchval("select count(*) from core.delivery where state in ('pending', 'retrying', 'in_flight')")
    return int(count)


async def release(worker: int) -> None:
    """Give back, uncharged, everything that a stopping worker still holds."""
    await fetch(_RELEASE, worker)
