"""What this connector reads of the events it is given: small Structs of its own, tolerant of what it does not use."""

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any, TypeVar

import msgspec

from busbar.sdk import NothingToTell, Permanent


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """A fault, outage or degradation of an asset."""

    asset_id: str
    fault_type: str
    severity: str
    started_at: datetime
    asset_name: str = ""
    restored_at: datetime | None = None
    customers_affected: int = 0
    customers_restored: int = 0


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """A maintenance order."""

    order_id: str
    asset_id: str
    order_type: str
    asset_name: str = ""
    scheduled_date: date | None = None
    cost_center_id: str | None = None


class TicketOpened(msgspec.Struct, frozen=True, kw_only=True):
    """PM_TICKET_CREATED. A new ticket has version 1."""

    ticket_id: str
    title: str
    priority: str
    status: str
    description: str = ""
    created_by: str = ""
    incident: Incident | None = None
    order: Order | None = None


class TicketChanged(msgspec.Struct, frozen=True, kw_only=True):
    """PM_TICKET_UPDATED."""

    ticket_id: str
    title: str
    priority: str
    status: str
    version: int
    ticket_type: str = ""
    on_hold: bool = False
    assignee: str | None = None
    action: str = ""
    comment: str | None = None


class IncidentChanged(msgspec.Struct, frozen=True, kw_only=True):
    """PM_INCIDENT_UPDATED."""

    ticket_id: str
    description: str
    incident: Incident
    changed: tuple[str, ...] = ()


class OrderCompleted(msgspec.Struct, frozen=True, kw_only=True):
    """PM_ORDER_COMPLETED."""

    ticket_id: str
    order: Order
    completed_at: datetime
    notes: str = ""
    completed_by: str = ""


class Requisition(msgspec.Struct, frozen=True, kw_only=True):
    """A purchase requisition."""

    requisition_id: str
    material_id: str
    description: str
    quantity: Decimal
    unit_of_measure: str
    currency: str
    unit_price: Decimal | None = None
    cost_center_id: str | None = None
    justification: str = ""
    requested_by: str = ""
    storage_location: str = ""


class RequisitionApproved(msgspec.Struct, frozen=True, kw_only=True):
    """MM_REQUISITION_APPROVED."""

    ticket_id: str
    requisition: Requisition
    decided_by: str = ""
    comment: str | None = None


class RequisitionCancelled(msgspec.Struct, frozen=True, kw_only=True):
    """MM_REQUISITION_CANCELLED."""

    ticket_id: str
    requisition: Requisition


class StockChanged(msgspec.Struct, frozen=True, kw_only=True):
    """MM_STOCK_CHANGED."""

    transaction_id: str
    material_id: str
    unit_of_measure: str
    quantity_change: Decimal
    transaction_type: str
    storage_location: str
    posted_at: datetime
    to_storage_location: str | None = None
    ticket_id: str | None = None
    cost_center_id: str | None = None
    requisition_id: str | None = None
    reverses_transaction_id: str | None = None
    """The transaction that this one takes back; it is then cancelled in SAP."""
    posted_by: str = ""
    note: str = ""


MaintenanceFacts = TicketOpened | TicketChanged | IncidentChanged | OrderCompleted
Facts = MaintenanceFacts | RequisitionApproved | RequisitionCancelled | StockChanged

_BY_TYPE: dict[str, type[Facts]] = {
    "PM_TICKET_CREATED": TicketOpened,
    "PM_TICKET_UPDATED": TicketChanged,
    "PM_INCIDENT_UPDATED": IncidentChanged,
    "PM_ORDER_COMPLETED": OrderCompleted,
    "MM_REQUISITION_APPROVED": RequisitionApproved,
    "MM_REQUISITION_CANCELLED": RequisitionCancelled,
    "MM_STOCK_CHANGED": StockChanged,
}
_REASONS = {
    "MM_TICKET_CREATED": "A purchase requisition is told when it is approved.",
    "MM_TICKET_UPDATED": "SAP keeps documents, and no procurement tickets.",
    "MM_REQUISITION_CREATED": "A purchase requisition is told when it is approved.",
    "MM_REQUISITION_REJECTED": "A rejected requisition never came to SAP.",
    "MM_REQUISITION_RECEIVED": "Each receipt is told by its own stock transaction.",
    "MM_REORDER_TRIGGERED": "Its purchase requisition is told when it is approved.",
}

T = TypeVar("T")


def facts_of(event: Mapping[str, Any]) -> Facts:
    """The facts of a CloudEvent.

    Raises NothingToTell for what means nothing to SAP; Permanent for an event of another module, or data that cannot be
    read.
    """
    event_type = str(event.get("type", ""))
    kind = _BY_TYPE.get(event_type)
    if kind is not None:
        facts = _convert(event.get("data"), kind, what=f"The data of {event_type}")
        if isinstance(facts, TicketOpened) and facts.incident is None and facts.order is None:
            raise NothingToTell("The ticket is neither an incident nor a maintenance order.")
        return facts
    if not event_type.startswith(("MM_", "PM_")):
        raise Permanent(
            f"The ERP connector cannot tell of {event_type or 'an event without a type'}. It knows the events of "
            "materials management and plant maintenance; narrow the route's event pattern."
        )
    raise NothingToTell(_REASONS.get(event_type, f"SAP has no document for {event_type}."))


def time_of(event: Mapping[str, Any]) -> datetime:
    """When the event happened. Raises Permanent."""
    return _convert(event.get("time"), datetime, what="The event's time")


def _convert(value: Any, kind: type[T], *, what: str) -> T:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise Permanent(f"{what} cannot be read: {error}.") from error
