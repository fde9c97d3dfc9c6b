"""Explains a ticket's deadlines: what was promised, by which calendar, and how each second of it was used up."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

import msgspec

from busbar.auth.actor import Context
from busbar.db import fetchrow
from busbar.kit.working_time import END_OF_TIME, WorkingTime
from busbar.sites.calendars import CALENDARS
from busbar.tickets import queries, sla
from busbar.tickets.promises import holds_of, promise_of, promised_priority


class SlaSegment(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a ticket's time."""

    kind: Literal["working", "storm", "outside_hours", "holiday", "on_hold", "several"]
    """`working`, and `storm` within the ticket's weather event, count; `several` are many short ones taken together."""
    note: str
    """The holiday's name; else empty."""
    starts_at: datetime
    ends_at: datetime
    """Exclusive."""
    counted_s: int
    """Seconds of the target that it uses up."""
    total_s: int
    """Seconds that are used up at its end: the sum of `counted_s` so far."""
    ahead: bool
    """Whether it is yet to come, if nothing happens to the ticket meanwhile."""


class SlaTarget(msgspec.Struct, frozen=True, kw_only=True):
    """How a target is used up, to the second: `consumed_s` and `remaining_s` add up to `target_s`.

    `consumed_s` is the sum of `counted_s` of the segments that are not ahead. Up to the deadline all segments add up to
    `target_s`. Boundaries have microseconds; at each the exact time so far is rounded down, and a segment counts the
    difference of its two boundaries.
    """

    target_s: int
    consumed_s: int
    remaining_s: int
    """Below 0 when it is late."""
    warning_at: datetime
    deadline: datetime
    """When the target is, was or would have been used up; of a ticket on hold, if it were resumed now."""
    stopped_at: datetime | None
    """When the response came, or the work ended; null while the clock runs or the ticket is on hold."""
    state: Literal["running", "on_hold", "late", "kept", "broken"]
    segments: tuple[SlaSegment, ...]


class SlaCalendar(msgspec.Struct, frozen=True, kw_only=True):
    """The calendar by which the promise was made."""

    site: str
    version: int
    """0 is around the clock, without a calendar."""


class SlaView(msgspec.Struct, frozen=True, kw_only=True):
    """What a ticket was promised, and what became of it."""

    ticket_id: str
    sla_class: str
    weather_event_id: str | None
    priority: str
    """The one that was promised for; the ticket may have another by now."""
    round: int
    """How many promises were made: reopening and another class make a new one."""
    alerts_told: tuple[str, ...]
    """In this round: `response_warning`, `response_breached`, `resolution_warning`, `resolution_breached`."""
    warn_percent: int
    calendar: SlaCalendar
    held_s: int
    at: datetime
    """The moment for which this holds."""
    response: SlaTarget | None
    """Null for tickets from before there were response targets."""
    resolution: SlaTarget


async def explain_ticket(ctx: Context, ticket_id: str) -> SlaView:
    """Explain the deadlines of a ticket.

    Raises:
        NotFound: there is no such ticket, or the actor may not see it.
    """
    await queries.get_ticket(ctx, ticket_id)
    ticket = await fetchrow("select * from core.ticket where ticket_id = $1", ticket_id)
    assert ticket is not None, "tickets are never removed"
    calendar = await CALENDARS.at(ticket["site_id"], ticket["calendar_version"])
    now = max(ctx.clock(), ticket["created_at"])
    holds = (await holds_of([ticket_id])).get(ticket_id, [])
    if ticket["on_hold"]:
        holds.append((ticket["hold_since"], max(now, ticket["hold_since"])))
    storm = await _storm_of(ticket)
    promise = promise_of(ticket)
    at = sla.moments(promise, calendar, holds)
    work = _Work(ticket, calendar, tuple(holds), storm, now)
    response = None
    if promise.response_s is not None and at.response_warning is not None:
        response = work.explained(
            promise.response_s, at.response_warning, ticket["responded_at"] or ticket["closed_at"]
        )
    event = ticket["weather_event_id"]
    return SlaView(
        ticket_id=ticket_id,
        sla_class=ticket["sla_class"],
        weather_event_id=None if event is None else str(event),
        priority=promised_priority(ticket),
        round=ticket["sla_round"],
        alerts_told=tuple(ticket["alerts_sent"]),
        warn_percent=ticket["warn_percent"],
        calendar=SlaCalendar(site=ticket["site_id"], version=ticket["calendar_version"]),
        held_s=ticket["held_s"],
        at=now,
        response=response,
        resolution=work.explained(promise.resolution_s, at.resolution_warning, ticket["closed_at"]),
    )


class _Work(msgspec.Struct, frozen=True):
    """What both targets of a ticket have in common."""

    ticket: Mapping[str, Any]
    calendar: WorkingTime
    holds: tuple[sla.Hold, ...]
    storm: tuple[datetime, datetime] | None
    now: datetime

    def explained(self, target_s: int, warning_at: datetime, stopped_at: datetime | None) -> SlaTarget:
        """How one target is used up."""
        explanation = sla.explain(
            sla.timeline(self.calendar, self.ticket["created_at"], self.holds),
            target_s=target_s,
            end=stopped_at or self.now,
            finished=stopped_at is not None,
            storm=self.storm,
        )
        return SlaTarget(
            target_s=target_s,
            consumed_s=explanation.consumed_s,
            remaining_s=explanation.remaining_s,
            warning_at=warning_at,
            deadline=explanation.deadline,
            stopped_at=stopped_at,
            state=self._state(explanation.deadline, stopped_at),
            segments=tuple(_segment(each) for each in explanation.segments),
        )

    def _state(
        self, deadline: datetime, stopped_at: datetime | None
    ) -> Literal["running", "on_hold", "late", "kept", "broken"]:
        if stopped_at is not None:
            return "kept" if stopped_at <= deadline else "broken"
        if self.now > deadline:
            return "late"
        return "on_hold" if self.ticket["on_hold"] else "running"


async def _storm_of(ticket: Mapping[str, Any]) -> tuple[datetime, datetime] | None:
    if ticket["weather_event_id"] is None:
        return None
    row = await fetchrow(
        "select starts_at, ends_at from core.weather_event where weather_event_id = $1", ticket["weather_event_id"]
    )
    assert row is not None, "weather events are withdrawn, never removed"
    return row["starts_at"], row["ends_at"] or END_OF_TIME


def _segment(segment: sla.Segment) -> SlaSegment:
    span = segment.span
    return SlaSegment(
        kind=span.kind,  # type: ignore[arg-type]  # one of those that are listed
        note=span.note,
        starts_at=span.start,
        ends_at=span.end,
        counted_s=segment.counted_s,
        total_s=segment.total_s,
        ahead=segment.ahead,
    )
