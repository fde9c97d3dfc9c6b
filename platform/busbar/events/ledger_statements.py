"""The SQL of the ledger.

These statements must not depend on what the planner knows: its statistics are of a time when nothing waited, and a
backlog is when they matter. So each leaves it one index to choose; `test_claims_at_scale.py` counts what they read.
"""

from typing import Final

from busbar.db.wakeup import WORKER_GONE

LEASE_S: Final = 60
"""After so long an attempt is taken to be lost, whatever its worker seems; longer than any remote call may take."""
RISKY_LOST: Final = 2
LOST_MAX: Final = 5
RISKY_PAUSE_S: Final = 2
"""So much longer a risky delivery waits after each loss: whoever restarts its process gets other work done between."""

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
_IN_FLIGHT = "d.state not in ('pending', 'retrying', 'delivered', 'dead', 'skipped')"
"""It is under way, which no partial index fits: found by its id."""
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
CLAIM_DUE = _CLAIM.format(
    found=f"""
    select d.delivery_id from unnest($2::text[], $3::int[]) as lane (subscription, free)
    cross join lateral (
        select d.delivery_id, d.position from core.delivery d
        where d.subscription = lane.subscription and {_BY_SUBSCRIPTION} and {_SAFE} and {_DUE}
        and (d.attempts > 0 or d.next_attempt_at <= now() - make_interval(secs => $4))
        order by d.position limit lane.free for update of d skip locked
    ) d limit $5"""
)
CLAIM_TOLD = _CLAIM.format(
    found=f"""
    select d.delivery_id from unnest($2::text[], $3::uuid[]) as told (subscription, event_id)
    join core.delivery d on d.event_id = told.event_id and d.subscription = told.subscription
    where {_BY_EVENT} and {_SAFE} and {_DUE}
    for update of d skip locked"""
)
CLAIM_NEXT = _CLAIM.format(
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
CLAIM_RISKY = _CLAIM.format(
    found=f"""
    select d.delivery_id from core.delivery d where d.subscription = any($2::text[]) and {_RISKY}
    order by d.position limit 1 for update of d skip locked"""
)
HAS_RISKY = f"select exists(select from core.delivery d where d.subscription = any($1::text[]) and {_RISKY})"
WAITING_KEYS = f"""
select distinct d.subscription, d.ordering_key from unnest($1::text[], $2::uuid[]) as told (subscription, event_id)
join core.delivery d on d.event_id = told.event_id and d.subscription = told.subscription
where {_BY_EVENT} and d.attempts = 0 and d.ordering_key is not null
"""
OPEN_KEYS = f"""
select key.subscription, key.ordering_key from unnest($1::text[], $2::text[]) as key (subscription, ordering_key)
cross join lateral (
    select from core.delivery d
    where d.subscription = key.subscription and d.ordering_key = key.ordering_key and {_BY_KEY} limit 1) d
"""

SETTLE = f"""
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
    where d.delivery_id = o.delivery_id and d.worker = o.worker and d.attempts = o.attempt and {_IN_FLIGHT}
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
TAKE_OVER = _GIVE_BACK.format(
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
RELEASE = _GIVE_BACK.format(
    held="worker = $1 and handed_over_at is null",
    outcome="'given_back'",
    detail="'the worker was stopped during the attempt'",
    lost="lost",
    dead="false",
    pause_s=0,
)
HAND_OVER = f"""
update core.delivery d
set handed_over_at = coalesce(handed_over_at, now()), lease_until = now() + make_interval(secs => $4)
from unnest($1::bigint[], $2::int[], $3::int[]) as held (delivery_id, worker, attempt)
where d.delivery_id = held.delivery_id and d.worker = held.worker and d.attempts = held.attempt and {_IN_FLIGHT}
returning d.delivery_id
"""
HANDED_OVER = f"""
select {_HELD} from unnest($1::bigint[], $2::int[]) as told (delivery_id, attempt)
join core.delivery d on d.delivery_id = told.delivery_id and d.attempts = told.attempt
join core.event e using (event_id)
where {_IN_FLIGHT} and (d.handed_over_at is null) = false
"""
WITH_RUNNERS = """
select endpoint_id, count(*) as count,
    greatest(0, extract(epoch from clock_timestamp() - min(handed_over_at)))::float8 as oldest_s
from core.delivery where handed_over_at is not null group by endpoint_id
"""
