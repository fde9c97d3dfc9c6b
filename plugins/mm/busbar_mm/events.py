"""The events of materials management. Quantities and amounts are decimals, in JSON as text."""

from datetime import datetime
from decimal import Decimal
from typing import Literal

import msgspec

from busbar.sdk import EventType, TicketCreated, TicketUpdated

TransactionType = Literal["receipt", "issue", "adjustment", "transfer"]
RequisitionOrigin = Literal["manual", "reorder"]
RequisitionStatus = Literal["requested", "approved", "rejected", "ordered", "received", "cancelled"]


class RequisitionFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a purchase requisition's events say of it."""

    requisition_id: str
    material_id: str
    description: str
    """The material's."""
    quantity: Decimal
    unit_of_measure: str
    unit_price: Decimal | None
    """Expected price of one unit; None if nobody knows it."""
    amount: Decimal
    """Quantity times price, two decimals, half up; 0 if the price is not known."""
    currency: str
    cost_center_id: str | None
    justification: str
    origin: RequisitionOrigin
    requested_by: str
    """User name; who requests does not approve."""
    storage_location: str
    """Where it is to be received."""
    status: RequisitionStatus


class MmTicketCreated(TicketCreated, frozen=True, kw_only=True):
    """A ticket of materials management was opened, for a purchase requisition."""

    requisition: RequisitionFacts | None = None


class StockChanged(msgspec.Struct, frozen=True, kw_only=True):
    """Stock was received, issued, adjusted, or moved from one storage location to another (SPEC R3.4)."""

    transaction_id: str
    material_id: str
    description: str
    unit_of_measure: str
    quantity_change: Decimal
    """Above 0 for what came, below 0 for what went; of a transfer, what was moved, while the quantity stays."""
    new_quantity: Decimal
    """Of the material, at all its locations together."""
    transaction_type: TransactionType
    storage_location: str
    """Of a transfer, where it came from."""
    to_storage_location: str | None
    quantity_at_location: Decimal
    """What is at `storage_location` now."""
    ticket_id: str | None
    """The ticket of the work that the material was issued to."""
    cost_center_id: str | None
    requisition_id: str | None
    value: Decimal
    """Amount of the movement at moving average price, at least 0."""
    currency: str
    posted_at: datetime
    posted_by: str
    note: str


class RequisitionCreated(msgspec.Struct, frozen=True, kw_only=True):
    """A purchase was requested, by somebody or by the reorder rule; it waits for approval."""

    ticket_id: str
    requisition: RequisitionFacts


class RequisitionChanged(msgspec.Struct, frozen=True, kw_only=True):
    """A purchase requisition that waits for approval was changed."""

    ticket_id: str
    requisition: RequisitionFacts
    changed: tuple[str, ...]
    """Names of the fields that changed."""


class RequisitionApproved(msgspec.Struct, frozen=True, kw_only=True):
    """A purchase requisition was approved: it may be ordered."""

    ticket_id: str
    requisition: RequisitionFacts
    decided_by: str
    comment: str | None


class RequisitionRejected(msgspec.Struct, frozen=True, kw_only=True):
    """A purchase requisition was rejected; its ticket is cancelled."""

    ticket_id: str
    requisition: RequisitionFacts
    decided_by: str
    comment: str | None


class RequisitionReceived(msgspec.Struct, frozen=True, kw_only=True):
    """Some of what a purchase requisition asked for came into stock; with the last of it, its ticket is closed."""

    ticket_id: str
    requisition: RequisitionFacts
    """Its status is `received` when all of it is there."""
    received_quantity: Decimal
    """What came so far, this receipt included."""


class RequisitionCancelled(msgspec.Struct, frozen=True, kw_only=True):
    """A purchase requisition was called off, or its ticket was cancelled."""

    ticket_id: str
    requisition: RequisitionFacts
    decided_by: str
    comment: str | None


class ReorderTriggered(msgspec.Struct, frozen=True, kw_only=True):
    """Stock lay below the reorder level, and a purchase was requested for what is missing (SPEC R3.2)."""

    ticket_id: str
    requisition: RequisitionFacts
    quantity_before: Decimal
    """What was in stock when the rule looked."""
    reorder_level: Decimal
    buffer: Decimal
    open_quantity: Decimal
    """What other requisitions will bring."""
    suggested_quantity: Decimal
    """reorder_level - quantity_before + buffer - open_quantity."""


STOCK_CHANGED = EventType(name="MM_STOCK_CHANGED", module="mm", data=StockChanged)

EVENT_TYPES = (
    EventType(name="MM_TICKET_CREATED", module="mm", data=MmTicketCreated),
    EventType(name="MM_TICKET_UPDATED", module="mm", data=TicketUpdated),
    STOCK_CHANGED,
    EventType(name="MM_REORDER_TRIGGERED", module="mm", data=ReorderTriggered),
    EventType(name="MM_REQUISITION_CREATED", module="mm", data=RequisitionCreated),
    EventType(name="MM_REQUISITION_CHANGED", module="mm", data=RequisitionChanged),
    EventType(name="MM_REQUISITION_APPROVED", module="mm", data=RequisitionApproved),
    EventType(name="MM_REQUISITION_REJECTED", module="mm", data=RequisitionRejected),
    EventType(name="MM_REQUISITION_RECEIVED", module="mm", data=RequisitionReceived),
    EventType(name="MM_REQUISITION_CANCELLED", module="mm", data=RequisitionCancelled),
)
