"""Golden events, as Busbar sends them, and ways to tell the later chapters of the same story."""

from copy import deepcopy
from typing import Any

Event = dict[str, Any]

TICKET = "TKT-PM-20261128-0001"
ORDER_TICKET = "TKT-PM-20261128-0002"
BUY_TICKET = "TKT-MM-20261128-0001"
CORRELATION_ID = "3f0c9c1e-6a1b-7d2a-9a55-0f6b1c2d3e4f"
REQUISITION_ID = "019ab0c4-7d2e-7000-8000-0000000000a1"
TRANSACTION_ID = "019ab0c4-7d2e-7000-8000-0000000000b1"

INCIDENT = {
    "incident_id": "019ab0c4-7d2e-7000-8000-0000000000c1",
    "asset_id": "FD-012",
    "asset_name": "Feeder 12 Harbour",
    "asset_type": "feeder",
    "fault_type": "outage",
    "severity": "P1",
    "started_at": "2026-11-28T09:14:00Z",
    "restored_at": None,
    "customers_affected": 300,
    "customers_restored": 0,
    "latitude": 53.5412,
    "longitude": 9.9841,
}
ORDER = {
    "order_id": "019ab0c4-7d2e-7000-8000-0000000000d1",
    "asset_id": "TR-0007",
    "asset_name": "Transformer 7 Mill Lane",
    "order_type": "corrective",
    "scheduled_date": "2026-11-30",
    "cost_center_id": "cc-200",
}
REQUISITION = {
    "requisition_id": REQUISITION_ID,
    "material_id": "Fuse-NH2-250A",
    "description": "Fuse link NH2 250 A gG, 500 V AC, with live gripping lugs",
    "quantity": "12.000",
    "unit_of_measure": "EA",
    "unit_price": "14.2550",
    "amount": "171.06",
    "currency": "EUR",
    "cost_center_id": "cc-100",
    "justification": "Stock lay below the reorder level.",
    "origin": "reorder",
    "requested_by": "mia",
    "storage_location": "Main warehouse",
    "status": "approved",
}


def event(event_type: str, subject: str, data: dict[str, Any], *, time: str = "2026-11-28T09:20:00.250Z") -> Event:
    """A CloudEvent of Busbar's."""
    return {
        "specversion": "1.0",
        "id": "019ab0c4-7d2e-7000-8000-00000000e001",
        "source": "busbar/north",
        "type": event_type,
        "subject": subject,
        "time": time,
        "correlationid": CORRELATION_ID,
        "data": data,
    }


def changed(before: Event, **data: Any) -> Event:
    """The event with other values in its data."""
    copy = deepcopy(before)
    copy["data"] |= data
    return copy


def incident_opened(**data: Any) -> Event:
    """PM_TICKET_CREATED of an outage."""
    facts = {
        "ticket_id": TICKET,
        "title": "Outage at FD-012: Feeder tripped on overcurrent",
        "description": "Feeder tripped on overcurrent.\nTwo reclosings without success.",
        "priority": "P1",
        "status": "Open",
        "created_by": "erna",
        "incident": INCIDENT,
    }
    return event("PM_TICKET_CREATED", TICKET, {**facts, **data})


def order_opened(**data: Any) -> Event:
    """PM_TICKET_CREATED of a maintenance order."""
    facts = {
        "ticket_id": ORDER_TICKET,
        "title": "Corrective maintenance of TR-0007: oil leak",
        "description": "Oil leak at the tap changer.",
        "priority": "P3",
        "status": "Open",
        "created_by": "erna",
        "order": ORDER,
    }
    return event("PM_TICKET_CREATED", ORDER_TICKET, {**facts, **data})


def ticket_update(version: int, status: str, action: str = "move", *, ticket_id: str = TICKET, **data: Any) -> Event:
    """PM_TICKET_UPDATED with this version and status."""
    is_order = ticket_id == ORDER_TICKET
    facts = {
        "ticket_id": ticket_id,
        "ticket_type": "Maintenance" if is_order else "Incident",
        "title": "Corrective maintenance of TR-0007: oil leak" if is_order else incident_opened()["data"]["title"],
        "priority": "P3" if is_order else "P1",
        "status": status,
        "on_hold": False,
        "assignee": "ben",
        "action": action,
        "comment": None,
        "version": version,
    }
    return event("PM_TICKET_UPDATED", ticket_id, {**facts, **data}, time=f"2026-11-28T10:{version:02d}:00Z")


def incident_updated(**data: Any) -> Event:
    """PM_INCIDENT_UPDATED: part of the supply is restored."""
    incident = {**INCIDENT, "customers_affected": 320, "customers_restored": 200}
    facts = {"ticket_id": TICKET, "description": "Cable cut.", "changed": ["restoration"], "incident": incident}
    return event("PM_INCIDENT_UPDATED", TICKET, {**facts, **data}, time="2026-11-28T10:05:00.125Z")


def order_completed(**data: Any) -> Event:
    """PM_ORDER_COMPLETED."""
    facts = {
        "ticket_id": ORDER_TICKET,
        "order": ORDER,
        "completed_at": "2026-11-30T14:30:00Z",
        "completed_by": "ben",
        "notes": "Gasket replaced, oil topped up by 12 l.",
    }
    return event("PM_ORDER_COMPLETED", ORDER_TICKET, {**facts, **data}, time="2026-11-30T14:31:00Z")


def requisition_approved(**requisition: Any) -> Event:
    """MM_REQUISITION_APPROVED."""
    facts = {
        "ticket_id": BUY_TICKET,
        "requisition": {**REQUISITION, **requisition},
        "decided_by": "fred",
        "comment": "Take the long-life type",
    }
    return event("MM_REQUISITION_APPROVED", BUY_TICKET, facts)


def requisition_cancelled() -> Event:
    """MM_REQUISITION_CANCELLED."""
    facts = {"ticket_id": BUY_TICKET, "requisition": REQUISITION, "decided_by": "mia", "comment": None}
    return event("MM_REQUISITION_CANCELLED", BUY_TICKET, facts)


def stock_changed(transaction_type: str, quantity: str, **data: Any) -> Event:
    """MM_STOCK_CHANGED."""
    facts = {
        "transaction_id": TRANSACTION_ID,
        "material_id": "FUSE-NH2-250A",
        "description": "Fuse link",
        "unit_of_measure": "EA",
        "quantity_change": quantity,
        "new_quantity": "40.000",
        "transaction_type": transaction_type,
        "storage_location": "Main warehouse",
        "to_storage_location": None,
        "quantity_at_location": "40.000",
        "ticket_id": None,
        "cost_center_id": None,
        "requisition_id": None,
        "value": "171.06",
        "currency": "EUR",
        "posted_at": "2026-11-28T23:30:00Z",
        "posted_by": "mia",
        "note": "",
    }
    return event("MM_STOCK_CHANGED", "FUSE-NH2-250A", {**facts, **data})
