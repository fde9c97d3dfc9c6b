"""Golden events, as Busbar sends them, and ways to tell the later chapters of the same story."""

import json
from copy import deepcopy
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

Event = dict[str, Any]

TICKET = "TKT-FI-20261123-0001"
ORDER_TICKET = "TKT-PM-20261123-0002"
CORRELATION_ID = "3f0c9c1e-6a1b-7d2a-9a55-0f6b1c2d3e4f"

_FOLDER = Path(__file__).parent / "fixtures" / "events"


def golden(name: str) -> Event:
    """A stored event by the name of its file."""
    event: Event = json.loads((_FOLDER / f"{name}.json").read_text())
    return event


def changed(event: Event, **data: Any) -> Event:
    """The event with other values in its data."""
    copy = deepcopy(event)
    copy["data"] |= data
    return copy


def later(event: Event, *, seconds: float, event_id: str = "") -> Event:
    """The event that many seconds later, as another event where an id is given."""
    time = (datetime.fromisoformat(event["time"]) + timedelta(seconds=seconds)).isoformat()
    return {**event, "time": time, "id": event_id or event["id"]}


def ticket_update(version: int, status: str, action: str = "move", **data: Any) -> Event:
    """FI_TICKET_UPDATED with this version and status."""
    plain = {"comment": None, "assignee": "fiona", "on_hold": False}
    event = changed(
        golden("ticket_updated"), **{**plain, "version": version, "status": status, "action": action, **data}
    )
    return {**event, "id": f"019ab0c4-7d2e-7000-8000-0000000a{version:04d}"}
