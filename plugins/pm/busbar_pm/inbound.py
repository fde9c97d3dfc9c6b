"""What plant maintenance reads of other modules' events, and does about it."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

import msgspec

from busbar.sdk import Context, RuleViolated, StoredEvent, execute, fetchrow, fetchval
from busbar_pm.events import CURRENCY
from busbar_pm.orders import note_order


class StockMovement(msgspec.Struct, frozen=True, kw_only=True):
    """What is read of MM_STOCK_CHANGED; other fields may come and go."""

    transaction_id: UUID
    material_id: str
    transaction_type: str
    quantity_change: Decimal
    """Negative when material leaves the stock."""
    ticket_id: str | None = None
    """Of the maintenance order for which it was issued."""
    requisition_id: str | None = None
    """Of what was bought and received."""
    description: str = ""
    unit_of_measure: str = ""
    value: Decimal = Decimal(0)
    """At least 0, whichever way the material went."""
    currency: str = CURRENCY
    posted_at: datetime | None = None
    posted_by: str | None = None

    @property
    def is_of_work(self) -> bool:
        """Whether it was issued for work, or came back from it; adjustments, transfers and purchases are not."""
        is_issue = self.transaction_type == "issue" and self.quantity_change < 0
        is_return = self.transaction_type == "receipt" and self.quantity_change > 0 and self.requisition_id is None
        return self.ticket_id is not None and (is_issue or is_return)


async def take_issue(ctx: Context, event: StoredEvent) -> None:
    """Material was issued to a maintenance order, or came back from it: it becomes part of the order's actual cost.

    Each movement counts once, by its transaction id. The asset's history follows when the order is completed already.

    Raises:
        RuleViolated: it is valued in another currency than orders are; the delivery waits as a dead letter.
    """
    moved = msgspec.json.decode(event.data, type=StockMovement)
    if not moved.is_of_work:
        return
    order = await fetchrow(
        "select order_id, ticket_id, site_id from pm.maintenance_order where ticket_id = $1 for update",
        moved.ticket_id,
    )
    if order is None:
        return
    if moved.currency != CURRENCY:
        raise RuleViolated(
            f"The issue of {moved.material_id} is valued in {moved.currency}, orders in {CURRENCY}; "
            "correct the movement's currency and replay."
        )
    value = moved.value if moved.quantity_change < 0 else -moved.value
    if await _keep(moved, order["order_id"], value, event):
        await execute(
            "update pm.asset_history set cost = cost + $2 where kind = 'maintenance' and object_id = $1",
            str(order["order_id"]),
            value,
        )
        await execute(
            "update pm.maintenance_order set updated_at = $2, version = version + 1 where order_id = $1",
            order["order_id"],
            ctx.clock(),
        )
        facts = {"material_id": moved.material_id, "quantity": -moved.quantity_change, "value": value}
        await note_order(ctx, order, "order.issue", facts)


async def _keep(moved: StockMovement, order_id: UUID, value: Decimal, event: StoredEvent) -> bool:
    """Whether the movement is new."""
    inserted = await fetchval(
        "insert into pm.order_issue (transaction_id, order_id, material_id, description, unit_of_measure, quantity, "
        "value, posted_at, posted_by) values ($1, $2, $3, $4, $5, $6, $7, $8, $9) on conflict do nothing "
        "returning transaction_id",
        moved.transaction_id,
        order_id,
        moved.material_id,
        moved.description,
        moved.unit_of_measure,
        -moved.quantity_change,
        value,
        moved.posted_at or event.time,
        moved.posted_by or event.actor_id,
    )
    return inserted is not None
