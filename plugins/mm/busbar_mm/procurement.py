"""Opens purchase requisitions, each with its Procurement ticket (SPEC R3.3)."""

from decimal import Decimal
from uuid import UUID

import msgspec

from busbar.sdk import Context, NewTicket, NotFound, Opening, publish, uuid7
from busbar_mm.books import Book, amount_of
from busbar_mm.events import RequisitionCreated, RequisitionFacts, RequisitionOrigin

OPEN_STATUSES = ("requested", "approved", "ordered")
"""Of a requisition that will still bring something."""


class NewRequisition(msgspec.Struct, frozen=True, kw_only=True):
    """A purchase that is wanted."""

    quantity: Decimal
    origin: RequisitionOrigin
    justification: str
    cost_center_id: str | None = None
    """By default the material's."""
    storage_location: str | None = None
    """By default the material's."""


class OpenedRequisition(msgspec.Struct, frozen=True, kw_only=True):
    """What was opened."""

    requisition_id: UUID
    ticket_id: str
    facts: RequisitionFacts


_COLUMNS = {
    "requisition_id": "uuid",
    "material_id": "text",
    "quantity": "numeric",
    "unit_price": "numeric",
    "amount": "numeric",
    "currency": "text",
    "cost_center_id": "text",
    "justification": "text",
    "origin_kind": "text",
    "storage_location": "text",
}
_OPENING = Opening(
    module="mm",
    event_type="MM_TICKET_CREATED",
    columns=_COLUMNS,
    own=[
        (
            "requisition",
            """insert into mm.purchase_requisition (requisition_id, material_id, quantity, unit_price, amount, currency,
                cost_center_id, justification, origin, storage_location, ticket_id, requested_by, site_id, created_at,
                updated_at)
            select requisition_id, material_id, quantity, unit_price, amount, currency, cost_center_id, justification,
                origin_kind, storage_location, ticket_id, actor_name, site_id, $2, $2 from opened""",
        )
    ],
)


async def open_requisition(ctx: Context, book: Book, new: NewRequisition) -> OpenedRequisition:
    """Open a requisition and its ticket, in the transaction that holds the lock of the material, and tell it.

    Raises:
        NotFound: the actor does not work for the material's site, or materials management is not enabled there.
    """
    requisition_id = uuid7()
    price = book.expected_price
    facts = RequisitionFacts(
        requisition_id=str(requisition_id),
        material_id=book.material_id,
        description=book.description,
        quantity=new.quantity,
        unit_of_measure=book.unit_of_measure,
        unit_price=price,
        amount=amount_of(new.quantity, price),
        currency=book.currency,
        cost_center_id=new.cost_center_id or book.cost_center_id,
        justification=new.justification,
        origin=new.origin,
        requested_by=ctx.actor.username,
        storage_location=new.storage_location or book.storage_location,
        status="requested",
    )
    wanted = f"{new.quantity.normalize():f} {book.unit_of_measure} of {book.material_id}"
    opened = await _OPENING.open(
        ctx,
        NewTicket(
            ticket_type="Procurement",
            title=f"Buy {wanted}: {book.description}"[:200],
            description=new.justification,
            # An empty store is more pressing than a low one.
            priority="P2" if book.quantity == 0 and new.origin == "reorder" else "P3",
            site_id=book.site_id,
            object_kind="requisition",
            object_id=str(requisition_id),
        ),
        facts={"requisition": facts},
        values=(
            requisition_id,
            facts.material_id,
            facts.quantity,
            facts.unit_price,
            facts.amount,
            facts.currency,
            facts.cost_center_id,
            facts.justification,
            facts.origin,
            facts.storage_location,
        ),
    )
    if opened is None:
        raise NotFound(f"There is no material {book.material_id} at your sites, or mm is not enabled at its site.")
    await publish(
        ctx,
        "MM_REQUISITION_CREATED",
        subject=opened.ticket_id,
        site_id=book.site_id,
        time=opened.created_at,
        data=RequisitionCreated(ticket_id=opened.ticket_id, requisition=facts),
    )
    return OpenedRequisition(requisition_id=requisition_id, ticket_id=opened.ticket_id, facts=facts)
