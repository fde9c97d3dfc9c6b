"""Tells, once each, that a ticket's time is nearly or quite used up: a job that runs in one process at a time."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from busbar.audit import record
from busbar.auth.actor import Context
from busbar.db import execute, fetch, transaction
from busbar.events.outbox import publish
from busbar.events.registry import REGISTRY, EventRegistry, EventType
from busbar.tickets import sla
from busbar.tickets.events import SlaAlert
from busbar.tickets.promises import holds_of, moments_of, promise_of

BATCH: Final = 200
"""So many tickets are looked at in one transaction."""

WARNING: Final = "SLA_WARNING"
BREACHED: Final = "SLA_BREACHED"

# A row that another process looks at is passed over. Tickets of a module that is not there wait for it.
_CLAIM = """
select * from core.ticket where alert_due_at <= $1 and module = any($2)
order by alert_due_at limit $3 for update skip locked
"""
_LOOKED_AT = """
update core.ticket t set alerts_sent = string_to_array(looked.sent, ','), alert_due_at = looked.due
from unnest($1::text[], $2::text[], $3::timestamptz[]) as looked (ticket_id, sent, due)
where t.ticket_id = looked.ticket_id
"""


def event_types_of(module: str) -> tuple[EventType, ...]:
    """The events about service levels that every business module has, without declaring them."""
    return tuple(
        EventType(name=f"{module.upper()}_{word}", module=module, data=SlaAlert) for word in (WARNING, BREACHED)
    )


async def tell_alerts(ctx: Context) -> int:
    """Tell every alert that has come, batch by batch; returns how many were told."""
    told = 0
    while True:
        looked_at, told_now = await _tell_batch(ctx)
        told += told_now
        if looked_at < BATCH:
            return told


async def _tell_batch(ctx: Context) -> tuple[int, int]:
    now = ctx.clock()
    looked: list[tuple[str, str, datetime | None]] = []
    told = 0
    async with transaction():
        tickets = await fetch(_CLAIM, now, _modules(REGISTRY), BATCH)
        holds = await holds_of([ticket["ticket_id"] for ticket in tickets])
        for ticket in tickets:
            at = await moments_of(ticket, holds.get(ticket["ticket_id"], ()))
            stopped_at = ticket["closed_at"] or ticket["hold_since"]
            due = sla.due_alerts(
                at, now=now, sent=ticket["alerts_sent"], responded_at=ticket["responded_at"], stopped_at=stopped_at
            )
            for name in due:
                await _tell(ctx, ticket, name, at)
            told += len(due)
            stopped = stopped_at is not None
            following = None if stopped else sla.next_alert(at, now=now, responded_at=ticket["responded_at"])
            looked.append((ticket["ticket_id"], ",".join((*ticket["alerts_sent"], *due)), following))
        if looked:
            await execute(_LOOKED_AT, *(list(column) for column in zip(*looked, strict=True)))
    return len(tickets), told


async def _tell(ctx: Context, ticket: Mapping[str, Any], name: str, at: sla.Moments) -> None:
    """Write the alert, as part of the chain of what opened the ticket."""
    moments = at._asdict()
    target: Literal["response", "resolution"] = "response" if name.startswith("response") else "resolution"
    promise = promise_of(ticket)
    target_s = promise.resolution_s if target == "resolution" else promise.response_s
    assert target_s is not None, "what was not promised is never due"
    own = msgspec.structs.replace(ctx, correlation_id=ticket["correlation_id"])
    breached = name.endswith("breached")
    await record(
        own,
        action="ticket.sla_breached" if breached else "ticket.sla_warning",
        object_kind="ticket",
        object_id=ticket["ticket_id"],
        site_id=ticket["site_id"],
        previous_status=ticket["status"],
        new_status=ticket["status"],
        comment=f"{'All' if breached else f'{promise.warn_percent} %'} of the time for the {target} is used up.",
        details={"target": target, "round": ticket["sla_round"], "target_s": target_s},
    )
    await publish(
        own,
        f"{ticket['module'].upper()}_{BREACHED if breached else WARNING}",
        subject=ticket["ticket_id"],
        site_id=ticket["site_id"],
        time=ctx.clock(),
        data=SlaAlert(
            ticket_id=ticket["ticket_id"],
            site=ticket["site_id"],
            ticket_type=ticket["ticket_type"],
            title=ticket["title"],
            priority=ticket["priority"],
            status=ticket["status"],
            assignee=ticket["assignee"],
            target=target,
            sla_class=ticket["sla_class"],
            round=ticket["sla_round"],
            target_s=target_s,
            reached_at=moments[name],
            deadline=moments[f"{target}_breached"],
            object_kind=ticket["object_kind"],
            object_id=ticket["object_id"],
        ),
    )


def _modules(registry: EventRegistry) -> Sequence[str]:
    return [each.module for each in registry if each.name == f"{each.module.upper()}_{BREACHED}"]
