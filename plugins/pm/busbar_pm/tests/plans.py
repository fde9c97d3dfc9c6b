"""What tests of maintenance plans share: making them, and looking at what they called for."""

from typing import Any

import httpx

TEMPLATE: dict[str, Any] = {"order_type": "preventive", "description": "Service it"}


async def add_plan(client: httpx.AsyncClient, trigger: dict[str, Any], **fields: Any) -> dict[str, Any]:
    body = {"name": "Plan", "trigger": trigger, "template": TEMPLATE, **fields}
    answer = await client.post("/api/v1/pm/maintenance-plans", json=body)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def calls_of(client: httpx.AsyncClient, plan: dict[str, Any]) -> list[dict[str, Any]]:
    """The calls of a plan, the first one first."""
    path = f"/api/v1/pm/maintenance-plans/{plan['plan_id']}/calls"
    answer = await client.get(path, params={"sort": "number", "limit": "200"})
    assert answer.status_code == 200, answer.text
    return list(answer.json()["items"])


async def order_of(client: httpx.AsyncClient, call: dict[str, Any]) -> dict[str, Any]:
    answer = await client.get(f"/api/v1/pm/maintenance-orders/{call['order_id']}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def measure(client: httpx.AsyncClient, asset_id: str, name: str, value: Any, **fields: Any) -> dict[str, Any]:
    body = {"name": name, "value": value, **fields}
    answer = await client.post(f"/api/v1/pm/assets/{asset_id}/measurements", json=body)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())
