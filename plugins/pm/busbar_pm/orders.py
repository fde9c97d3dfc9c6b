"""Maintenance orders: work on an asset, with its ticket; completing one writes the asset's history (R2.2, R2.5)."""

from datetime import date
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from busbar.sdk import (
    ACCEPTED_SITE,
    ANY_VERSION,
    Context,
    IfMatch,
    NewTicket,
    NotFound,
    Opening,
    RuleViolated,
    StoredEvent,
    TicketUpdated,
    advance_to,
    cancel,
    execute,
    fetchrow,
    module_scope,
    publish,
    record,
    transaction,
    uuid7,
)
from busbar_pm.events import OrderCompleted, OrderFacts, OrderType

PRIORITY = {"emergency": "P1", "corrective": "P3", "preventive": "P4"}
"""The ticket's priority, by type of order."""


class NewOrder(msgspec.Struct, frozen=True, kw_only=True):
    """Work that is to be done on an asset."""

    asset_id: str
    order_type: OrderType
    description: str
    scheduled_date: date


class PlannedOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What was opened."""

    order_id: str
    ticket_id: str


_OPENING = Opening(
    module="pm",
    event_type="PM_TICKET_CREATED",
    columns={"order_id": "uuid", "asset_id": "text", "order_type": "text", "scheduled_date": "date"},
    join="join pm.asset on asset.asset_id = a.asset_id",
    where=ACCEPTED_SITE.format(site="asset.site_id", module="pm"),
    computed={
        "site_id": "asset.site_id",
        "data": "a.data || jsonb_build_object('order', a.data -> 'order' || "
        "jsonb_build_object('asset_name', asset.name))",
    },
    own=[
        (
            "maintenance_order",
            """insert into pm.maintenance_order (order_id, ticket_id, asset_id, order_type, description,
                scheduled_date, site_id, created_at, updated_at)
            select order_id, ticket_id, asset_id, order_type, description, scheduled_date, site_id, $2, $2
            from opened""",
        )
    ],
)


async def plan(ctx: Context, new: NewOrder) -> PlannedOrder:
    """Open a maintenance order and its ticket.

    Raises:
        NotFound: there is no such asset at the actor's sites, or plant maintenance is not enabled there.
        Unavailable: too many writes wait; nothing was written.
    """
    ctx.require("pm.write")
    order_id = uuid7()
    first_line = new.description.strip().split("\n", 1)[0]
    opened = await _OPENING.open(
        ctx,
        NewTicket(
            ticket_type="Maintenance",
            title=f"{new.order_type.capitalize()} work at {new.asset_id}: {first_line}"[:200],
            description=new.description,
            priority=PRIORITY[new.order_type],
            object_kind="order",
            object_id=str(order_id),
        ),
        facts={
            "order": {
                "order_id": order_id,
                "asset_id": new.asset_id,
                "order_type": new.order_type,
                "scheduled_date": new.scheduled_date,
            }
        },
        values=(order_id, new.asset_id, new.order_type, new.scheduled_date),
    )
    if opened is None:
        module_scope(ctx, "pm")
        raise NotFound(f"There is no asset {new.asset_id}.")
    return PlannedOrder(order_id=str(order_id), ticket_id=opened.ticket_id)


async def change(
    ctx: Context,
    order_id: UUID,
    *,
    description: str | None = None,
    scheduled_date: date | None = None,
    expected: IfMatch = ANY_VERSION,
) -> int:
    """Change a planned order; returns its new version.

    Raises:
        NotFound, StaleVersion: as with assets.
        RuleViolated: the order is completed or cancelled.
    """
    async with transaction():
        order = await _lock_planned(ctx, order_id, expected)
        if description is None and scheduled_date is None:
            return int(order["version"])
        await execute(
            "update pm.maintenance_order set description = $2, scheduled_date = $3, updated_at = $4, "
            "version = version + 1 where order_id = $1",
            order_id,
            order["description"] if description is None else description,
            scheduled_date or order["scheduled_date"],
            ctx.clock(),
        )
        details: dict[str, Any] = {"description": description, "scheduled_date": scheduled_date}
        await _note(ctx, order, "order.change", {k: str(v) for k, v in details.items() if v is not None})
    return int(order["version"]) + 1


async def complete(ctx: Context, order_id: UUID, *, notes: str, expected: IfMatch = ANY_VERSION) -> int:
    """The work is done: closes the ticket, writes the asset's history, tells it; returns the order's new version.

    Raises:
        NotFound, StaleVersion: as with assets.
        RuleViolated: the order is completed or cancelled already.
    """
    async with transaction():
        order = await _lock_planned(ctx, order_id, expected)
        now = ctx.clock()
        await execute(
            "update pm.maintenance_order set status = 'completed', completed_at = $2, completion_notes = $3, "
            "updated_at = $2, version = version + 1 where order_id = $1",
            order_id,
            now,
            notes,
        )
        await execute(
            "insert into pm.asset_history (asset_id, at, kind, ticket_id, object_id, summary, recorded_by) "
            "values ($1, $2, 'maintenance', $3, $4, $5, $6)",
            order["asset_id"],
            now,
            order["ticket_id"],
            str(order_id),
            f"{order['order_type']}: {notes}",
            ctx.actor.username,
        )
        await _note(ctx, order, "order.complete", {"notes": notes})
        await publish(
            ctx,
            "PM_ORDER_COMPLETED",
            subject=order["ticket_id"],
            site_id=order["site_id"],
            time=now,
            data=OrderCompleted(
                ticket_id=order["ticket_id"],
                notes=notes,
                completed_at=now,
                completed_by=ctx.actor.username,
                order=OrderFacts(
                    order_id=str(order_id),
                    asset_id=order["asset_id"],
                    asset_name=order["asset_name"],
                    order_type=order["order_type"],
                    scheduled_date=order["scheduled_date"],
                ),
            ),
        )
        await advance_to(ctx, order["ticket_id"], target="Closed", comment=notes)
    return int(order["version"]) + 1


async def call_off(ctx: Context, order_id: UUID, *, reason: str, expected: IfMatch = ANY_VERSION) -> int:
    """The work will not be done: cancels the order and its ticket; returns the order's new version.

    Raises:
        NotFound, StaleVersion, RuleViolated: as with `complete`.
    """
    async with transaction():
        order = await _lock_planned(ctx, order_id, expected)
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


async def _lock_planned(ctx: Context, order_id: UUID, expected: IfMatch) -> asyncpg.Record:
    ctx.require("pm.write")
    row = await fetchrow(
        "select o.*, a.name as asset_name from pm.maintenance_order o join pm.asset a using (asset_id) "
        "where o.order_id = $1 and o.site_id = any($2) for update of o",
        order_id,
        module_scope(ctx, "pm"),
    )
    if row is None:
        raise NotFound(f"There is no maintenance order {order_id}.")
    expected.require(row["version"])
    if row["status"] != "planned":
        raise RuleViolated(f"The order is {row['status']} already.")
    return row


async def _note(ctx: Context, order: asyncpg.Record, action: str, details: dict[str, Any]) -> None:
    await record(
        ctx,
        action=action,
        object_kind="ticket",
        object_id=order["ticket_id"],
        site_id=order["site_id"],
        details={"order_id": str(order["order_id"]), **details},
    )
