"""Where is my message? Everything that happened to a request, a ticket or a remote record, in the order of time."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec

from busbar.auth.actor import Context
from busbar.db import fetch
from busbar.errors import NotFound
from busbar.events.access import Reach, reach_of
from busbar.events.deliveries import DeliveryView, deliveries_of_events
from busbar.events.envelope import COLUMNS, StoredEvent, stored
from busbar.web.conditions import Where

EVENTS_MAX: Final = 500
DELIVERIES_MAX: Final = 2_000
STEPS_MAX: Final = 5_000


class TraceStep(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened."""

    at: datetime
    kind: str
    """`request` (somebody or something asked), `act` (an entry of the audit trail), `event`, `decision` (a delivery was
    worked out, or skipped with the reason), `attempt` (one try, with its outcome)."""
    text: str
    """One sentence."""
    correlation_id: str
    site: str
    actor: str | None = None
    """User name, or the part of Busbar that acted by itself."""
    subject: str | None = None
    """For example the ticket's id."""
    event_id: UUID | None = None
    event_type: str | None = None
    delivery_id: int | None = None
    subscription: str | None = None
    endpoint_id: str | None = None
    route_id: str | None = None
    route_version: int | None = None
    state: str | None = None
    """A decision's state at first, or an attempt's outcome."""
    attempt: int | None = None
    runner: str | None = None
    """Who made an attempt: `busbar` or `camel`."""
    ended_at: datetime | None = None
    """When an attempt ended."""
    detail: str | None = None
    """The comment, reason or error."""
    remote_id: str | None = None
    traceparent: str | None = None


class RemoteRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a subject is called at a remote system."""

    subject: str
    endpoint_id: str
    remote_id: str


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """The whole story, as far as the reader may see it."""

    key: str
    found_by: str
    """`correlation_id`, `subject` (a ticket's id), `event_id` or `remote_id`."""
    correlation_ids: tuple[str, ...]
    subjects: tuple[str, ...]
    steps: tuple[TraceStep, ...]
    """Oldest first."""
    deliveries: tuple[DeliveryView, ...]
    """As they stand now."""
    remote_records: tuple[RemoteRecord, ...]
    truncated: bool
    """Whether there was more than a trace shows: at most 500 events, 2,000 deliveries and 5,000 steps."""


_FOUND_BY = (
    ("correlation_id", "correlation_id = {}::text"),
    ("subject", "subject = {}::text"),
    ("event_id", "event_id = {}::uuid"),
    (
        "remote_id",
        """event_id in (
            select e.event_id from core.event e join core.remote_reference r using (subject)
            where r.remote_id = {}::text
            union select d.event_id from core.delivery d where d.remote_id = {}::text)""",
    ),
)
_ACTS = """
select audit_id, at, actor_name, action, object_kind, object_id, site_id, previous_status, new_status, comment,
    correlation_id
from core.audit
where (object_kind = 'ticket' and object_id = any($1::text[]) and correlation_id = any($2::text[]))
    or (object_kind = 'delivery' and object_id = any($3::text[]))
order by audit_id limit $4
"""
_TRIES = """
select a.delivery_id, a.attempt, a.started_at, a.finished_at, a.outcome, a.detail, a.runner
from core.delivery_attempt a where a.delivery_id = any($1::bigint[]) order by a.id limit $2
"""
_REMOTE = (
    "select subject, endpoint_id, remote_id from core.remote_reference where subject = any($1::text[]) order by id"
)
_RANK = {"request": 0, "act": 1, "event": 2, "decision": 3, "attempt": 4}


async def trace(ctx: Context, key: str) -> Trace:
    """Follow a correlation id, a ticket's id, an event's id or a remote record's id through everything it led to.

    Raises:
        NotFound: nothing is known under that key, or the actor may not see it.
    """
    reach = reach_of(ctx.actor)
    found_by, events = await _events(reach, key)
    deliveries = await deliveries_of_events(reach, [event.event_id for event in events], count_max=DELIVERIES_MAX + 1)
    kept = deliveries[:DELIVERIES_MAX]
    subjects = tuple(dict.fromkeys(event.subject for event in events))
    correlation_ids = tuple(dict.fromkeys(event.correlation_id for event in events))
    acts = await fetch(
        _ACTS, list(subjects), list(correlation_ids), [str(each.delivery_id) for each in kept], STEPS_MAX + 1
    )
    tries = await fetch(_TRIES, [each.delivery_id for each in kept], STEPS_MAX + 1)
    steps = _in_order(
        [
            *_requests(events, acts),
            *(_act(row, events) for row in acts),
            *(_event(event) for event in events),
            *(_decision(each) for each in kept),
            *_attempts(tries, kept),
        ]
    )
    remote = await fetch(_REMOTE, list(subjects))
    return Trace(
        key=key,
        found_by=found_by,
        correlation_ids=correlation_ids,
        subjects=subjects,
        steps=tuple(steps[:STEPS_MAX]),
        deliveries=tuple(kept),
        remote_records=tuple(RemoteRecord(**row) for row in remote),
        truncated=len(events) == EVENTS_MAX or len(deliveries) > DELIVERIES_MAX or len(steps) > STEPS_MAX,
    )


async def _events(reach: Reach, key: str) -> tuple[str, list[StoredEvent]]:
    for found_by, condition in _FOUND_BY:
        if found_by == "event_id" and not _is_uuid(key):
            continue
        where = Where()
        where.add(condition, key)
        reach.narrow(where, site="site_id", module="module")
        rows = await fetch(
            f"select {COLUMNS} from core.event where {where.sql} order by seq limit {EVENTS_MAX}", *where.values
        )
        if rows:
            return found_by, [stored(row) for row in rows]
    raise NotFound(f"Nothing is known under {key}: no correlation id, ticket, event or remote record of that name.")


def _is_uuid(key: str) -> bool:
    try:
        UUID(key)
    except ValueError:
        return False
    return True


def _in_order(steps: Sequence[TraceStep]) -> list[TraceStep]:
    return sorted(steps, key=lambda step: (step.at, _RANK[step.kind], step.delivery_id or 0, step.attempt or 0))


def _requests(events: Sequence[StoredEvent], acts: Sequence[asyncpg.Record]) -> list[TraceStep]:
    """The beginning of each correlation id: who asked, and when the first thing came of it."""
    names = {row["correlation_id"]: row["actor_name"] for row in reversed(acts)}
    began = {row["correlation_id"]: row["at"] for row in reversed(acts)}
    first = {event.correlation_id: event for event in reversed(events)}
    return [
        TraceStep(
            at=min(began.get(correlation_id, event.time), event.time),
            kind="request",
            text=f"{names.get(correlation_id, event.actor_id)} asked for it.",
            correlation_id=correlation_id,
            site=event.site_id,
            actor=names.get(correlation_id, event.actor_id),
            traceparent=event.traceparent,
        )
        for correlation_id, event in first.items()
    ]


def _act(row: asyncpg.Record, events: Sequence[StoredEvent]) -> TraceStep:
    moved = f": {row['previous_status'] or 'new'} → {row['new_status']}" if row["new_status"] else ""
    is_delivery = row["object_kind"] == "delivery"
    return TraceStep(
        at=row["at"],
        kind="act",
        text=f"{row['actor_name']} did {row['action']} on {row['object_id']}{moved}.",
        correlation_id=row["correlation_id"],
        site=row["site_id"] or events[0].site_id,
        actor=row["actor_name"],
        subject=None if is_delivery else row["object_id"],
        delivery_id=int(row["object_id"]) if is_delivery else None,
        state=row["new_status"],
        detail=row["comment"],
    )


def _event(event: StoredEvent) -> TraceStep:
    return TraceStep(
        at=event.time,
        kind="event",
        text=f"{event.event_type} tells of {event.subject}"
        + (f" at position {event.position}." if event.position is not None else "; the relay has not seen it yet."),
        correlation_id=event.correlation_id,
        site=event.site_id,
        actor=event.actor_id,
        subject=event.subject,
        event_id=event.event_id,
        event_type=event.event_type,
        detail=f"came in from {event.origin}" if event.origin else None,
        traceparent=event.traceparent,
    )


def _decision(delivery: DeliveryView) -> TraceStep:
    never_tried = delivery.attempts == 0
    # What a delivery was at first is only kept as far as it shows: one that was never tried is still what it was.
    state = delivery.state if never_tried and delivery.state in ("skipped", "dead") else "pending"
    to = f" to {delivery.endpoint_id}" if delivery.endpoint_id else ""
    verdict = {"pending": f"is to get it{to}", "skipped": "does not get it", "dead": "could not be worked out"}[state]
    return TraceStep(
        at=delivery.created_at,
        kind="decision",
        text=f"{delivery.subscription} {verdict}.",
        state=state,
        detail=delivery.last_error if state != "pending" else None,
        **_facts(delivery),
    )


def _attempts(tries: Sequence[asyncpg.Record], deliveries: Sequence[DeliveryView]) -> list[TraceStep]:
    by_id = {delivery.delivery_id: delivery for delivery in deliveries}
    steps = []
    for row in tries:
        delivery = by_id[row["delivery_id"]]
        to = f" to {delivery.endpoint_id}" if delivery.endpoint_id else ""
        by = " by Camel" if row["runner"] == "camel" else ""
        steps.append(
            TraceStep(
                at=row["started_at"],
                ended_at=row["finished_at"],
                kind="attempt",
                text=f"Attempt {row['attempt']} of {delivery.subscription}{to}{by}: {row['outcome']}.",
                state=row["outcome"],
                attempt=row["attempt"],
                runner=row["runner"],
                detail=row["detail"],
                remote_id=delivery.remote_id if row["outcome"] == "delivered" else None,
                **_facts(delivery),
            )
        )
    return steps


def _facts(delivery: DeliveryView) -> dict[str, Any]:
    return {
        "correlation_id": delivery.correlation_id,
        "site": delivery.site,
        "subject": delivery.subject,
        "event_id": delivery.event_id,
        "event_type": delivery.event_type,
        "delivery_id": delivery.delivery_id,
        "subscription": delivery.subscription,
        "endpoint_id": delivery.endpoint_id,
        "route_id": delivery.route_id,
        "route_version": delivery.route_version,
    }
