"""What was promised for a ticket, read from its row."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from busbar.db import execute, fetch
from busbar.sites.calendars import CALENDARS
from busbar.tickets import sla


def promise_of(ticket: Mapping[str, Any]) -> sla.Promise:
    """The promise in a row of core.ticket; where it says nothing of a resolution, what its priority stands for."""
    return sla.Promise(
        created_at=ticket["created_at"],
        response_s=ticket["response_target_s"],
        resolution_s=ticket["resolution_target_s"] or sla.TARGETS[sla.STANDARD][promised_priority(ticket)].resolution_s,
        warn_percent=ticket["warn_percent"],
    )


def promised_priority(ticket: Mapping[str, Any]) -> str:
    """The priority that the ticket had when its deadline was promised."""
    priority: str = ticket["promised_priority"] or ticket["priority"]
    return priority


async def holds_of(ticket_ids: Sequence[str]) -> dict[str, list[sla.Hold]]:
    """The finished holds of these tickets, oldest first."""
    rows = await fetch(
        "select ticket_id, held_from, held_until from core.ticket_hold where ticket_id = any($1) order by held_from",
        list(ticket_ids),
    )
    found: dict[str, list[sla.Hold]] = {}
    for row in rows:
        found.setdefault(row["ticket_id"], []).append((row["held_from"], row["held_until"]))
    return found


async def moments_of(ticket: Mapping[str, Any], holds: Sequence[sla.Hold]) -> sla.Moments:
    """When the warnings and deadlines of a ticket come, after these holds."""
    calendar = await CALENDARS.at(ticket["site_id"], ticket["calendar_version"])
    return sla.moments(promise_of(ticket), calendar, holds)


async def off_hold(ticket: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """Keep the hold that ends now, and work the deadlines out anew; returns what changes in the ticket's row."""
    since = ticket["hold_since"]
    held = max(timedelta(0), now - since)
    await execute(
        "insert into core.ticket_hold (ticket_id, held_from, held_until) values ($1, $2, $3)",
        ticket["ticket_id"],
        since,
        since + held,
    )
    holds = await holds_of([ticket["ticket_id"]])
    at = await moments_of(ticket, holds[ticket["ticket_id"]])
    return {
        "on_hold": False,
        "hold_since": None,
        "held_s": ticket["held_s"] + int(held.total_seconds()),
        "sla_deadline": at.resolution_breached,
        "response_deadline": at.response_breached,
        "alert_due_at": now,
    }
