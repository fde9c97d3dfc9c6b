"""Costs that arise by themselves: issued material and completed orders become cost entries, once each (SPEC R4.4).

An entry carries the id of the event it comes from, which the database keeps unique; so an event that is delivered
twice, or replayed, posts nothing the second time.
"""

from datetime import timedelta
from decimal import Decimal
from typing import Final

import asyncpg
import msgspec

from busbar.sdk import (
    Context,
    NotFound,
    RuleViolated,
    StoredEvent,
    TicketUpdated,
    Unavailable,
    execute,
    fetchrow,
    ticket_reference,
)
from busbar_fi import budgets, commitments, entries
from busbar_fi.commitments import Source
from busbar_fi.entries import Posting
from busbar_fi.events import CostType
from busbar_fi.inbound import ComponentsChanged, OrderCompleted, OrderFacts, PmTicketCreated, StockChanged

ORDER_EVENT_WAIT_MAX: Final = timedelta(minutes=10)
"""So long after a cost arose the event of its order may still be on its way. What is older was opened before finance
was enabled at the site, and will not come."""
FINISHED: Final = ("Closed", "Cancelled")
_BOOKED: Final = ("order", "incident")


async def follow_maintenance(ctx: Context, event: StoredEvent) -> None:
    """What happens to a maintenance ticket, in order: opened, planned anew, completed, over.

    Raises:
        RuleViolated: an order's costs cannot be posted; see `post_order_costs`.
    """
    match event.event_type:
        case "PM_TICKET_CREATED":
            await _keep_cost_object(ctx, event)
        case "PM_COMPONENTS_CHANGED":
            told = msgspec.json.decode(event.data, type=ComponentsChanged)
            await _keep(ctx, event, told.ticket_id, "order", told.order.order_id, told.order.asset_id, told.order)
            await _set_planned_cost(ctx, event, told.ticket_id, told.order)
        case "PM_ORDER_COMPLETED":
            await post_order_costs(ctx, event)
        case _:
            await _follow_order_ticket(ctx, event)


async def post_stock_change(ctx: Context, event: StoredEvent) -> None:
    """Material issued to an order or a cost center is a cost; material that comes back from there is a return.

    Raises:
        RuleViolated: no cost center can be found, it is closed, or it keeps another currency.
        Unavailable: the event of the order it was issued to is on its way; the delivery is tried again.
    """
    told = msgspec.json.decode(event.data, type=StockChanged)
    issued = told.transaction_type == "issue" and told.quantity_change < 0
    returned = told.transaction_type == "receipt" and told.quantity_change > 0 and told.requisition_id is None
    if not (issued or returned) or not (told.ticket_id or told.cost_center_id) or told.value == 0:
        return
    cost_object = await _cost_object(ctx, event, told.ticket_id) if told.ticket_id else None
    center_id = told.cost_center_id or (cost_object["cost_center_id"] if cost_object else None)
    cost_center = await lock_cost_center(event, center_id, told.currency)
    quantity = f"{abs(told.quantity_change).normalize():f} {told.unit_of_measure}".strip()
    verb = "issued" if issued else "returned"
    await entries.write(
        ctx,
        cost_center,
        Posting(
            kind="cost" if issued else "return",
            ticket_id=told.ticket_id,
            amount=told.value if issued else -told.value,
            cost_type=cost_object["cost_type"] if cost_object else "OPEX",
            posting_date=told.posted_at.date(),
            description=f"{quantity} of {told.material_id} {told.description}".strip()[:240] + f" {verb}",
            asset_id=cost_object["asset_id"] if cost_object else None,
            source_event_type=event.event_type,
            source_event_id=event.event_id,
            source_line=1,
        ),
        may_exceed=True,
    )


async def post_order_costs(ctx: Context, event: StoredEvent) -> None:
    """The costs of a completed order that were not issued from stock; one entry for each that the order lists.

    Raises:
        RuleViolated: no cost center can be found, it is closed, or it keeps another currency; a cost is negative.
    """
    told = msgspec.json.decode(event.data, type=OrderCompleted)
    listed = [(f"{cost.kind}: {cost.description}".rstrip(": "), cost.amount) for cost in told.costs]
    lines = listed or [("order completed", told.total_cost)]
    if any(amount < 0 for _, amount in lines):
        raise RuleViolated(f"The order of {told.ticket_id} tells a negative cost; correct the event and replay it.")
    commitment = await commitments.find("order", told.order.order_id)
    if any(amount > 0 for _, amount in lines):
        kept = await fetchrow("select * from fi.cost_object where ticket_id = $1", told.ticket_id)
        center_id = told.order.cost_center_id or (kept["cost_center_id"] if kept else None)
        cost_center = await lock_cost_center(event, center_id, told.currency, also=commitment)
        # Before the costs are posted, or they would count beside the money that was set aside for them.
        if commitment is not None:
            await commitments.close(ctx, commitment)
        for number, (description, amount) in enumerate(lines, start=1):
            if amount > 0:
                posting = _order_posting(event, told, number, description, amount)
                await entries.write(ctx, cost_center, posting, may_exceed=True)
    elif commitment is not None:
        await commitments.close(ctx, commitment)


def _order_posting(event: StoredEvent, told: OrderCompleted, line: int, description: str, amount: Decimal) -> Posting:
    return Posting(
        ticket_id=told.ticket_id,
        amount=amount.quantize(Decimal("0.01")),
        cost_type=told.order.cost_type,
        posting_date=told.completed_at.date(),
        description=description[:250],
        asset_id=told.order.asset_id,
        source_event_type=event.event_type,
        source_event_id=event.event_id,
        source_line=line,
    )


async def lock_cost_center(
    event: StoredEvent, cost_center_id: str | None, currency: str | None, *, also: asyncpg.Record | None = None
) -> asyncpg.Record:
    """The cost center for what an event tells, locked: the named one, or else the default one of the event's site.

    `also` is a commitment that will be booked on in the same transaction. Without `currency` any will do.

    Raises:
        RuleViolated: there is none, it is closed, or it keeps another currency; the sentence names the cure.
    """
    if cost_center_id is None:
        default = await fetchrow(
            "select cost_center_id from fi.cost_center where site_id = $1 and is_default", event.site_id
        )
        if default is None:
            raise RuleViolated(
                f"{event.event_type} names no cost center, and the site {event.site_id} has no default one; make one "
                "with is_default, then replay this delivery."
            )
        cost_center_id = default["cost_center_id"]
    locked = await budgets.lock([cost_center_id, *([also["cost_center_id"]] if also else [])])
    row = locked.get(cost_center_id)
    if row is None or row["site_id"] != event.site_id:
        cure = "add it, or correct the event"
        problem = f"does not exist at the site {event.site_id}"
    elif row["status"] != "active":
        problem, cure = "is closed", "open it again, or correct the event"
    elif currency is not None and row["currency"] != currency:
        problem, cure = f"is kept in {row['currency']}, and the event tells {currency}", "correct the event"
    else:
        return row
    raise RuleViolated(f"The cost center {cost_center_id} {problem}; {cure}, then replay this delivery.")


async def _keep_cost_object(ctx: Context, event: StoredEvent) -> None:
    """Remember where the costs of a maintenance ticket go, and set its planned cost aside."""
    told = msgspec.json.decode(event.data, type=PmTicketCreated)
    if told.order is not None:
        await _keep(ctx, event, told.ticket_id, "order", told.order.order_id, told.order.asset_id, told.order)
        await _set_planned_cost(ctx, event, told.ticket_id, told.order)
    elif told.incident is not None:
        incident = told.incident
        await _keep(ctx, event, told.ticket_id, "incident", incident.incident_id, incident.asset_id, None)


async def _follow_order_ticket(ctx: Context, event: StoredEvent) -> None:
    """An order that is over needs no money any more; what it did cost is told by events of their own."""
    ticket = msgspec.json.decode(event.data, type=TicketUpdated)
    if ticket.object_kind == "order" and ticket.object_id is not None and ticket.status in FINISHED:
        commitment = await commitments.find("order", ticket.object_id)
        if commitment is not None:
            await commitments.close(ctx, commitment)


async def _keep(
    ctx: Context,
    event: StoredEvent,
    ticket_id: str,
    kind: str,
    object_id: str,
    asset_id: str,
    order: OrderFacts | None,
) -> None:
    cost_type: CostType = order.cost_type if order else "OPEX"
    await execute(
        """
        insert into fi.cost_object (ticket_id, kind, object_id, asset_id, cost_center_id, cost_type, site_id,
            updated_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8)
        on conflict (ticket_id) do update set asset_id = excluded.asset_id, cost_center_id = excluded.cost_center_id,
            cost_type = excluded.cost_type, updated_at = excluded.updated_at
        """,
        ticket_id,
        kind,
        object_id,
        asset_id,
        order.cost_center_id if order else None,
        cost_type,
        event.site_id,
        ctx.clock(),
    )


async def _set_planned_cost(ctx: Context, event: StoredEvent, ticket_id: str, order: OrderFacts) -> None:
    """Only an order that tells a planned cost has money set aside, until it is over.

    One that is over by now, as when an old event is replayed, needs none.
    """
    if order.planned_cost is None or (await ticket_reference(ctx, ticket_id)).status in FINISHED:
        return
    planned = order.planned_cost.quantize(Decimal("0.01"))
    known = await commitments.find("order", order.order_id)
    if known is not None and order.cost_center_id in (None, known["cost_center_id"]):
        await commitments.replan(ctx, known, planned)
    elif known is not None:
        cost_center = await lock_cost_center(event, order.cost_center_id, None, also=known)
        await commitments.move(ctx, known, cost_center=cost_center, amount=planned, may_exceed=True)
    elif planned > 0:
        source = Source(kind="order", id=order.order_id, ticket_id=ticket_id)
        cost_center = await lock_cost_center(event, order.cost_center_id, None)
        await commitments.open_commitment(ctx, source, cost_center=cost_center, amount=planned, may_exceed=True)


async def _cost_object(ctx: Context, event: StoredEvent, ticket_id: str) -> asyncpg.Record | None:
    """What is kept of the ticket that material was issued to; None when nothing ever will be."""
    kept = await fetchrow("select * from fi.cost_object where ticket_id = $1", ticket_id)
    if kept is not None:
        return kept
    try:
        ticket = await ticket_reference(ctx, ticket_id)
    except NotFound:
        raise RuleViolated(
            f"{event.event_type} names the ticket {ticket_id}, which does not exist; correct the event, then replay "
            "this delivery."
        ) from None
    if ticket.object_kind in _BOOKED and ctx.clock() < event.time + ORDER_EVENT_WAIT_MAX:
        raise Unavailable(f"The event that opened {ticket_id} is on its way; its cost center is not known yet.")
    return None
