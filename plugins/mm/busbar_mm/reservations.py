"""What maintenance orders plan to use is reserved, and released when they are done.

What is still open of a reservation is its quantity less what was issued to the order's ticket, which the ledger says:
an issue consumes it without being told to.
"""

from decimal import Decimal

import msgspec

from busbar.sdk import Context, NotFound, StoredEvent, execute, fetch, record
from busbar_mm.inbound import OrderTold, WorkTicket

FOLLOWED = ("PM_TICKET_CREATED", "PM_COMPONENTS_CHANGED", "PM_ORDER_COMPLETED", "PM_TICKET_UPDATED")
"""By one subscription, which keeps their order."""

OPEN_QUANTITY = """greatest(0, r.quantity + coalesce((select sum(t.quantity_change) from mm.stock_transaction t
    where t.ticket_id = r.ticket_id and t.material_id = r.material_id), 0))"""
"""SQL: what is still open of the reservation `r`; issues are below 0 in the ledger."""


async def follow_order(ctx: Context, event: StoredEvent) -> None:
    """Reserve what an order plans, follow its plan, and release the rest when it is completed or cancelled.

    Raises:
        NotFound: the order plans a material that its site does not have.
    """
    if event.event_type in ("PM_TICKET_CREATED", "PM_COMPONENTS_CHANGED"):
        told = msgspec.json.decode(event.data, type=OrderTold)
        if told.order is not None:
            planned: dict[str, Decimal] = {}
            for each in told.order.components:
                planned[each.material_id] = planned.get(each.material_id, Decimal(0)) + each.quantity
            if planned or event.event_type == "PM_COMPONENTS_CHANGED":
                await _reserve(ctx, told.ticket_id, planned, event)
    elif event.event_type == "PM_ORDER_COMPLETED":
        await _release(ctx, msgspec.json.decode(event.data, type=OrderTold).ticket_id)
    else:
        ticket = msgspec.json.decode(event.data, type=WorkTicket)
        if ticket.object_kind == "order" and ticket.status == "Cancelled":
            await _release(ctx, ticket.ticket_id)


async def _reserve(ctx: Context, ticket_id: str, planned: dict[str, Decimal], event: StoredEvent) -> None:
    rows = await fetch(
        "select material_id from mm.material where material_id = any($1) and site_id = $2",
        list(planned),
        event.site_id,
    )
    known = {row["material_id"] for row in rows}
    unknown = [material_id for material_id in planned if material_id not in known]
    if unknown:
        raise NotFound(
            f"The order of {ticket_id} plans {', '.join(unknown)}, which is no material of the site {event.site_id}; "
            "add it there and replay this event."
        )
    await execute(
        "update mm.reservation set quantity = 0, updated_at = $2 where ticket_id = $1 and material_id <> all($3)",
        ticket_id,
        ctx.clock(),
        list(planned),
    )
    await execute(
        """insert into mm.reservation (ticket_id, material_id, quantity, created_at, updated_at)
        select $1, material_id, quantity, $2, $2 from unnest($3::text[], $4::numeric[]) as a (material_id, quantity)
        on conflict (ticket_id, material_id) do update set quantity = excluded.quantity, updated_at = $2""",
        ticket_id,
        ctx.clock(),
        list(planned),
        list(planned.values()),
    )
    await record(
        ctx,
        action="stock.reserve",
        object_kind="ticket",
        object_id=ticket_id,
        site_id=event.site_id,
        details={"components": planned},
    )


async def _release(ctx: Context, ticket_id: str) -> None:
    await execute(
        "update mm.reservation set released_at = $2, updated_at = $2 where ticket_id = $1 and released_at is null",
        ticket_id,
        ctx.clock(),
    )
