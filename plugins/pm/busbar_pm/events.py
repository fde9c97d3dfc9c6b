"""The events of plant maintenance."""

from datetime import date, datetime
from typing import Literal

import msgspec

from busbar.sdk import EventType, TicketCreated, TicketUpdated

FaultType = Literal["fault", "outage", "degradation"]
Severity = Literal["P1", "P2", "P3", "P4"]
OrderType = Literal["preventive", "corrective", "emergency"]


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


class OrderFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a maintenance order's events say of it."""

    order_id: str
    asset_id: str
    asset_name: str
    order_type: OrderType
    scheduled_date: date


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


EVENT_TYPES = (
    EventType(name="PM_TICKET_CREATED", module="pm", data=PmTicketCreated),
    EventType(name="PM_TICKET_UPDATED", module="pm", data=TicketUpdated),
    EventType(name="PM_INCIDENT_UPDATED", module="pm", data=IncidentUpdated),
    EventType(name="PM_ORDER_COMPLETED", module="pm", data=OrderCompleted),
)
