"""What this connector reads of the events it is given: small Structs of its own, tolerant of what it does not use."""

from collections.abc import Mapping
from datetime import date, datetime
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
    asset_type: str = ""
    restored_at: datetime | None = None
    customers_affected: int = 0
    customers_restored: int = 0
    latitude: float | None = None
    longitude: float | None = None


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """A maintenance order."""

    order_id: str
    asset_id: str
    order_type: str
    asset_name: str = ""
    scheduled_date: date | None = None


class TicketOpened(msgspec.Struct, frozen=True, kw_only=True):
    """A module's `…_TICKET_CREATED`. A new ticket has version 1."""

    ticket_id: str
    title: str
    priority: str
    status: str
    description: str = ""
    incident: Incident | None = None
    order: Order | None = None


class TicketChanged(msgspec.Struct, frozen=True, kw_only=True):
    """A module's `…_TICKET_UPDATED`."""

    ticket_id: str
    title: str
    priority: str
    status: str
    version: int
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
    notes: str = ""
    completed_by: str = ""


class SlaAlerted(msgspec.Struct, frozen=True, kw_only=True):
    """*_SLA_WARNING or *_SLA_BREACHED."""

    ticket_id: str
    title: str
    priority: str
    target: str
    reached_at: datetime
    deadline: datetime


Facts = TicketOpened | TicketChanged | IncidentChanged | OrderCompleted | SlaAlerted

_BY_TYPE: dict[str, type[Facts]] = {"PM_INCIDENT_UPDATED": IncidentChanged, "PM_ORDER_COMPLETED": OrderCompleted}
_BY_ENDING: dict[str, type[Facts]] = {
    "_TICKET_CREATED": TicketOpened,
    "_TICKET_UPDATED": TicketChanged,
    "_SLA_WARNING": SlaAlerted,
    "_SLA_BREACHED": SlaAlerted,
}

T = TypeVar("T")


def facts_of(event: Mapping[str, Any]) -> Facts:
    """The facts of a CloudEvent.

    Raises NothingToTell for an event of plant maintenance that no service desk needs, such as a change of an order's
    components; Permanent for one of another module, or whose data cannot be read.
    """
    event_type = str(event.get("type", ""))
    kind = _BY_TYPE.get(event_type)
    if kind is None:
        kind = next((kind for ending, kind in _BY_ENDING.items() if event_type.endswith(ending)), None)
    if kind is None and event_type.startswith("PM_"):
        raise NothingToTell(f"The service desk is not told of {event_type}.")
    if kind is None:
        raise Permanent(
            f"The ITSM connector cannot tell of {event_type or 'an event without a type'}. It knows *_TICKET_CREATED, "
            "*_TICKET_UPDATED, *_SLA_WARNING, *_SLA_BREACHED, PM_INCIDENT_UPDATED and PM_ORDER_COMPLETED; narrow the "
            "route's event pattern."
        )
    return _convert(event.get("data"), kind, what=f"The data of {event_type}")


def time_of(event: Mapping[str, Any]) -> datetime:
    """When the event happened. Raises Permanent."""
    return _convert(event.get("time"), datetime, what="The event's time")


def _convert(value: Any, kind: type[T], *, what: str) -> T:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise Permanent(f"{what} cannot be read: {error}.") from error
