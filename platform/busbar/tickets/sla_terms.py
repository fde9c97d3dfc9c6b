"""What is promised at each site, as every process keeps it in memory: targets, calendars, weather events."""

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from busbar.db import fetch
from busbar.kit.clock import Clock
from busbar.kit.working_time import ALWAYS, END_OF_TIME, WorkingTime
from busbar.sites.calendars import CALENDARS
from busbar.sites.directory import DIRECTORY
from busbar.tickets import sla

ALL_SITES: Final = "*"
"""The scope of the targets of sites that have none of their own."""
INCIDENT: Final = "Incident"
"""The type of ticket that weather events concern."""

Targets = Mapping[str, Mapping[str, sla.Target]]
"""By class and priority."""


class StoredTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody set for a site or for all: some of the targets, perhaps the point of warning."""

    targets: dict[str, dict[str, sla.Target]]
    warn_percent: int | None = None


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What is promised at a site: every class and priority."""

    targets: Targets
    warn_percent: int

    def with_stored(self, stored: StoredTerms) -> "Terms":
        """These terms, but for what somebody set otherwise."""
        return Terms(
            targets={
                sla_class: {**targets, **stored.targets.get(sla_class, {})}
                for sla_class, targets in self.targets.items()
            },
            warn_percent=self.warn_percent if stored.warn_percent is None else stored.warn_percent,
        )


BUILT_IN: Final = Terms(targets=sla.TARGETS, warn_percent=sla.WARN_PERCENT)


class Storm(msgspec.Struct, frozen=True, kw_only=True):
    """A weather event in which tickets are still opened."""

    weather_event_id: str
    starts_at: datetime
    ends_at: datetime

    def covers(self, moment: datetime) -> bool:
        """Whether a ticket that is opened then belongs to it."""
        return self.starts_at <= moment < self.ends_at


class TermsDirectory:
    """The terms of all sites."""

    def __init__(self) -> None:
        self._default = BUILT_IN
        self._own: Mapping[str, Terms] = {}
        self._storms: Mapping[str, tuple[Storm, ...]] = {}

    async def refresh(self, clock: Clock) -> None:
        """Read what changed: calendars, targets, weather events that are not over."""
        await CALENDARS.refresh()
        rows = await fetch("select scope, targets, warn_percent from core.sla_terms")
        stored = {row["scope"]: stored_terms(row) for row in rows}
        default = BUILT_IN.with_stored(stored.pop(ALL_SITES, StoredTerms(targets={})))
        storms: dict[str, tuple[Storm, ...]] = {}
        for row in await fetch(_COMING_STORMS, clock()):
            storm = Storm(
                weather_event_id=str(row["weather_event_id"]),
                starts_at=row["starts_at"],
                ends_at=row["ends_at"] or END_OF_TIME,
            )
            storms[row["site_id"]] = (*storms.get(row["site_id"], ()), storm)
        self._default = default
        self._own = {site: default.with_stored(each) for site, each in stored.items()}
        self._storms = storms

    def at(self, site_id: str) -> Terms:
        """The terms of a site."""
        return self._own.get(site_id, self._default)

    def for_opening(self, now: datetime, module: str, priorities: Collection[str]) -> str:
        """What tickets of the module that are opened now are promised, for the statement that opens tickets.

        A JSON object whose keys are `<priority>` for sites at which nothing is special, `<site> <priority>` for the
        others, and `<site> <priority> Incident` where there is a weather event.
        """
        rows = {
            priority: _row(self._default, sla.STANDARD, priority, now, version=0, calendar=ALWAYS)
            for priority in priorities
        }
        for site in {*CALENDARS.sites(), *self._own, *self._storms}:
            if DIRECTORY.enabled(site, module):
                for priority in priorities:
                    rows.update(self._rows_of(site, priority, now))
        return msgspec.json.encode(rows).decode()

    def _rows_of(self, site: str, priority: str, now: datetime) -> Iterator[tuple[str, dict[str, Any]]]:
        terms, (version, calendar) = self.at(site), CALENDARS.latest(site)
        yield f"{site} {priority}", _row(terms, sla.STANDARD, priority, now, version=version, calendar=calendar)
        storm = next((each for each in self._storms.get(site, ()) if each.covers(now)), None)
        if storm is not None:
            row = _row(terms, sla.STORM, priority, now, version=version, calendar=calendar)
            row |= {
                "weather_event_id": storm.weather_event_id,
                "promise_before": promise_before(terms, priority),
            }
            yield f"{site} {priority} {INCIDENT}", row


TERMS = TermsDirectory()
"""Refreshed at start and on every change."""

_COMING_STORMS = """
select weather_event_id, site_id, starts_at, ends_at from core.weather_event
where withdrawn_at is null and (ends_at is null or ends_at > $1) order by created_at, weather_event_id
"""


def stored_terms(row: Any) -> StoredTerms:
    """The terms in a row of core.sla_terms."""
    targets = msgspec.json.decode(row["targets"], type=dict[str, dict[str, sla.Target]])
    return StoredTerms(targets=targets, warn_percent=row["warn_percent"])


def promise_before(terms: Terms, priority: str) -> dict[str, int]:
    """What a ticket in the class `storm` goes back to when its weather event is withdrawn."""
    target = terms.targets[sla.STANDARD][priority]
    return {
        "response_target_s": target.response_s,
        "resolution_target_s": target.resolution_s,
        "warn_percent": terms.warn_percent,
    }


def _row(
    terms: Terms, sla_class: str, priority: str, now: datetime, *, version: int, calendar: WorkingTime
) -> dict[str, Any]:
    target = terms.targets[sla_class][priority]
    at = sla.moments(
        sla.Promise(
            created_at=now,
            response_s=target.response_s,
            resolution_s=target.resolution_s,
            warn_percent=terms.warn_percent,
        ),
        calendar,
    )
    return {
        "sla_class": sla_class,
        "calendar_version": version,
        "response_target_s": target.response_s,
        "resolution_target_s": target.resolution_s,
        "warn_percent": terms.warn_percent,
        "response_deadline": at.response_breached,
        "sla_deadline": at.resolution_breached,
        "alert_due_at": min(at.response_warning or at.resolution_warning, at.resolution_warning),
    }
