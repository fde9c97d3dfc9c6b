"""Reading events: one, lists, those of a subject. Rows are limited to the actor's sites and modules."""

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from busbar.auth.actor import Context
from busbar.db import fetch, fetchrow
from busbar.errors import NotFound
from busbar.events.access import reach_of
from busbar.events.envelope import COLUMNS, CloudEvent, StoredEvent, stored
from busbar.events.registry import EventRegistry
from busbar.web.conditions import Where
from busbar.web.pagination import Page, SortColumn, fetch_page, page_request

OF_SUBJECT_MAX = 1_000


class EventView(CloudEvent, frozen=True, kw_only=True):
    """An event as the API and the stream show it: the CloudEvent, with further extension attributes."""

    position: int | None
    """Place in the stream, without gaps; null until the relay has seen it, a moment after the commit."""
    module: str
    actor: str
    """User id of who caused it, or `system:` and the part of Busbar that acted by itself."""
    origin: str | msgspec.UnsetType = msgspec.UNSET
    """The endpoint that the change came in from; left out for changes made here."""


class EventTypeView(msgspec.Struct, frozen=True, kw_only=True):
    """A type of event that an installed plugin declares."""

    type: str
    module: str
    version: int
    description: str
    json_schema: dict[str, Any]
    """JSON Schema (2020-12) of the event's `data`, complete in itself."""


class EventFilter(msgspec.Struct, frozen=True, kw_only=True):
    """What a list of events is narrowed to; None leaves it open."""

    types: tuple[str, ...] | None = None
    module: str | None = None
    site: str | None = None
    subject: str | None = None
    correlation_id: str | None = None
    time_from: datetime | None = None
    time_to: datetime | None = None
    """Exclusive."""


_BY_POSITION = {"position": SortColumn(sql="position", type=int)}


async def list_events(
    ctx: Context, wanted: EventFilter, *, limit: int = 50, cursor: str | None = None
) -> Page[EventView]:
    """A page of the events that the actor may see, newest first."""
    asked = page_request(
        limit=limit, cursor=cursor, sort=None, columns=_BY_POSITION, default="-position", key="position"
    )
    where = _conditions(ctx, wanted)
    return await fetch_page(asked, where, columns=COLUMNS, source="core.event", to_item=lambda row: view(stored(row)))


async def get_event(ctx: Context, event_id: UUID) -> EventView:
    """One event.

    Raises:
        NotFound: there is no such event, or the actor may not see it.
    """
    row = await fetchrow(f"select {COLUMNS} from core.event where event_id = $1", event_id)
    if row is None or not reach_of(ctx.actor).includes(site_id=row["site_id"], module=row["module"]):
        raise NotFound(f"There is no event {event_id}.")
    return view(stored(row))


async def events_of_subject(ctx: Context, subject: str) -> tuple[EventView, ...]:
    """The latest `OF_SUBJECT_MAX` events about a subject, such as a ticket, that the actor may see; oldest first."""
    where = Where()
    where.add("subject = {}", subject)
    reach_of(ctx.actor).narrow(where, site="site_id", module="module")
    rows = await fetch(
        f"select {COLUMNS} from core.event where {where.sql} order by seq desc limit {OF_SUBJECT_MAX}", *where.values
    )
    return tuple(view(stored(row)) for row in reversed(rows))


def event_types(registry: EventRegistry) -> tuple[EventTypeView, ...]:
    """All declared types, by name."""
    return tuple(
        EventTypeView(
            type=each.name,
            module=each.module,
            version=each.version,
            description=each.description,
            json_schema=each.json_schema(),
        )
        for each in registry
    )


def view(event: StoredEvent) -> EventView:
    """The form in which an event is shown."""
    envelope = msgspec.structs.asdict(event.cloud_event())
    return EventView(
        **envelope,
        position=event.position,
        module=event.module,
        actor=event.actor_id,
        origin=event.origin or msgspec.UNSET,
    )


def _conditions(ctx: Context, wanted: EventFilter) -> Where:
    where = Where()
    where.add_plain("position is not null")
    where.add("event_type = any({}::text[])", None if wanted.types is None else list(wanted.types))
    where.add("module = {}", wanted.module)
    where.add("site_id = {}", wanted.site)
    where.add("subject = {}", wanted.subject)
    where.add("correlation_id = {}", wanted.correlation_id)
    where.add("time >= {}", wanted.time_from)
    where.add("time < {}", wanted.time_to)
    reach_of(ctx.actor).narrow(where, site="site_id", module="module")
    return where
