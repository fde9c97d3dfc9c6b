"""Gives tickets the SLA class that follows from the weather events of their site, also long after they were opened."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import msgspec

from busbar.auth.actor import Context
from busbar.db import execute, fetch, transaction
from busbar.events.registry import REGISTRY, EventRegistry
from busbar.tickets import lifecycle, sla
from busbar.tickets.changing import write_ticket
from busbar.tickets.promises import holds_of, moments_of, promised_priority
from busbar.tickets.sla_terms import INCIDENT, TERMS, promise_before

BATCH: Final = 100
"""So many tickets are changed in one transaction."""
AT_ONCE_MAX: Final = 1_000
"""So many are changed before a request is answered, or in a run of the job; the rest in the next one."""
SETTLES_AFTER: Final = timedelta(minutes=1)
"""So long after a change of an event a process may still open tickets without knowing of it."""

_COVERS = "{t}.created_at >= {w}.starts_at and ({w}.ends_at is null or {t}.created_at < {w}.ends_at)"
_COVERED = _COVERS.format(t="t", w="w")
_COMING = f"""
select t.*, w.weather_event_id as event_now, w.name as event_name
from core.weather_event w join core.ticket t on t.site_id = w.site_id and {_COVERED}
where w.weather_event_id = $1 and w.withdrawn_at is null
    and t.ticket_type = '{INCIDENT}' and t.status <> '{lifecycle.CANCELLED}' and t.weather_event_id is null
    and ($3::text[] is null or t.module = any($3))
order by t.ticket_id limit $2 for update of t
"""
# Where another event covers the ticket, that takes the place of this one.
_LEAVING = f"""
select t.*, other.weather_event_id as event_now, coalesce(other.name, w.name) as event_name
from core.weather_event w join core.ticket t on t.weather_event_id = w.weather_event_id
left join lateral (
    select o.weather_event_id, o.name from core.weather_event o
    where o.site_id = t.site_id and o.withdrawn_at is null and {_COVERS.format(t="t", w="o")}
    order by o.created_at, o.weather_event_id limit 1
) other on true
where w.weather_event_id = $1 and (w.withdrawn_at is not null or not ({_COVERED}))
    and ($3::text[] is null or t.module = any($3))
order by t.ticket_id limit $2 for update of t
"""


class Before(msgspec.Struct, frozen=True, kw_only=True):
    """What a ticket was promised before it came into the class `storm`."""

    response_target_s: int | None
    resolution_target_s: int
    warn_percent: int


async def settle(ctx: Context, weather_event_id: UUID) -> int:
    """Bring tickets that are not in the class that this event means for them into it, at most AT_ONCE_MAX.

    Returns how many were changed. Tickets of a module that is not there wait for it. It can be cut off
    anywhere and run again, by several at once.
    """
    changed = 0
    while changed < AT_ONCE_MAX:
        async with transaction():
            tickets = await _not_in_class(weather_event_id, BATCH, modules=_modules(REGISTRY))
            for ticket in tickets:
                await _retarget(ctx, ticket)
        changed += len(tickets)
        if not tickets:
            break
    return changed


async def settle_all(ctx: Context) -> None:
    """Bring in what is left of all changes, and tickets that a process opened before it knew; the job's part."""
    for row in await fetch("select weather_event_id, updated_at from core.weather_event where not settled"):
        await settle(ctx, row["weather_event_id"])
        left = await _not_in_class(row["weather_event_id"], 1, modules=None)
        if not left and row["updated_at"] + SETTLES_AFTER < ctx.clock():
            await execute(
                "update core.weather_event set settled = true where weather_event_id = $1 and updated_at = $2",
                row["weather_event_id"],
                row["updated_at"],
            )


async def _not_in_class(
    weather_event_id: UUID, tickets_max: int, *, modules: Sequence[str] | None
) -> Sequence[Mapping[str, Any]]:
    """Tickets that the event no longer covers, or else those that it covers and are not in it yet; locked."""
    return await fetch(_LEAVING, weather_event_id, tickets_max, modules) or await fetch(
        _COMING, weather_event_id, tickets_max, modules
    )


async def _retarget(ctx: Context, ticket: Mapping[str, Any]) -> None:
    """Promise the ticket anew by the weather event that it is in now, or as before if it is in none."""
    name = ticket["event_name"]
    if ticket["event_now"] is None:
        before = msgspec.json.decode(ticket["promise_before"], type=Before)
        promise: dict[str, Any] = {"sla_class": sla.STANDARD, "weather_event_id": None, "promise_before": None}
        promise |= msgspec.structs.asdict(before)
        comment = f"No longer in the weather event {name}: the former targets hold again."
    elif ticket["sla_class"] == sla.STORM:
        promise = {"weather_event_id": ticket["event_now"]}
        comment = f"Now in the weather event {name}."
    else:
        promise = _storm_promise(ticket)
        comment = f"In the weather event {name}: the targets of the class storm hold."
    if "sla_class" in promise:
        promise |= {"sla_round": ticket["sla_round"] + 1, "alerts_sent": [], "alert_due_at": None}
        holds = await holds_of([ticket["ticket_id"]])
        at = await moments_of({**ticket, **promise}, holds.get(ticket["ticket_id"], ()))
        promise |= {"response_deadline": at.response_breached, "sla_deadline": at.resolution_breached}
        if ticket["status"] not in lifecycle.FINAL and not ticket["on_hold"]:
            promise["alert_due_at"] = ctx.clock()
    await write_ticket(ctx, ticket, action="retarget", comment=comment, **promise)


def _storm_promise(ticket: Mapping[str, Any]) -> dict[str, Any]:
    terms, priority = TERMS.at(ticket["site_id"]), promised_priority(ticket)
    target = terms.targets[sla.STORM][priority]
    before = promise_before(terms, priority)
    if ticket["resolution_target_s"] is not None:
        before = {name: ticket[name] for name in Before.__struct_fields__}
    return {
        "sla_class": sla.STORM,
        "weather_event_id": ticket["event_now"],
        "promise_before": msgspec.json.encode(before).decode(),
        "response_target_s": target.response_s,
        "resolution_target_s": target.resolution_s,
        "warn_percent": terms.warn_percent,
    }


def _modules(registry: EventRegistry) -> list[str]:
    return [each.module for each in registry if each.name == f"{each.module.upper()}_TICKET_UPDATED"]
