"""How a ticket is changed: its row is locked, and written together with an audit entry and an event."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import asyncpg

from busbar.audit import record
from busbar.auth.actor import Context
from busbar.db import execute, fetchrow
from busbar.errors import NotFound
from busbar.events.outbox import publish
from busbar.kit.crash import crash_point
from busbar.tickets import lifecycle
from busbar.tickets.events import TicketUpdated
from busbar.web.conditional import IfMatch

_WRITTEN = (
    "status", "on_hold", "hold_since", "held_s", "sla_deadline", "assignee", "closed_at", "priority", "sla_class",
    "weather_event_id", "promised_priority", "promise_before", "response_target_s", "resolution_target_s",
    "warn_percent", "response_deadline", "responded_at", "sla_round", "alerts_sent", "alert_due_at",
)  # fmt: skip
"""The columns that a change may change."""
_UPDATE = f"""
update core.ticket set updated_at = $2, version = version + 1,
    {", ".join(f"{name} = ${n}" for n, name in enumerate(_WRITTEN, start=3))}
where ticket_id = $1
"""


async def lock_ticket(ctx: Context, ticket_id: str, *, expected: IfMatch) -> asyncpg.Record:
    """The ticket's row, locked until the end of the transaction.

    Raises:
        NotFound: there is no such ticket, or the actor may not see it.
        Forbidden: the actor may not change it.
        StaleVersion: it is not the version that the caller saw.
    """
    ticket = await fetchrow("select * from core.ticket where ticket_id = $1 for update", ticket_id)
    hidden = ticket is None or not ctx.actor.sees_site(ticket["site_id"])
    if ticket is None or hidden or not ctx.actor.may(f"{ticket['module']}.read"):
        raise NotFound(f"There is no ticket {ticket_id}.")
    ctx.require(f"{ticket['module']}.write")
    expected.require(ticket["version"])
    return ticket


async def write_ticket(
    ctx: Context, ticket: Mapping[str, Any], *, action: str, comment: str | None, **changes: Any
) -> int:
    """Write the changed columns of a locked row, with its audit entry and its event; returns the new version."""
    now = ctx.clock()
    after = {**ticket, **changes}
    if after["responded_at"] is None and after["status"] != lifecycle.OPEN:
        after["responded_at"] = now
    after["alert_due_at"] = _alert_due_at(after, now)
    await execute(_UPDATE, ticket["ticket_id"], now, *(after[name] for name in _WRITTEN))
    version: int = ticket["version"] + 1
    await record(
        ctx,
        action=f"ticket.{action}",
        object_kind="ticket",
        object_id=ticket["ticket_id"],
        site_id=ticket["site_id"],
        previous_status=ticket["status"],
        new_status=after["status"],
        comment=comment,
    )
    await publish(
        ctx,
        f"{ticket['module'].upper()}_TICKET_UPDATED",
        subject=ticket["ticket_id"],
        site_id=ticket["site_id"],
        time=now,
        data=TicketUpdated(
            ticket_id=ticket["ticket_id"],
            ticket_type=ticket["ticket_type"],
            title=ticket["title"],
            priority=after["priority"],
            status=after["status"],
            previous_status=ticket["status"],
            on_hold=after["on_hold"],
            assignee=after["assignee"],
            action=action,
            comment=comment,
            version=version,
            sla_deadline=after["sla_deadline"],
            object_kind=ticket["object_kind"],
            object_id=ticket["object_id"],
        ),
    )
    crash_point("change_before_commit")
    return version


def _alert_due_at(ticket: Mapping[str, Any], now: datetime) -> datetime | None:
    """A clock that stands still needs no watching, but for what came before it stopped and was not told yet."""
    due: datetime | None = ticket["alert_due_at"]
    stopped = ticket["on_hold"] or ticket["status"] in lifecycle.FINAL
    return None if stopped and due is not None and due > now else due
