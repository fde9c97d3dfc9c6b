"""What finance reads of the events of plant maintenance and of materials management, and no more than that."""

from datetime import datetime
from decimal import Decimal

import msgspec

from busbar_fi.events import CostType


class OrderFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A maintenance order, as far as its costs go."""

    order_id: str
    asset_id: str
    cost_center_id: str | None = None
    cost_type: CostType = "OPEX"
    planned_cost: Decimal | None = None
    """What the order is expected to cost beside material from stock, where its module says so."""


class IncidentFacts(msgspec.Struct, frozen=True, kw_only=True):
    """An incident, as far as its costs go."""

    incident_id: str
    asset_id: str


class PmTicketCreated(msgspec.Struct, frozen=True, kw_only=True):
    """PM_TICKET_CREATED."""

    ticket_id: str
    order: OrderFacts | None = None
    incident: IncidentFacts | None = None


class ComponentsChanged(msgspec.Struct, frozen=True, kw_only=True):
    """PM_COMPONENTS_CHANGED."""

    ticket_id: str
    order: OrderFacts


class OrderCost(msgspec.Struct, frozen=True, kw_only=True):
    """One cost of an order that was not issued from stock."""

    kind: str
    description: str = ""
    amount: Decimal


class OrderCompleted(msgspec.Struct, frozen=True, kw_only=True):
    """PM_ORDER_COMPLETED."""

    ticket_id: str
    order: OrderFacts
    completed_at: datetime
    costs: tuple[OrderCost, ...] = ()
    total_cost: Decimal = Decimal(0)
    currency: str = "EUR"


class StockChanged(msgspec.Struct, frozen=True, kw_only=True):
    """MM_STOCK_CHANGED."""

    material_id: str
    description: str = ""
    unit_of_measure: str = ""
    quantity_change: Decimal
    transaction_type: str
    ticket_id: str | None = None
    cost_center_id: str | None = None
    requisition_id: str | None = None
    value: Decimal = Decimal(0)
    currency: str = "EUR"
    posted_at: datetime


class RequisitionFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A purchase requisition."""

    requisition_id: str
    material_id: str
    description: str = ""
    quantity: Decimal
    unit_of_measure: str = ""
    amount: Decimal
    currency: str = "EUR"
    cost_center_id: str | None = None
    justification: str = ""
    requested_by: str


class RequisitionEvent(msgspec.Struct, frozen=True, kw_only=True):
    """MM_REQUISITION_CREATED, _CHANGED, _APPROVED, _REJECTED, _RECEIVED and _CANCELLED."""

    ticket_id: str
    requisition: RequisitionFacts
    comment: str | None = None
    received_quantity: Decimal | None = None
