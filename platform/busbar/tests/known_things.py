"""Things of every kind, for generated calls: with their ids in the path, calls come past the 404."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp

from busbar.testing.app import PASSWORD, Client, RunningApp
from busbar.tests.another_site import ended_replay

YEAR = datetime.now(UTC).year
EACH = 3
"""How many of what a call may end or delete."""


async def known_things(app: RunningApp, word: str) -> dict[str, list[Any]]:
    """New things at site a, with a word in those ids that are chosen; their ids by the names of parameters and fields.

    Of what a call may end there are several, and each role that decides has approval requests to decide.
    """
    admin = await app.client()
    things = await _maintenance(admin)
    finance = await _finance(app, f"CC-{word}", things["ticket_id"][0])
    stock = await _stock(admin, f"M-{word}", f"CC-{word}")
    # Orders and finance both have entries, and all modules have tickets.
    for name in ("entry_id", "ticket_id"):
        things[name] += finance.pop(name) + stock.pop(name, [])
    things |= finance | stock | await _integration(admin, word.lower())
    user = {"username": f"fuzzed-{word}", "display_name": "Fuzzed", "password": PASSWORD}
    await admin.post("/roles", {"role": f"Fuzzed_{word}", "title": "Fuzzed", "permissions": ["pm.read"]})
    storm = {"site": "a", "name": "Storm", "starts_at": datetime.now(UTC).isoformat()}
    events, deliveries = await _told(admin, things["ticket_id"][0])
    return things | {
        "site_id": ["a"],
        "site": ["a"],
        "sites": [["a"]],
        # A module that is there would be switched off, and half of the operations with it.
        "module": ["nothing"],
        "roles": [[f"Fuzzed_{word}"]],
        "assignee": [user["username"]],
        "user_id": [(await admin.post("/users", user))["user_id"]],
        # Not one of those that call: it would lose its permissions on the way.
        "role": [f"Fuzzed_{word}"],
        "import_id": [await _import(admin)],
        "event_id": [event["id"] for event in events],
        "delivery_id": [str(delivery["delivery_id"]) for delivery in deliveries],
        "replay_id": [await ended_replay("admin", word)],
        "key": [things["ticket_id"][0], events[0]["correlationid"]],
        "weather_event_id": [(await admin.post("/sla/weather-events", storm))["weather_event_id"] for _ in range(EACH)],
        "version": ["1"],
        "position": ["1"],
        "fiscal_year": [YEAR],
    }


async def _maintenance(admin: Client) -> dict[str, list[str]]:
    asset_id = (await admin.post("/pm/assets", {"asset_type": "feeder", "name": "Feeder", "site": "a"}))["asset_id"]
    await admin.post(f"/pm/assets/{asset_id}/measurements", {"name": "level", "value": "7"})
    order = {
        "asset_id": asset_id,
        "order_type": "corrective",
        "description": "x",
        "scheduled_date": f"{YEAR + 1}-01-01",
        "checklist": [{"text": "Earthing in place", "mandatory": False}],
    }
    actuals = {"costs": [{"description": "Excavation", "amount": "480.00"}] * EACH}
    plan = {
        "name": "Oil sample",
        "asset_id": asset_id,
        "trigger": {"kind": "calendar", "every": 1, "unit": "months", "first_due": f"{YEAR + 1}-01-01"},
        "template": {"order_type": "preventive", "description": "x"},
    }
    incident = {"asset_id": asset_id, "fault_type": "outage", "severity": "P2", "description": "x"}
    planned = [(await admin.post("/pm/maintenance-orders", order))["order_id"] for _ in range(EACH)]
    noted = await admin.post(f"/pm/maintenance-orders/{planned[0]}/actuals", actuals, status=200)
    reported = [await admin.post("/pm/incidents", incident) for _ in range(5)]
    tickets = [each["ticket_id"] for each in reported]
    await admin.patch(f"/tickets/{tickets[0]}/status", {"new_status": "Assigned"})
    return {
        "asset_id": [asset_id],
        "order_id": planned,
        "entry_id": [each["entry_id"] for each in noted["work"]["actuals"]],
        "plan_id": [(await admin.post("/pm/maintenance-plans", plan))["plan_id"] for _ in range(EACH)],
        "incident_id": [each["incident_id"] for each in reported],
        "ticket_id": tickets,
    }


async def _finance(app: RunningApp, cost_center_id: str, ticket_id: str) -> dict[str, list[Any]]:
    admin, asking = await app.client(), await app.client("Finance_Officer", "a")
    center = {
        "cost_center_id": cost_center_id,
        "name": "Grid",
        "budget_amount": "100000.00",
        "fiscal_year": YEAR,
        "responsible_manager": "Anna Berg",
        "site": "a",
    }
    await admin.post("/fi/cost-centers", center)
    request = {"amount": "18.00", "justification": "x", "cost_center_id": cost_center_id}
    hierarchies = [
        [f"role:{role}" for role in roles]
        for roles in (("Finance_Officer", "Admin"), ("Finance_Approver", "Admin"), ("Admin", "Finance_Approver"))
    ]
    requests = [
        await client.post("/fi/approval-requests", request | {"approval_hierarchy": hierarchy})
        for client in (admin, asking)
        for hierarchy in hierarchies
    ]
    entry = {"ticket_id": ticket_id, "amount": "1.00", "cost_type": "OPEX", "cost_center_id": cost_center_id}
    until = (datetime.now(UTC) + timedelta(days=30)).isoformat()
    delegations = [
        await client.post("/fi/delegations", {"delegate": "stand-in", "valid_until": until})
        for client in await _deciders(app)
    ]
    return {
        "cost_center_id": [cost_center_id],
        "approval_id": [each["approval_id"] for each in requests],
        "ticket_id": [each["ticket_id"] for each in requests],
        "approval_hierarchy": hierarchies,
        "approvers": hierarchies,
        "delegate": ["stand-in"],
        "valid_until": [until],
        "entry_id": [(await admin.post("/fi/cost-entries", entry))["entry_id"] for _ in range(EACH)],
        "delegation_id": [each["delegation_id"] for each in delegations],
    }


async def _deciders(app: RunningApp) -> list[Client]:
    """One of each role that decides, who can delegate; and there is somebody to delegate to."""
    user = {"username": "stand-in", "display_name": "Stand-in", "password": PASSWORD, "sites": ["a"]}
    answer = await (await app.client()).send("POST", "/users", user | {"roles": ["Finance_Approver"]})
    assert answer.status in (201, 409), answer
    others = [await app.client(role, "a") for role in ("Finance_Officer", "Finance_Approver")]
    return [await app.client(), *others]


async def _stock(admin: Client, material_id: str, cost_center_id: str) -> dict[str, list[Any]]:
    material = {
        "material_id": material_id,
        "description": "Fuse",
        "unit_of_measure": "EA",
        "quantity": "1000",
        "storage_location": "RACK-A1",
        "cost_center_id": cost_center_id,
        "unit_price": "2.50",
        "site": "a",
    }
    await admin.post("/mm/materials", material)
    request = {"material_id": material_id, "quantity": "5"}
    count = {"storage_location": "RACK-A1", "material_ids": [material_id], "site": "a"}
    found = {"lines": [{"material_id": material_id, "counted_quantity": "999"}]}
    counts = [(await admin.post("/mm/stock-counts", count))["count_id"] for _ in range(EACH)]
    await admin.patch(f"/mm/stock-counts/{counts[0]}", found)
    requests = [await admin.post("/mm/purchase-requisitions", request) for _ in range(EACH)]
    return {
        "material_id": [material_id],
        "material_ids": [[material_id]],
        "storage_location": ["RACK-A1"],
        "requisition_id": [each["requisition_id"] for each in requests],
        "ticket_id": [each["ticket_id"] for each in requests],
        "count_id": counts,
    }


async def _integration(admin: Client, word: str) -> dict[str, list[str]]:
    settings: dict[str, Any] = {"base_url": "http://127.0.0.1:9", "username": "busbar"}
    endpoint = {"endpoint_id": f"remote-{word}", "connector": "itsm", "name": "Remote", "settings": settings}
    await admin.post("/endpoints", endpoint)
    route = {"route_id": f"rule-{word}", "name": "Rule", "pattern": ["PM_*"], "endpoint_id": f"remote-{word}"}
    await admin.post("/routes", route)
    return {"endpoint_id": [f"remote-{word}"], "route_id": [f"rule-{word}"]}


async def _told(admin: Client, ticket_id: str) -> tuple[list[Any], list[Any]]:
    """The events of a ticket, and their deliveries once there are some."""
    async with asyncio.timeout(30):
        while not (deliveries := (await admin.get(f"/deliveries?subject={ticket_id}"))["items"]):
            await asyncio.sleep(0.05)
    return (await admin.get(f"/events?subject={ticket_id}"))["items"], deliveries


async def _import(admin: Client) -> str:
    form = aiohttp.FormData({"importer": "pm.assets", "site": "a"})
    form.add_field("file", b"asset_type,name\nfeeder,x\n", filename="assets.csv")
    answer = await admin.send("POST", "/imports", data=form)
    assert answer.status == 202, answer
    return str(answer.body["import_id"])
