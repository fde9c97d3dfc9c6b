"""A plan falls due: its order is opened, exactly once, in the transaction that notes the call and moves the plan on.

Whoever calls locks the plan and looks again whether it is due, so that of two processes one calls; after a crash either
all of it is there or nothing, and the next look finds out which. Number and incident of a call are unique besides.
"""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import msgspec

from busbar.sdk import (
    SITES,
    BusbarError,
    Context,
    RuleViolated,
    StoredEvent,
    execute,
    fetch,
    fetchrow,
    fetchval,
    transaction,
    uuid7,
)
from busbar_pm.events import PmTicketCreated
from busbar_pm.orders import NewOrder, plan
from busbar_pm.plan_triggers import Calendar, Condition, IncidentTrigger, Meter, due_dates, judge, meter_due
from busbar_pm.plans import template_of, trigger_of

PLANS_PER_RUN_MAX: Final = 1_000
_COVERED_MAX: Final = 2_147_483_647
"""What the column holds."""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A plan that fell due, and what was opened for it."""

    plan_id: str
    number: int
    order_id: str
    ticket_id: str


_DUE: Final = """
select p.plan_id, p.name from pm.maintenance_plan p join pm.asset a using (asset_id)
where p.active and p.kind = 'calendar' and p.next_due - p.lead_days <= $1 and p.site_id = any($2)
    and a.status <> 'retired'
order by p.next_due, p.plan_id limit $3
"""


async def call_calendar_plans(ctx: Context) -> None:
    """Open the orders that fall due by the calendar (UTC); each plan in a transaction of its own.

    Raises:
        RuleViolated: some plans could not be called, which the others do not suffer from; naming the first.
    """
    failures: list[str] = []
    for row in await fetch(_DUE, ctx.clock().date(), SITES.sites_with("pm"), PLANS_PER_RUN_MAX):
        try:
            await call_calendar_plan(ctx, row["plan_id"])
        except BusbarError as error:
            failures.append(f"{row['name']} ({row['plan_id']}): {error.detail}")
    if failures:
        raise RuleViolated(f"{len(failures)} maintenance plans could not be called; {failures[0]}")


async def call_calendar_plan(ctx: Context, plan_id: UUID) -> Call | None:
    """Open the order of a calendar plan if it is due; None when it is not, or another process was faster."""
    async with transaction():
        row = await fetchrow(
            "select * from pm.maintenance_plan where plan_id = $1 and active and next_due is not null for update",
            plan_id,
        )
        if row is None:
            return None
        calendar = trigger_of(row)
        assert isinstance(calendar, Calendar), "only they have a next due date"
        until = ctx.clock().date() + timedelta(days=row["lead_days"])
        due = due_dates(calendar, next_due=row["next_due"], until=until)
        if due is None:
            return None
        called = await _open(
            ctx,
            row,
            due_date=due.latest,
            covered=due.covered,
            reason=f"Every {calendar.every} {calendar.unit}; due on {due.latest}",
        )
        await execute("update pm.maintenance_plan set next_due = $2 where plan_id = $1", row["plan_id"], due.following)
    return called


async def follow_incident(ctx: Context, event: StoredEvent) -> None:
    """An incident was opened: each plan that waits for such a one opens its order, with the incident's correlation id.

    An incident that is over when it is reported needs no repair, and is left alone.
    """
    incident = msgspec.json.decode(event.data, type=PmTicketCreated).incident
    if incident is None or incident.restored_at is not None:
        return
    rows = await fetch(
        "select * from pm.maintenance_plan where active and kind = 'incident' and site_id = $1 "
        "and (asset_id = $2 or asset_type = $3) order by plan_id for update",
        event.site_id,
        incident.asset_id,
        incident.asset_type,
    )
    incident_id = UUID(incident.incident_id)
    for row in rows:
        trigger = trigger_of(row)
        assert isinstance(trigger, IncidentTrigger), "the kind says so"
        known = "select exists(select from pm.maintenance_call where plan_id = $1 and incident_id = $2)"
        if not trigger.wants(incident.fault_type, incident.severity) or await fetchval(
            known, row["plan_id"], incident_id
        ):
            continue
        await _open(
            ctx,
            row,
            due_date=_later(ctx, row),
            asset_id=incident.asset_id,
            incident_id=incident_id,
            reason=f"{incident.fault_type.capitalize()} of severity {incident.severity}",
        )


_WATCHING: Final = """
select p.* from pm.maintenance_plan p join pm.asset a using (asset_id)
where p.asset_id = $1 and p.active and p.kind in ('meter', 'condition') and p.trigger ->> 'measurement' = $2
    and a.status <> 'retired'
order by p.plan_id for update of p
"""


async def follow_measurement(
    ctx: Context, asset_id: str, name: str, value: Decimal, *, measurement_id: UUID
) -> Sequence[Call]:
    """Open the orders that a reading makes due; call it in the transaction that keeps the reading.

    A reading that came late, after one that was taken later, says nothing of the condition now; a counter it may move.
    """
    calls: list[Call] = []
    rows = await fetch(_WATCHING, asset_id, name)
    if not rows:
        return ()
    later = "select exists(select from pm.measurement l join pm.measurement m on m.measurement_id = $1 "
    later += "where l.asset_id = m.asset_id and l.name = m.name and l.taken_at > m.taken_at)"
    is_latest = not await fetchval(later, measurement_id)
    for row in rows:
        match trigger_of(row):
            case Meter() as meter:
                called = await _follow_meter(ctx, row, meter, value)
            case Condition() as condition if is_latest:
                called = await _follow_condition(ctx, row, condition, value)
            case _:
                called = None
        if called is not None:
            calls.append(called)
    return calls


async def _follow_meter(ctx: Context, row: Mapping[str, Any], meter: Meter, value: Decimal) -> Call | None:
    due = meter_due(meter, next_value=row["next_value"], value=value)
    if due is None:
        return None
    called = await _open(
        ctx,
        row,
        due_date=_later(ctx, row),
        covered=due.covered,
        reading=value,
        reason=f"{meter.measurement} shows {value:f}; due at {due.reading:f}",
    )
    await execute("update pm.maintenance_plan set next_value = $2 where plan_id = $1", row["plan_id"], due.following)
    return called


async def _follow_condition(ctx: Context, row: Mapping[str, Any], condition: Condition, value: Decimal) -> Call | None:
    state = judge(condition, armed=row["armed"], value=value)
    if state.armed != row["armed"]:
        await execute("update pm.maintenance_plan set armed = $2 where plan_id = $1", row["plan_id"], state.armed)
    if not state.due:
        return None
    limit = f"above {condition.above:f}" if condition.above is not None else f"below {condition.below:f}"
    reason = f"{condition.measurement} is {value:f}, {limit}"
    return await _open(ctx, row, due_date=_later(ctx, row), reading=value, reason=reason)


def _later(ctx: Context, row: Mapping[str, Any]) -> date:
    return ctx.clock().date() + timedelta(days=row["lead_days"])


async def _open(
    ctx: Context,
    row: Mapping[str, Any],
    *,
    due_date: date,
    reason: str,
    asset_id: str | None = None,
    covered: int = 0,
    reading: Decimal | None = None,
    incident_id: UUID | None = None,
) -> Call:
    """Open the order of a call of the locked plan `row`, and note the call."""
    template = template_of(row)
    opened = await plan(
        ctx,
        NewOrder(
            asset_id=asset_id or row["asset_id"],
            order_type=template.order_type,
            description=template.description,
            scheduled_date=due_date,
            cost_center_id=template.cost_center_id,
            cost_type=template.cost_type,
            checklist=template.checklist,
            labour=template.labour,
            components=template.components,
            plan_id=row["plan_id"],
            incident_id=incident_id,
        ),
    )
    number = row["calls"] + 1
    await execute(
        "insert into pm.maintenance_call (call_id, plan_id, number, order_id, due_date, reading, incident_id, covered, "
        "reason, called_at) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        uuid7(),
        row["plan_id"],
        number,
        UUID(opened.order_id),
        due_date,
        reading,
        incident_id,
        min(covered, _COVERED_MAX),
        reason,
        ctx.clock(),
    )
    await execute(
        "update pm.maintenance_plan set calls = $2, updated_at = $3, version = version + 1 where plan_id = $1",
        row["plan_id"],
        number,
        ctx.clock(),
    )
    return Call(plan_id=str(row["plan_id"]), number=number, order_id=opened.order_id, ticket_id=opened.ticket_id)
