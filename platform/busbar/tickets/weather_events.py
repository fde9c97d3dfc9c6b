"""Weather events: somebody declares, perhaps afterwards, that a time at a site was one; incidents in it are a class."""

from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec

from busbar.audit import record
from busbar.auth.actor import Context
from busbar.db import execute, fetchrow, on_commit, transaction
from busbar.db.wakeup import Channel, poke
from busbar.errors import FieldError, ForbiddenTransition, InvalidPayload, NotFound
from busbar.kit.ids import uuid7
from busbar.tickets.retargeting import settle
from busbar.tickets.sla_terms import TERMS
from busbar.web.conditional import ANY_VERSION, IfMatch
from busbar.web.conditions import Where
from busbar.web.pagination import Page, SortColumn, fetch_page, page_request

AGE_MAX: Final = timedelta(days=400)
"""So far back an event may begin: what was promised earlier has been reported by now."""
AHEAD_MAX: Final = timedelta(days=31)


class WeatherEventView(msgspec.Struct, frozen=True, kw_only=True):
    """A time of bad weather at a site, in which incidents have the targets of the class `storm`."""

    weather_event_id: UUID
    site: str
    name: str
    starts_at: datetime
    ends_at: datetime | None
    """Exclusive; null while it goes on."""
    withdrawn_at: datetime | None
    tickets: int
    """Incidents that are in it."""
    declared_by: str
    created_at: datetime
    updated_at: datetime
    version: int


SORT_COLUMNS = {
    "created_at": SortColumn(sql="w.created_at", type=datetime),
    "starts_at": SortColumn(sql="w.starts_at", type=datetime),
    "weather_event_id": SortColumn(sql="w.weather_event_id", type=UUID),
}

_COLUMNS = """
w.weather_event_id, w.site_id as site, w.name, w.starts_at, w.ends_at, w.withdrawn_at,
(select count(*) from core.ticket t where t.weather_event_id = w.weather_event_id) as tickets,
w.declared_by, w.created_at, w.updated_at, w.version
"""
_MINE = "($1::text[] is null or w.site_id = any($1))"
_INSERT = """
insert into core.weather_event (weather_event_id, site_id, name, starts_at, ends_at, declared_by, created_at,
    updated_at)
values ($1, $2, $3, $4, $5, $6, $7, $7)
"""
_UPDATE = """
update core.weather_event set name = $2, starts_at = $3, ends_at = $4, withdrawn_at = $5, updated_at = $6,
    settled = false, version = version + 1
where weather_event_id = $1
"""


async def declare(ctx: Context, *, site_id: str, name: str, starts_at: datetime, ends_at: datetime | None) -> UUID:
    """Declare a weather event, now or afterwards; the incidents of its period get the targets of the class `storm`.

    Raises:
        NotFound: there is no such site, or the actor does not work for it.
        InvalidPayload: the period ends before it begins, or lies too far back or ahead.
    """
    now = ctx.clock()
    _check_period(now, starts_at, ends_at)
    weather_event_id = uuid7()
    async with transaction():
        site = await fetchrow("select 1 from core.site where site_id = $1", site_id)
        if site is None or not ctx.actor.sees_site(site_id):
            raise NotFound(f"There is no site {site_id}.")
        await execute(_INSERT, weather_event_id, site_id, name, starts_at, ends_at, ctx.actor.username, now)
        details = {"name": name, "starts_at": starts_at, "ends_at": ends_at}
        await _record(ctx, "declare", weather_event_id, site_id, details=details)
        on_commit(_changed)
    await _settle(ctx, weather_event_id)
    return weather_event_id


async def change(
    ctx: Context,
    weather_event_id: UUID,
    *,
    name: str | None = None,
    starts_at: datetime | None = None,
    ends_at: datetime | None = None,
    expected: IfMatch = ANY_VERSION,
) -> None:
    """Change or end a weather event; incidents that its period no longer covers go back to their former targets.

    Raises:
        NotFound: there is no such event at the actor's sites.
        StaleVersion: somebody else changed it meanwhile.
        ForbiddenTransition: it was withdrawn.
        InvalidPayload: as with `declare`.
    """
    async with transaction():
        row = await _lock(ctx, weather_event_id, expected)
        now = ctx.clock()
        begin, end = starts_at or row["starts_at"], ends_at or row["ends_at"]
        _check_period(now, begin, end)
        await execute(_UPDATE, weather_event_id, name or row["name"], begin, end, None, now)
        details = {"name": name, "starts_at": starts_at, "ends_at": ends_at}
        await _record(ctx, "change", weather_event_id, row["site_id"], details=details)
        on_commit(_changed)
    await _settle(ctx, weather_event_id)


async def withdraw(ctx: Context, weather_event_id: UUID, *, reason: str, expected: IfMatch = ANY_VERSION) -> None:
    """Take a weather event back, as if it had not been declared: its incidents get their former targets again.

    Raises:
        NotFound, StaleVersion: as with `change`.
        ForbiddenTransition: it was withdrawn already.
    """
    async with transaction():
        row = await _lock(ctx, weather_event_id, expected)
        now = ctx.clock()
        await execute(_UPDATE, weather_event_id, row["name"], row["starts_at"], row["ends_at"], now, now)
        await _record(ctx, "withdraw", weather_event_id, row["site_id"], comment=reason)
        on_commit(_changed)
    await _settle(ctx, weather_event_id)


async def get_weather_event(ctx: Context, weather_event_id: UUID) -> WeatherEventView:
    """One weather event.

    Raises:
        NotFound: there is no such event at the actor's sites.
    """
    row = await fetchrow(
        f"select {_COLUMNS} from core.weather_event w where {_MINE} and w.weather_event_id = $2",
        ctx.actor.site_filter,
        weather_event_id,
    )
    if row is None:
        raise NotFound(f"There is no weather event {weather_event_id}.")
    return WeatherEventView(**row)


async def list_weather_events(
    ctx: Context, *, site: str | None, limit: int, cursor: str | None, sort: str | None
) -> Page[WeatherEventView]:
    """A page of the weather events of the actor's sites, the latest declared first."""
    asked = page_request(
        limit=limit, cursor=cursor, sort=sort, columns=SORT_COLUMNS, default="-created_at", key="weather_event_id"
    )
    where = Where(_MINE, ctx.actor.site_filter)
    where.add("w.site_id = {}", site)
    return await fetch_page(
        asked, where, columns=_COLUMNS, source="core.weather_event w", to_item=lambda row: WeatherEventView(**row)
    )


async def _lock(ctx: Context, weather_event_id: UUID, expected: IfMatch) -> Any:
    row = await fetchrow("select * from core.weather_event where weather_event_id = $1 for update", weather_event_id)
    if row is None or not ctx.actor.sees_site(row["site_id"]):
        raise NotFound(f"There is no weather event {weather_event_id}.")
    expected.require(row["version"])
    if row["withdrawn_at"] is not None:
        raise ForbiddenTransition("The weather event was withdrawn; declare another one.")
    return row


async def _settle(ctx: Context, weather_event_id: UUID) -> None:
    # Tickets that are opened from now on are in the class at once, in this process; the others hear of it.
    await TERMS.refresh(ctx.clock)
    await settle(ctx, weather_event_id)


async def _record(ctx: Context, verb: str, weather_event_id: UUID, site_id: str, **more: Any) -> None:
    await record(
        ctx,
        action=f"weather_event.{verb}",
        object_kind="weather_event",
        object_id=str(weather_event_id),
        site_id=site_id,
        **more,
    )


def _check_period(now: datetime, starts_at: datetime, ends_at: datetime | None) -> None:
    errors = []
    if not now - AGE_MAX <= starts_at <= now + AHEAD_MAX:
        message = f"Must be at most {AGE_MAX.days} days ago and {AHEAD_MAX.days} days ahead."
        errors.append(FieldError(field="starts_at", message=message))
    if ends_at is not None and ends_at <= starts_at:
        errors.append(FieldError(field="ends_at", message="Must be later than `starts_at`."))
    if errors:
        raise InvalidPayload("The period cannot be used.", errors=errors)


def _changed() -> None:
    poke(Channel.CONFIG)
