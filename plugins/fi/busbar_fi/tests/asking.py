"""What tests of approval requests share."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from busbar.testing.app import Client
from busbar_fi.tests.desk import add_ticket, tell

PATH = "/fi/approval-requests"


async def ask(client: Client, center: str, *hierarchy: str, **fields: Any) -> dict[str, Any]:
    """Ask for 100; returns what was opened."""
    body = {"amount": "100.00", "justification": "New pump", "cost_center_id": center}
    return dict(await client.post(PATH, body | {"approval_hierarchy": list(hierarchy)} | fields))


async def state_of(client: Client, opened: dict[str, Any]) -> tuple[str, int, str]:
    """Status and level of a request, and the status of its ticket."""
    read = await client.get(f"{PATH}/{opened['approval_id']}")
    ticket = await client.get(f"/tickets/{opened['ticket_id']}")
    return read["status"], read["level"], ticket["status"]


async def decide(client: Client, opened: dict[str, Any], verb: str = "approve", **more: Any) -> Any:
    """Approve or reject; the answer, whatever it is."""
    body = {"comment": "As discussed"}
    return await client.send("POST", f"{PATH}/{opened['approval_id']}/{verb}", body, **more)


async def delegate(client: Client, to: str, *, days: int = 1) -> str:
    """Let somebody decide for the client's user; returns the delegation's id."""
    until = datetime.now(UTC) + timedelta(days=days)
    given = await client.post("/fi/delegations", {"delegate": to, "valid_until": until, "reason": "Holiday"})
    return str(given["delegation_id"])


async def requisition(kind: str = "CREATED", *, facts: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """A requisition's event as materials management tells it; returns its facts, with its ticket as `ticket_id`."""
    facts = facts or {
        "requisition_id": str(uuid4()),
        "ticket_id": await add_ticket(module="mm", kind="requisition"),
        "material_id": "MAT-1",
        "description": "Fuse",
        "quantity": "4.000",
        "unit_of_measure": "pc",
        "unit_price": "25.0000",
        "amount": "100.00",
        "currency": "EUR",
        "cost_center_id": None,
        "justification": "Below the reorder level",
        "origin": "reorder",
        "requested_by": "stan",
        "storage_location": "A",
        "status": "requested",
    }
    more = {name: fields.pop(name) for name in ("received_quantity",) if name in fields}
    facts = facts | fields
    data = {"ticket_id": facts["ticket_id"], "requisition": facts, **more}
    await tell(f"MM_REQUISITION_{kind}", data, subject=facts["ticket_id"])
    return facts
