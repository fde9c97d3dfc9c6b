"""Maintenance orders: work on an asset, with its ticket; planned, changed, called off (SPEC R2.2)."""

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec

from busbar.sdk import (
    ACCEPTED_SITE,
    ANY_VERSION,
    Context,
    FieldError,
    IfMatch,
    InvalidPayload,
    NewTicket,
    NotFound,
    Opening,
    RuleViolated,
    StoredEvent,
    TicketUpdated,
    cancel,
    execute,
    fetchrow,
    module_scope,
    publish,
    record,
    transaction,
    uuid7,
)
from busbar_pm import order_work
from busbar_pm.events import ComponentsChanged, CostType, OrderFacts, OrderType
from busbar_pm.failure_codes import CODE_GROUPS, require_codes
from busbar_pm.order_work import (
    INSERT_CHECKLIST,
    INSERT_COMPONENTS,
    INSERT_LABOUR,
    ChecklistItem,
    PlannedComponent,
    PlannedLabour,
    as_json,
    check_work,
    components_of,
    labour_cost,
    planned_cost_of,
)

PRIORITY = {"emergency": "P1", "corrective": "P3", "preventive": "P4"}
"""The ticket's priority, by type of order."""


class NewOrder(msgspec.Struct, frozen=True, kw_only=True):
    """Work that is to be done on an asset."""

    order_type: OrderType
    description: str
    scheduled_date: date
    asset_id: str | None = None
    """May be left out where an incident is named: then it is the incident's."""
    cost_center_id: str | None = None
    """By default the asset's."""
    cost_type: CostType = "OPEX"
    checklist: tuple[ChecklistItem, ...] = ()
    labour: tuple[PlannedLabour, ...] = ()
    components: tuple[PlannedComponent, ...] = ()
    incident_id: UUID | None = None
    """The incident that the work mends."""
    plan_id: UUID | None = None
    """The maintenance plan that called for it."""


class PlannedOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What was opened."""

    order_id: str
    ticket_id: str


class AssetMissing(InvalidPayload):
    """An order names neither an asset nor an incident."""

    code, title = "VAL_002", "Missing field"


_COST_CENTER: Final = "coalesce(a.cost_center_id, asset.cost_center_id)"
_OPENING = Opening(
    module="pm",
    event_type="PM_TICKET_CREATED",
    columns={
        "order_id": "uuid",
        "asset_id": "text",
        "order_type": "text",
        "scheduled_date": "date",
        "cost_center_id": "text",
        "cost_type": "text",
        "plan_id": "uuid",
        "incident_id": "uuid",
        "checklist": "jsonb",
        "labour": "jsonb",
        "components": "jsonb",
    },
    join="join pm.asset on asset.asset_id = a.asset_id",
    where=ACCEPTED_SITE.format(site="asset.site_id", module="pm"),
    computed={
        "site_id": "asset.site_id",
        "cost_center_id": _COST_CENTER,
        "data": "a.data || jsonb_build_object('order', a.data -> 'order' || "
        f"jsonb_build_object('asset_name', asset.name, 'cost_center_id', {_COST_CENTER}))",
    },
    own=[
        (
            "maintenance_order",
            """insert into pm.maintenance_order (order_id, ticket_id, asset_id, order_type, description,
                scheduled_date, cost_center_id, cost_type, plan_id, incident_id, site_id, created_at, updated_at)
            select order_id, ticket_id, asset_id, order_type, description, scheduled_date, cost_center_id, cost_type,
                plan_id, incident_id, site_id, $2, $2
            from opened""",
        ),
        ("planned_checklist", INSERT_CHECKLIST.format(source="opened")),
        ("planned_labour", INSERT_LABOUR.format(source="opened")),
        ("planned_components", INSERT_COMPONENTS.format(source="opened")),
    ],
)


async def plan(ctx: Context, new: NewOrder) -> PlannedOrder:
    """Open a maintenance order and its ticket.

    Raises:
        NotFound: there is no such asset or incident at the actor's sites, or plant maintenance is not enabled there.
        AssetMissing: neither of the two is named.
        InvalidPayload: the planned work cannot be meant so, or asset and incident belong to two sites.
        Unavailable: too many writes wait; nothing was written.
    """
    ctx.require("pm.write")
    check_work(labour=new.labour, components=new.components)
    asset_id, incident_ticket_id = await _object_of(ctx, new)
    order_id = uuid7()
    first_line = new.description.strip().split("\n", 1)[0]
    opened = await _OPENING.open(
        ctx,
        NewTicket(
            ticket_type="Maintenance",
            title=f"{new.order_type.capitalize()} work at {asset_id}: {first_line}"[:200],
            description=new.description,
            priority=PRIORITY[new.order_type],
            object_kind="order",
            object_id=str(order_id),
        ),
        facts={
            "order": {
                "order_id": order_id,
                "asset_id": asset_id,
                "order_type": new.order_type,
                "scheduled_date": new.scheduled_date,
                "cost_type": new.cost_type,
                "plan_id": new.plan_id,
                "incident_ticket_id": incident_ticket_id,
                "components": new.components,
                "planned_cost": sum((labour_cost(line.hours, line.hourly_rate) for line in new.labour), Decimal(0)),
            }
        },
        values=(
            order_id,
            asset_id,
            new.order_type,
            new.scheduled_date,
            new.cost_center_id,
            new.cost_type,
            new.plan_id,
            new.incident_id,
            as_json(new.checklist),
            as_json(new.labour),
            as_json(new.components),
        ),
    )
    if opened is None:
        await module_scope(ctx, "pm")
        raise NotFound(f"There is no asset {asset_id}.")
    return PlannedOrder(order_id=str(order_id), ticket_id=opened.ticket_id)


async def _object_of(ctx: Context, new: NewOrder) -> tuple[str, str | None]:
    """The asset of a new order, and the ticket of the incident it mends."""
    if new.incident_id is None:
        if new.asset_id is None:
            error = FieldError(field="asset_id", message="This field is missing; it may be, beside incident_id only.")
            raise AssetMissing("Name the asset, or the incident.", errors=[error])
        return new.asset_id, None
    row = await fetchrow(
        "select i.ticket_id, a.asset_id, i.site_id = a.site_id as at_its_site "
        "from pm.incident i left join pm.asset a on a.asset_id = coalesce($2, i.asset_id) "
        "where i.incident_id = $1 and i.site_id = any($3)",
        new.incident_id,
        new.asset_id,
        await module_scope(ctx, "pm"),
    )
    if row is None:
        raise NotFound(f"There is no incident {new.incident_id}.")
    if row["asset_id"] is None or not row["at_its_site"]:
        raise NotFound(f"There is no asset {new.asset_id} at the site of the incident.")
    return row["asset_id"], row["ticket_id"]


_COLUMNS: Final = {
    "description": "text",
    "scheduled_date": "date",
    "cost_center_id": "text",
    "cost_type": "text",
    **dict.fromkeys(CODE_GROUPS, "text"),
}


_PLANNED: Final = frozenset({"components", "labour", "cost_center_id", "cost_type"})


async def change(ctx: Context, order_id: UUID, changes: Mapping[str, Any], *, expected: IfMatch = ANY_VERSION) -> int:
    """Change a planned order: fields, failure codes, or its checklist, labour or components as whole lists.

    Returns the new version. PM_COMPONENTS_CHANGED tells when the material, the labour or the place of cost changes.

    Raises:
        NotFound, StaleVersion: as with assets.
        RuleViolated: the order is completed or cancelled already; it is preventive, and no failure has codes; or the
            checklist is begun.
        InvalidPayload: a code is not in the catalogue, or the planned work cannot be meant so.
    """
    async with transaction():
        order = await lock_planned(ctx, order_id, expected)
        if not changes:
            return int(order["version"])
        await check_codes(order, changes)
        await _set(ctx, order_id, {name: value for name, value in changes.items() if name in _COLUMNS})
        await order_work.replace_lists(order_id, changes)
        await note_order(ctx, order, "order.change", dict(changes))
        if _PLANNED & changes.keys():
            facts = await facts_of({**order, **changes})
            await publish(
                ctx,
                "PM_COMPONENTS_CHANGED",
                subject=order["ticket_id"],
                site_id=order["site_id"],
                data=ComponentsChanged(ticket_id=order["ticket_id"], order=facts),
            )
    return int(order["version"]) + 1


async def check_codes(order: Mapping[str, Any], changes: Mapping[str, Any]) -> None:
    """Refuse failure codes that the catalogue lacks, and any for preventive work.

    Raises:
        RuleViolated, InvalidPayload: as with `change`.
    """
    codes = {group: changes[group] for group in CODE_GROUPS if group in changes}
    if codes and order["order_type"] == "preventive":
        raise RuleViolated("Failure codes belong to corrective and emergency orders; preventive work mends no failure.")
    if codes:
        await require_codes(codes)


async def _set(ctx: Context, order_id: UUID, values: Mapping[str, Any]) -> None:
    sets = [f"{name} = ${n}::{_COLUMNS[name]}" for n, name in enumerate(values, start=3)]
    await execute(
        f"update pm.maintenance_order set {', '.join([*sets, 'updated_at = $2', 'version = version + 1'])} "
        "where order_id = $1",
        order_id,
        ctx.clock(),
        *values.values(),
    )


async def tick(
    ctx: Context, order_id: UUID, position: int, *, done: bool, note: str | None = None, expected: IfMatch = ANY_VERSION
) -> int:
    """Tick an item of a planned order's checklist, or take the tick away; returns the order's new version.

    Raises:
        NotFound: there is no such order at the actor's sites, or no such item.
        StaleVersion, RuleViolated: as with `change`.
    """
    async with transaction():
        order = await lock_planned(ctx, order_id, expected)
        await order_work.tick(ctx, order_id, position, done=done, note=note)
        await _set(ctx, order_id, {})
        await note_order(ctx, order, "order.tick" if done else "order.untick", {"position": position, "note": note})
    return int(order["version"]) + 1


async def call_off(ctx: Context, order_id: UUID, *, reason: str, expected: IfMatch = ANY_VERSION) -> int:
    """The work will not be done: cancels the order and its ticket; returns the order's new version.

    Raises:
        NotFound, StaleVersion, RuleViolated: as with `change`.
    """
    async with transaction():
        order = await lock_planned(ctx, order_id, expected)
        await _cancel(order_id, ctx)
        await cancel(ctx, order["ticket_id"], reason=reason)
    return int(order["version"]) + 1


async def follow_ticket(ctx: Context, event: StoredEvent) -> None:
    """When the ticket of a planned order is cancelled, so is the order."""
    ticket = msgspec.json.decode(event.data, type=TicketUpdated)
    if ticket.object_kind == "order" and ticket.object_id is not None and ticket.status == "Cancelled":
        await _cancel(UUID(ticket.object_id), ctx)


async def _cancel(order_id: UUID, ctx: Context) -> None:
    await execute(
        "update pm.maintenance_order set status = 'cancelled', updated_at = $2, version = version + 1 "
        "where order_id = $1 and status = 'planned'",
        order_id,
        ctx.clock(),
    )


async def lock_planned(ctx: Context, order_id: UUID, expected: IfMatch) -> asyncpg.Record:
    """A planned order's row with `asset_name` and `incident_ticket_id`, locked for the transaction.

    Raises:
        NotFound: there is no such order at the actor's sites.
        StaleVersion: it is not at the expected version.
        RuleViolated: it is completed or cancelled already.
    """
    ctx.require("pm.write")
    row = await fetchrow(
        "select o.*, a.name as asset_name, i.ticket_id as incident_ticket_id "
        "from pm.maintenance_order o join pm.asset a using (asset_id) left join pm.incident i using (incident_id) "
        "where o.order_id = $1 and o.site_id = any($2) for update of o",
        order_id,
        await module_scope(ctx, "pm"),
    )
    if row is None:
        raise NotFound(f"There is no maintenance order {order_id}.")
    expected.require(row["version"])
    if row["status"] != "planned":
        raise RuleViolated(f"The order is {row['status']} already.")
    return row


async def facts_of(order: Mapping[str, Any]) -> OrderFacts:
    """What events say of an order, given as the row that `lock_planned` returns."""
    return OrderFacts(
        order_id=str(order["order_id"]),
        asset_id=order["asset_id"],
        asset_name=order["asset_name"],
        order_type=order["order_type"],
        scheduled_date=order["scheduled_date"],
        cost_center_id=order["cost_center_id"],
        cost_type=order["cost_type"],
        plan_id=None if order["plan_id"] is None else str(order["plan_id"]),
        incident_ticket_id=order["incident_ticket_id"],
        components=await components_of(order["order_id"]),
        planned_cost=await planned_cost_of(order["order_id"]),
    )


async def note_order(ctx: Context, order: Mapping[str, Any], action: str, details: Mapping[str, Any]) -> None:
    """Write in the trail of the order's ticket what was done to the order."""
    await record(
        ctx,
        action=action,
        object_kind="ticket",
        object_id=order["ticket_id"],
        site_id=order["site_id"],
        details={"order_id": str(order["order_id"]), **msgspec.to_builtins(dict(details))},
    )
