"""Receiving what was requested: receipts are counted against their requisition, and the last one closes it."""

from decimal import Decimal
from uuid import UUID

from busbar.sdk import Context, RuleViolated, execute, publish, transaction
from busbar_mm import stock
from busbar_mm.books import Posting, check
from busbar_mm.events import RequisitionReceived
from busbar_mm.requisitions import advance_ticket, facts_of, lock, set_status
from busbar_mm.stock import Posted


async def receive(ctx: Context, requisition_id: UUID, posting: Posting) -> Posted:
    """Post a receipt for a requisition; closes it, with its ticket, when all of its quantity is there.

    Part deliveries are added up; more than was asked for is taken, too.

    Raises:
        InvalidPayload: it is no receipt.
        NotFound: there is no such requisition at the actor's sites.
        RuleViolated: it is for another material, or neither approved nor ordered.
    """
    check(posting)
    async with transaction():
        _, row = await lock(ctx, requisition_id, statuses=("approved", "ordered"))
        if row["material_id"] != posting.material_id:
            raise RuleViolated(f"The requisition is for {row['material_id']}, not for {posting.material_id}.")
        received: Decimal = row["received_quantity"] + posting.quantity_change
        await execute(
            "update mm.purchase_requisition set received_quantity = $2, updated_at = $3, version = version + 1 "
            "where requisition_id = $1",
            requisition_id,
            received,
            ctx.clock(),
        )
        is_complete = received >= row["quantity"]
        if is_complete:
            await set_status(ctx, row, "received")
        await publish(
            ctx,
            "MM_REQUISITION_RECEIVED",
            subject=row["ticket_id"],
            site_id=row["site_id"],
            data=RequisitionReceived(
                ticket_id=row["ticket_id"],
                requisition=facts_of(dict(row) | ({"status": "received"} if is_complete else {})),
                received_quantity=received,
            ),
        )
        if is_complete:
            await advance_ticket(ctx, row["ticket_id"], target="Closed", comment="All of it was received.")
        # Last, for the reorder rule looks at what is still on its way.
        return await stock.post(ctx, posting)
