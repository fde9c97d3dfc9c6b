"""The events of plant maintenance."""

from datetime import date, datetime
from decimal import Decimal
from typing import Final, Literal

import msgspec

from busbar.sdk import EventType, TicketCreated, TicketUpdated

FaultType = Literal["fault", "outage", "degradation"]
Severity = Literal["P1", "P2", "P3", "P4"]
OrderType = Literal["preventive", "corrective", "emergency"]
CostType = Literal["OPEX", "CAPEX"]
CostKind = Literal["labour", "external", "material"]

CURRENCY: Final = "EUR"
"""ISO 4217 code of all amounts that plant maintenance keeps."""
UNKNOWN: Final = "unknown"
"""The code of each group for what nobody found out; allowed everywhere, and counted as such."""


class IncidentFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What an incident's events say of it."""

    incident_id: str
    asset_id: str
    asset_name: str
    asset_type: str
    fault_type: FaultType
    severity: Severity
    started_at: datetime
    restored_at: datetime | None = None
    customers_affected: int
    customers_restored: int = 0
    latitude: float | None
    longitude: float | None
    object_part: str = UNKNOWN
    damage: str = UNKNOWN
    cause: str = UNKNOWN
    detection: str = UNKNOWN


class OrderComponent(msgspec.Struct, frozen=True, kw_only=True):
    """Material that an order is planned to take from stock."""

    material_id: str
    quantity: Decimal
    """In the material's unit of measure."""


class OrderCost(msgspec.Struct, frozen=True, kw_only=True):
    """One cost of an order's work, other than material issued from stock."""

    kind: CostKind
    description: str
    amount: Decimal
    """In the event's currency, two decimals."""


class OrderFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a maintenance order's events say of it."""

    order_id: str
    asset_id: str
    asset_name: str
    order_type: OrderType
    scheduled_date: date
    cost_center_id: str | None = None
    cost_type: CostType = "OPEX"
    plan_id: str | None = None
    """The maintenance plan that called for the order."""
    incident_ticket_id: str | None = None
    """The ticket of the incident that the order mends."""
    components: tuple[OrderComponent, ...] = ()
    planned_cost: Decimal = Decimal(0)
    """Of the planned labour; what the components cost, materials management knows."""


class PmTicketCreated(TicketCreated, frozen=True, kw_only=True):
    """A ticket of plant maintenance was opened, for an incident or for a maintenance order."""

    incident: IncidentFacts | None = None
    order: OrderFacts | None = None


class IncidentUpdated(msgspec.Struct, frozen=True, kw_only=True):
    """An incident changed: its description, severity, customers affected, or part of the supply was restored."""

    ticket_id: str
    description: str
    changed: tuple[str, ...]
    """Names of the fields that changed; `restoration` when customers have supply again."""
    incident: IncidentFacts


class OrderCompleted(msgspec.Struct, frozen=True, kw_only=True):
    """The work of a maintenance order was done; the asset's history has it."""

    ticket_id: str
    notes: str
    completed_at: datetime
    completed_by: str
    order: OrderFacts
    costs: tuple[OrderCost, ...] = ()
    """All but material issued from stock, which materials management tells of."""
    total_cost: Decimal = Decimal(0)
    """The sum of `costs`."""
    currency: str = CURRENCY
    labour_hours: Decimal = Decimal(0)
    object_part: str = UNKNOWN
    damage: str = UNKNOWN
    cause: str = UNKNOWN
    detection: str = UNKNOWN


class ComponentsChanged(msgspec.Struct, frozen=True, kw_only=True):
    """What a maintenance order is planned to take changed after it was opened; `order` has what is planned now.

    Its material, its labour, or the cost center or cost type of both.
    """

    ticket_id: str
    order: OrderFacts


EVENT_TYPES = (
    EventType(name="PM_TICKET_CREATED", module="pm", data=PmTicketCreated),
    EventType(name="PM_TICKET_UPDATED", module="pm", data=TicketUpdated),
    EventType(name="PM_INCIDENT_UPDATED", module="pm", data=IncidentUpdated),
    EventType(name="PM_ORDER_COMPLETED", module="pm", data=OrderCompleted),
    EventType(name="PM_COMPONENTS_CHANGED", module="pm", data=ComponentsChanged),
)
