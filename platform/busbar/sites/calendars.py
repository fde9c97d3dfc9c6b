"""The working hours and holidays of sites: every version is kept, for what was promised by one stays promised by it."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from itertools import pairwise
from typing import Any, ClassVar, Final, Literal
from zoneinfo import ZoneInfo

import msgspec

from busbar.audit import record
from busbar.auth.actor import Context
from busbar.db import execute, fetch, fetchrow, on_commit, transaction
from busbar.db.wakeup import Channel, poke
from busbar.errors import FieldError, InvalidPayload, NotFound
from busbar.kit.working_time import ALWAYS, WorkingTime
from busbar.web.conditional import ANY_VERSION, IfMatch
from busbar.web.text import Name, TimeOfDay

WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
WEEKLY_MINUTES_MIN: Final = 240
"""With less, the deadline of a long target would lie beyond anybody's plans."""


class WorkingHours(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A period of a weekday in which work is done."""

    EXAMPLE: ClassVar[dict[str, Any]] = {"weekday": "monday", "starts": "07:00", "ends": "16:00"}

    weekday: Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
    starts: TimeOfDay
    ends: TimeOfDay


class Holiday(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A day on which nobody works."""

    EXAMPLE: ClassVar[dict[str, Any]] = {"day": "2026-12-25", "name": "Christmas Day"}

    day: date
    name: Name


class CalendarView(msgspec.Struct, frozen=True, kw_only=True):
    """When work is done at a site."""

    site: str
    timezone: str
    hours: tuple[WorkingHours, ...] | None
    """In the site's time zone; null is around the clock."""
    holidays: tuple[Holiday, ...]
    version: int
    """0 until somebody sets a calendar."""
    changed_by: str | None
    changed_at: datetime | None


_LATEST = "select * from core.site_calendar where site_id = $1 order by version desc limit 1"
_INSERT = """
insert into core.site_calendar (site_id, version, timezone, hours, holidays, created_by, created_at)
values ($1, $2, $3, $4::jsonb, $5::jsonb, $6, $7)
"""


async def set_calendar(
    ctx: Context,
    site_id: str,
    *,
    hours: Sequence[WorkingHours] | None,
    holidays: Sequence[Holiday],
    expected: IfMatch = ANY_VERSION,
) -> int:
    """Give a site these working hours and holidays; returns the version. Tickets that are open keep their deadlines.

    Raises:
        NotFound: there is no such site, or the actor does not work for it.
        StaleVersion: somebody else changed the calendar meanwhile.
        InvalidPayload: periods that overlap or end before they start, a day named twice, or too little working time.
    """
    if errors := [*_errors_of_hours(hours), *_errors_of_holidays(holidays)]:
        raise InvalidPayload("The calendar cannot be used.", errors=errors)
    async with transaction():
        site = await fetchrow("select timezone from core.site where site_id = $1 for update", site_id)
        if site is None or not ctx.actor.sees_site(site_id):
            raise NotFound(f"There is no site {site_id}.")
        latest = await fetchrow(_LATEST, site_id)
        version: int = 0 if latest is None else latest["version"]
        expected.require(version)
        await execute(
            _INSERT,
            site_id,
            version + 1,
            site["timezone"],
            None if hours is None else msgspec.json.encode(hours).decode(),
            msgspec.json.encode(sorted(holidays, key=lambda each: each.day)).decode(),
            ctx.actor.username,
            ctx.clock(),
        )
        await record(
            ctx,
            action="site.set_calendar",
            object_kind="site",
            object_id=site_id,
            site_id=site_id,
            details={"version": version + 1, "hours": hours, "holidays": holidays},
        )
        on_commit(_changed)
        return version + 1


async def renew_calendar(ctx: Context, site_id: str, *, timezone: str) -> None:
    """Make the version of a site's calendar, if it has one, that is read in its new time zone."""
    await execute(
        "insert into core.site_calendar (site_id, version, timezone, hours, holidays, created_by, created_at) "
        f"select site_id, version + 1, $2, hours, holidays, $3, $4 from ({_LATEST}) latest",
        site_id,
        timezone,
        ctx.actor.username,
        ctx.clock(),
    )


async def get_calendar(ctx: Context, site_id: str) -> CalendarView:
    """The calendar of a site.

    Raises:
        NotFound: there is no such site, or the actor does not work for it.
    """
    site = await fetchrow("select timezone from core.site where site_id = $1", site_id)
    if site is None or not ctx.actor.sees_site(site_id):
        raise NotFound(f"There is no site {site_id}.")
    row = await fetchrow(_LATEST, site_id)
    return CalendarView(
        site=site_id,
        timezone=site["timezone"],
        hours=None if row is None else _hours_of(row),
        holidays=() if row is None else _holidays_of(row),
        version=0 if row is None else row["version"],
        changed_by=None if row is None else row["created_by"],
        changed_at=None if row is None else row["created_at"],
    )


class CalendarDirectory:
    """The present calendars of all sites, in memory; earlier versions are read when they are asked for."""

    def __init__(self) -> None:
        self._latest: Mapping[str, tuple[int, datetime, WorkingTime]] = {}

    async def refresh(self) -> None:
        """Read the calendars again that are new."""
        rows = await fetch(
            "select distinct on (site_id) site_id, version, created_at from core.site_calendar "
            "order by site_id, version desc"
        )
        latest = {}
        for row in rows:
            site, version, made_at = row["site_id"], row["version"], row["created_at"]
            known = self._latest.get(site)
            same = known is not None and known[:2] == (version, made_at)
            latest[site] = known if known is not None and same else (version, made_at, await _read(site, version))
        self._latest = latest

    def sites(self) -> list[str]:
        """The sites that have a calendar."""
        return list(self._latest)

    def latest(self, site_id: str) -> tuple[int, WorkingTime]:
        """The present version and what it says; 0 and around the clock where nobody set one."""
        known = self._latest.get(site_id)
        return (0, ALWAYS) if known is None else (known[0], known[2])

    async def at(self, site_id: str, version: int) -> WorkingTime:
        """What a version says."""
        if version == 0:
            return ALWAYS
        present, calendar = self.latest(site_id)
        return calendar if present == version else await _read(site_id, version)


CALENDARS = CalendarDirectory()
"""Refreshed at start and on every change."""


def _changed() -> None:
    poke(Channel.CONFIG)


async def _read(site_id: str, version: int) -> WorkingTime:
    row = await fetchrow("select * from core.site_calendar where site_id = $1 and version = $2", site_id, version)
    assert row is not None, f"version {version} of the calendar of {site_id} was kept"
    hours = _hours_of(row)
    return WorkingTime(
        ZoneInfo(row["timezone"]),
        None if hours is None else _by_weekday(hours),
        {each.day: each.name for each in _holidays_of(row)},
    )


def _hours_of(row: Any) -> tuple[WorkingHours, ...] | None:
    return None if row["hours"] is None else msgspec.json.decode(row["hours"], type=tuple[WorkingHours, ...])


def _holidays_of(row: Any) -> tuple[Holiday, ...]:
    return msgspec.json.decode(row["holidays"], type=tuple[Holiday, ...])


def _minutes(time_of_day: str) -> int:
    hours, _, minutes = time_of_day.partition(":")
    return int(hours) * 60 + int(minutes)


def _by_weekday(hours: Sequence[WorkingHours]) -> dict[int, list[tuple[int, int]]]:
    found: dict[int, list[tuple[int, int]]] = {}
    for each in hours:
        found.setdefault(WEEKDAYS.index(each.weekday), []).append((_minutes(each.starts), _minutes(each.ends)))
    return {weekday: sorted(periods) for weekday, periods in found.items()}


def _errors_of_hours(hours: Sequence[WorkingHours] | None) -> list[FieldError]:
    if hours is None:
        return []
    errors = [
        FieldError(field=f"hours[{n}].ends", message="Must be later than `starts`.")
        for n, each in enumerate(hours)
        if _minutes(each.ends) <= _minutes(each.starts)
    ]
    for weekday, periods in _by_weekday(hours).items():
        if any(one[1] > other[0] for one, other in pairwise(periods)):
            errors.append(FieldError(field="hours", message=f"Periods of {WEEKDAYS[weekday]} overlap."))
    if not errors and sum(_minutes(each.ends) - _minutes(each.starts) for each in hours) < WEEKLY_MINUTES_MIN:
        errors.append(FieldError(field="hours", message=f"Must be at least {WEEKLY_MINUTES_MIN // 60} hours a week."))
    return errors


def _errors_of_holidays(holidays: Sequence[Holiday]) -> list[FieldError]:
    days = [each.day for each in holidays]
    return [
        FieldError(field=f"holidays[{n}].day", message="This day is named twice.")
        for n, day in enumerate(days)
        if day in days[:n]
    ]
