"""Reading the ledger: deliveries in pages, one with its attempts, and the sums that must add up."""

import time
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from busbar.auth.actor import Actor, Context
from busbar.db import fetch, fetchrow
from busbar.errors import NotFound
from busbar.events.access import Reach, reach_of
from busbar.events.envelope import stored
from busbar.events.queries import EventView, view
from busbar.web.conditions import Where
from busbar.web.pagination import Page, SortColumn, fetch_page, page_request

STATES: Final = ("pending", "retrying", "in_flight", "delivered", "dead", "skipped")
"""Every state of a delivery."""
OPEN_STATES: Final = ("pending", "retrying", "in_flight")
"""Not finished yet."""


class DeliveryView(msgspec.Struct, frozen=True, kw_only=True):
    """One event for one subscription."""

    delivery_id: int
    event_id: UUID
    event_type: str
    subject: str
    module: str
    site: str
    correlation_id: str
    position: int
    subscription: str
    """The name of a plugin's handler, or of a route."""
    endpoint_id: str | None
    """Where it goes; null for a handler."""
    route_id: str | None
    route_version: int | None
    ordering_key: str | None
    """Deliveries of one subscription with the same key keep their order."""
    state: str
    """`pending`, `retrying`, `in_flight`, `delivered`, `dead` or `skipped`."""
    attempts: int
    """Every try."""
    charged: int
    """The tries that count towards the limit; a remote that is known to be down is not the delivery's fault."""
    next_attempt_at: datetime | None
    """Null unless it is pending or retrying."""
    handed_over_at: datetime | None
    """Since when Apache Camel has it and has not told the outcome; null unless it is in flight there."""
    last_error: str | None
    """Why it failed, waits, or was skipped."""
    remote_id: str | None
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None


class AttemptView(msgspec.Struct, frozen=True, kw_only=True):
    """One try."""

    attempt: int
    started_at: datetime
    finished_at: datetime
    outcome: str
    """`delivered`, `retrying`, `dead` or `skipped`; `pending` when nothing could be tried; `lost` when its worker
    vanished, or no outcome came from Camel; `given_back` when its worker was stopped."""
    detail: str | None
    worker: int
    """The process that tried, or that handed it over."""
    runner: str
    """Who tried: `busbar` or `camel`."""


class DeliveryDetail(DeliveryView, frozen=True, kw_only=True):
    """A delivery with everything that is known of it."""

    document: msgspec.Raw | None
    """What the route's mapping made, or an operator's correction of it; null when the event goes out as it is."""
    event: EventView
    tries: tuple[AttemptView, ...]
    """Oldest first."""


class DeliveryFilter(msgspec.Struct, frozen=True, kw_only=True):
    """What a list of deliveries is narrowed to; None leaves it open."""

    states: tuple[str, ...] | None = None
    endpoint: str | None = None
    route: str | None = None
    subscription: str | None = None
    site: str | None = None
    event_types: tuple[str, ...] | None = None
    correlation_id: str | None = None
    subject: str | None = None
    replay: UUID | None = None
    """The last replay of many that sent it again."""


class StateCount(msgspec.Struct, frozen=True, kw_only=True):
    """The deliveries in one state."""

    state: str
    count: int
    oldest_at: datetime | None
    """When the oldest of them was created; only for states that should not last: all but delivered and skipped."""
    oldest_age_s: float | None


class DeliverySummary(msgspec.Struct, frozen=True, kw_only=True):
    """How the ledger stands: events written are handed on or waiting; deliveries are delivered, open or parked."""

    events_written: int
    """Of the sites and modules that the caller may see, as everything here."""
    events_handed_on: int
    """Those that the relay has worked out the deliveries of."""
    events_waiting: int
    deliveries: int
    delivered: int
    open: int
    """Pending, retrying or in flight."""
    parked: int
    """Dead letters."""
    skipped: int
    """A rule said no."""
    balanced: bool
    """Nothing is missing: deliveries = delivered + open + parked + skipped, and, for a caller who sees everything, the
    events that were handed on have every position from 1 to the last."""
    states: tuple[StateCount, ...]


_COLUMNS = """
d.delivery_id, d.event_id, e.event_type, e.subject, e.module, d.site_id as site, e.correlation_id, d.position,
d.subscription, d.endpoint_id, d.route_id, d.route_version, d.ordering_key, d.state, d.attempts, d.charged,
case when d.state in ('pending', 'retrying') then d.next_attempt_at end as next_attempt_at, d.handed_over_at,
d.last_error, d.remote_id, d.created_at, d.updated_at, d.finished_at
"""
_TABLES = "core.delivery d join core.event e using (event_id)"
_BY_ID = {"delivery_id": SortColumn(sql="d.delivery_id", type=int)}
_ATTEMPTS = """
select attempt, started_at, finished_at, outcome, detail, worker, runner from core.delivery_attempt
where delivery_id = $1 order by id
"""


async def list_deliveries(
    ctx: Context, wanted: DeliveryFilter, *, limit: int = 50, cursor: str | None = None
) -> Page[DeliveryView]:
    """A page of the deliveries that the actor may see, newest first."""
    asked = page_request(
        limit=limit, cursor=cursor, sort=None, columns=_BY_ID, default="-delivery_id", key="delivery_id"
    )
    where = conditions(ctx.actor, wanted)
    return await fetch_page(asked, where, columns=_COLUMNS, source=_TABLES, to_item=lambda row: DeliveryView(**row))


async def get_delivery(ctx: Context, delivery_id: int) -> DeliveryDetail:
    """One delivery with its event and its attempts.

    Raises:
        NotFound: there is no such delivery, or the actor may not see it.
    """
    row = await fetchrow(
        f"select {_COLUMNS}, d.document, e.time, e.data, e.schema_version, e.traceparent, e.actor_id, e.origin, "
        f"e.site_id from {_TABLES} where d.delivery_id = $1",
        delivery_id,
    )
    if row is None or not reach_of(ctx.actor).includes(site_id=row["site"], module=row["module"]):
        raise NotFound(f"There is no delivery {delivery_id}.")
    tries = await fetch(_ATTEMPTS, delivery_id)
    return DeliveryDetail(
        **{name: row[name] for name in DeliveryView.__struct_fields__},
        document=None if row["document"] is None else msgspec.Raw(row["document"].encode()),
        event=view(stored(row)),
        tries=tuple(AttemptView(**each) for each in tries),
    )


async def deliveries_of_events(reach: Reach, event_ids: list[UUID], *, count_max: int) -> list[DeliveryView]:
    """The deliveries of some events, oldest first, at most `count_max`."""
    where = Where()
    where.add("d.event_id = any({}::uuid[])", event_ids)
    reach.narrow(where, site="d.site_id", module="e.module")
    rows = await fetch(
        f"select {_COLUMNS} from {_TABLES} where {where.sql} order by d.delivery_id limit {count_max}", *where.values
    )
    return [DeliveryView(**row) for row in rows]


def conditions(actor: Actor, wanted: DeliveryFilter) -> Where:
    """The condition over `core.delivery d` and `core.event e` for what is wanted, of what the actor may see."""
    where = Where()
    where.add("d.state = any({}::text[])", None if wanted.states is None else list(wanted.states))
    where.add("d.endpoint_id = {}", wanted.endpoint)
    where.add("d.route_id = {}", wanted.route)
    where.add("d.subscription = {}", wanted.subscription)
    where.add("d.site_id = {}", wanted.site)
    where.add("e.event_type = any({}::text[])", None if wanted.event_types is None else list(wanted.event_types))
    where.add("e.correlation_id = {}", wanted.correlation_id)
    where.add("e.subject = {}", wanted.subject)
    where.add("d.replay_id = {}", wanted.replay)
    reach_of(actor).narrow(where, site="d.site_id", module="e.module")
    return where


_SUMMARY = """
with event_count as (
    select count(*) as written, count(position) as handed_on, count(*) filter (where position is null) as waiting,
        coalesce(max(position), 0) as last_position
    from core.event e where {events}
), delivery_count as (
    select d.state, count(*) as count, min(d.created_at) as oldest_at
    from {tables} where {deliveries} group by d.state
)
select c.*, (select count(*) from {tables} where {deliveries}) as deliveries, s.*
from event_count c left join delivery_count s on true
"""
_KEPT_TIMES_COST = 20
"""A summary that took long is shown again for so many times as long: at most a twentieth of the load is counting."""
_KEPT_MAX = 100
_kept: dict[Reach, tuple[float, DeliverySummary]] = {}


async def summary(ctx: Context) -> DeliverySummary:
    """Counts by state, oldest ages, and whether the sums add up; one snapshot of the database.

    In a large ledger it may be a few seconds old.
    """
    reach = reach_of(ctx.actor)
    kept = _kept.get(reach)
    started_s = time.monotonic()
    if kept is not None and kept[0] > started_s:
        return kept[1]
    fresh = await _count(reach, ctx.clock())
    cost_s = time.monotonic() - started_s
    if len(_kept) >= _KEPT_MAX:
        _kept.clear()
    if cost_s > 0.1:
        _kept[reach] = (started_s + cost_s * (1 + _KEPT_TIMES_COST), fresh)
    return fresh


async def _count(reach: Reach, now: datetime) -> DeliverySummary:
    where = Where()
    reach.narrow(where, site="e.site_id", module="e.module")
    sees_all = reach.sites is None and reach.modules is None
    # Without a limit there is no need to look at the events of the deliveries.
    tables = "core.delivery d" if sees_all else _TABLES
    rows = await fetch(_SUMMARY.format(events=where.sql, deliveries=where.sql, tables=tables), *where.values)
    first: Any = rows[0]
    found = {row["state"]: row for row in rows if row["state"] is not None}
    count = {state: found[state]["count"] if state in found else 0 for state in STATES}
    delivered, parked, skipped = count["delivered"], count["dead"], count["skipped"]
    still_open = sum(count[state] for state in OPEN_STATES)
    return DeliverySummary(
        events_written=first["written"],
        events_handed_on=first["handed_on"],
        events_waiting=first["waiting"],
        deliveries=first["deliveries"],
        delivered=delivered,
        open=still_open,
        parked=parked,
        skipped=skipped,
        balanced=first["deliveries"] == delivered + still_open + parked + skipped
        and (not sees_all or first["last_position"] == first["handed_on"]),
        states=tuple(_state(state, found.get(state), now) for state in STATES),
    )


def _state(state: str, row: Any, now: datetime) -> StateCount:
    lasting = state in ("delivered", "skipped")
    oldest_at = None if row is None or lasting else row["oldest_at"]
    return StateCount(
        state=state,
        count=0 if row is None else row["count"],
        oldest_at=oldest_at,
        oldest_age_s=None if oldest_at is None else max(0.0, (now - oldest_at).total_seconds()),
    )
