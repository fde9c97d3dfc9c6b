"""What tests of incidents and of orders share: opening them, and looking at what that wrote."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec
from hypothesis import strategies as st

from busbar.sdk import fetch, fetchval

TARGET_HOURS = {"P1": 4, "P2": 8, "P3": 24, "P4": 72}
ORDER_PRIORITY = {"emergency": "P1", "corrective": "P3", "preventive": "P4"}
PROSE = st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=200)
TICKET_ID = re.compile(r"TKT-PM-(\d{8})-(\d{4,})")


async def report(client: httpx.AsyncClient, asset_id: str, **fields: Any) -> dict[str, Any]:
    body = {"asset_id": asset_id, "fault_type": "outage", "severity": "P2", "description": "No supply", **fields}
    answer = await client.post("/api/v1/pm/incidents", json=body)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def plan(client: httpx.AsyncClient, asset_id: str, **fields: Any) -> dict[str, Any]:
    body = {"asset_id": asset_id, "order_type": "corrective", "description": "Fix it", "scheduled_date": "2027-03-01"}
    answer = await client.post("/api/v1/pm/maintenance-orders", json=body | fields)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def ticket_of(client: httpx.AsyncClient, opened: dict[str, Any]) -> dict[str, Any]:
    answer = await client.get(f"/api/v1/tickets/{opened['ticket_id']}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def events_of(opened: dict[str, Any], event_type: str, type_: Any) -> list[Any]:
    sql = "select data from core.event where subject = $1 and event_type = $2 order by seq"
    rows = await fetch(sql, opened["ticket_id"], event_type)
    return [msgspec.json.decode(row["data"], type=type_) for row in rows]


async def written() -> tuple[int, ...]:
    """How many rows there are that opening something would add to."""
    tables = ("core.ticket", "core.event", "core.audit", "pm.incident", "pm.maintenance_order")
    return tuple([await fetchval(f"select count(*) from {table}") for table in tables])


def check_ticket(ticket: dict[str, Any], *, ticket_type: str, priority: str, since: datetime) -> None:
    created = datetime.fromisoformat(ticket["created_at"])
    match = TICKET_ID.fullmatch(ticket["ticket_id"])
    assert match is not None, ticket["ticket_id"]
    assert match[1] == created.strftime("%Y%m%d")
    assert int(match[2]) >= 1
    assert (ticket["ticket_type"], ticket["priority"], ticket["status"]) == (ticket_type, priority, "Open")
    deadline = datetime.fromisoformat(ticket["sla_deadline"])
    assert deadline - created == timedelta(hours=TARGET_HOURS[priority])
    assert since <= created <= datetime.now(UTC)
