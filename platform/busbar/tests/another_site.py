"""One of everything at a site, for the tests that nothing of it is to be seen or changed from another."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import msgspec

from busbar.db import fetchval
from busbar.testing.app import PASSWORD, Answer, Client, RunningApp
from busbar.tests.route_table import Operation

_ENDED_REPLAY = """
insert into core.replay (replay_id, state, reason, wanted, actor, per_second, matching, last_delivery_id, created_by,
    username, correlation_id, created_at, next_step_at, finished_at)
select gen_random_uuid(), 'done', $2, '{}', '{}', 50, 0, 0, user_id::text, username, $2, now(), now(), now()
from core.user_account where username = $1 returning replay_id
"""
MARK = "zebrafish"
OWN = "budgerigar"
YEAR = datetime.now(UTC).year

BODIES: dict[str, dict[str, Any]] = {
    "/status": {"new_status": "In_Progress"},
    "/assign": {"assignee": "admin"},
    "/hold": {"reason": MARK},
    "/cancel": {"reason": MARK},
    "/reopen": {"reason": MARK},
    "/notes": {"comment": MARK},
    "/replay": {"reason": MARK},
    "/discard": {"reason": MARK},
    "/rollback": {"version": 1},
    "/modules/{module}": {"enabled": False},
    "/withdraw": {"reason": MARK},
    "/calendar": {"hours": None},
    "/sla-targets": {"targets": []},
    "/password": {"password": PASSWORD + " again"},
    "/sites/{site_id}": {"name": "Mine now"},
    "/users/{user_id}": {"display_name": "Mine now"},
    "/incidents/{incident_id}": {"description": "Mine now"},
    "/maintenance-orders/{order_id}": {"description": "Mine now"},
    "/actuals": {"costs": [{"description": "Mine now", "amount": "1.00"}]},
    "/measurements": {"name": "level", "value": "1"},
    "/materials/{material_id}": {"description": "Mine now"},
    "/purchase-requisitions/{requisition_id}": {"quantity": "1"},
    "/stock-counts/{count_id}": {"lines": [{"material_id": "M-9", "counted_quantity": "1"}]},
    "/approval-requests/{approval_id}": {"amount": "1.00"},
    "/reject": {"comment": MARK},
    "/budgets/{fiscal_year}": {"budget_amount": "1.00"},
    "/reverse": {"reason": MARK},
    "/approval-rules": {"rules": []},
}
"""What is valid at an address that ends so; elsewhere a name, or nothing, is."""
NO_IDS = ("site_id", "module", "version", "delivery_id", "position", "fiscal_year")
"""Parameters whose values may stand in any answer."""


class Things(msgspec.Struct, kw_only=True):
    """The ids of what there is at site a."""

    values: dict[str, str]
    """By the name of the parameter of a path; an entry of finance is `cost_entry_id`, for orders have entries too."""

    @property
    def names(self) -> list[str]:
        """Whatever must not be seen from site b, the ids and the word MARK."""
        return [MARK, *(value for name, value in self.values.items() if name not in NO_IDS)]

    async def call(self, client: Client, operation: Operation, **more: Any) -> Answer:
        """Call an operation on these things, with a body that is valid there; `more` goes to the client."""
        body = None
        if operation.method != "GET":
            endings = [ending for ending in BODIES if operation.template.endswith(ending)]
            body = BODIES[endings[0]] if endings else {"name": "Mine now"} if operation.method == "PATCH" else {}
        values = dict(self.values)
        if operation.template.startswith("/api/v1/fi/"):
            values["entry_id"] = values["cost_entry_id"]
        return await client.send(operation.method, operation.path(**values), body, **more)


async def fill_both_sites(app: RunningApp) -> Things:
    """One of everything at site a, and something at site b, so that empty lists are not the reason."""
    admin = await app.client()
    there = await app.client("Admin", "a")
    values = {"site_id": "a", "module": "pm", "version": "1", "position": "1", "fiscal_year": str(YEAR)}
    values |= await work(there, MARK)
    await work(await app.client("Admin", "b"), OWN)
    values |= await _integration(admin)
    user = {"username": MARK, "display_name": MARK, "password": PASSWORD, "roles": ["Admin"], "sites": ["a"]}
    values["user_id"] = (await admin.post("/users", user))["user_id"]
    rows = f"asset_id,asset_type,name\nI-1,feeder,{MARK}\n"
    values["import_id"] = (await load(there, "pm.assets", "a", rows))["import_id"]
    storm = {"site": "a", "name": MARK, "starts_at": datetime.now(UTC).isoformat()}
    values["weather_event_id"] = (await there.post("/sla/weather-events", storm))["weather_event_id"]
    await app.quiet()
    event = (await there.get(f"/events?subject={values['ticket_id']}&limit=1"))["items"][0]
    values |= {"event_id": event["id"], "key": event["correlationid"]}
    delivery = (await there.get(f"/deliveries?subject={values['ticket_id']}&limit=1"))["items"][0]
    values["delivery_id"] = str(delivery["delivery_id"])
    values["replay_id"] = await ended_replay("admin-a", MARK)
    return Things(values=values)


async def ended_replay(username: str, word: str) -> str:
    """A replay of many that somebody began and that has ended, without a delivery that it would send again."""
    return str(await fetchval(_ENDED_REPLAY, username, word))


async def work(client: Client, word: str) -> dict[str, str]:
    """Something of every kind that the modules have, with a word in it; the ids, by the names of parameters."""
    money = await _cost_center(client, word)
    maintenance = await _maintenance(client, word, money["cost_center_id"])
    entry = {
        "ticket_id": maintenance["ticket_id"],
        "amount": "1.00",
        "cost_type": "OPEX",
        "cost_center_id": money["cost_center_id"],
        "description": word,
    }
    money["cost_entry_id"] = (await client.post("/fi/cost-entries", entry))["entry_id"]
    return money | maintenance | await _stock(client, word, money["cost_center_id"])


async def _maintenance(client: Client, word: str, cost_center_id: str) -> dict[str, str]:
    asset = await client.post("/pm/assets", {"asset_type": "feeder", "name": word, "asset_id": f"F-{len(word)}"})
    asset_id = asset["asset_id"]
    await client.post(f"/pm/assets/{asset_id}/measurements", {"name": "level", "value": "7", "unit": word})
    plan = {
        "name": word,
        "asset_id": asset_id,
        "trigger": {"kind": "calendar", "every": 1, "unit": "months", "first_due": f"{YEAR + 1}-01-01"},
        "template": {"order_type": "preventive", "description": word},
    }
    order = {
        "asset_id": asset_id,
        "order_type": "preventive",
        "description": word,
        "scheduled_date": f"{YEAR + 1}-01-01",
        "cost_center_id": cost_center_id,
        "checklist": [{"text": word}],
    }
    order_id = (await client.post("/pm/maintenance-orders", order))["order_id"]
    actuals = {"costs": [{"description": word, "amount": "480.00"}]}
    noted = await client.post(f"/pm/maintenance-orders/{order_id}/actuals", actuals, status=200)
    incident = {"asset_id": asset_id, "fault_type": "fault", "severity": "P2", "description": word}
    reported = await client.post("/pm/incidents", incident)
    ticket_id = reported["ticket_id"]
    await client.patch(f"/tickets/{ticket_id}/status", {"new_status": "Assigned", "comment": word})
    return {
        "asset_id": asset_id,
        "plan_id": (await client.post("/pm/maintenance-plans", plan))["plan_id"],
        "order_id": order_id,
        "entry_id": noted["work"]["actuals"][0]["entry_id"],
        "incident_id": reported["incident_id"],
        "ticket_id": ticket_id,
    }


async def _stock(client: Client, word: str, cost_center_id: str) -> dict[str, str]:
    material = {
        "material_id": f"M-{len(word)}",
        "description": word,
        "unit_of_measure": "EA",
        "quantity": "10",
        "storage_location": word,
        "cost_center_id": cost_center_id,
        "unit_price": "2.50",
    }
    material_id = (await client.post("/mm/materials", material))["material_id"]
    issue = {"material_id": material_id, "quantity_change": "-1", "transaction_type": "issue", "note": word}
    await client.post("/mm/stock-transactions", issue)
    request = {"material_id": material_id, "quantity": "5", "justification": word}
    count = {"storage_location": word, "description": word}
    return {
        "material_id": material_id,
        "requisition_id": (await client.post("/mm/purchase-requisitions", request))["requisition_id"],
        "count_id": (await client.post("/mm/stock-counts", count))["count_id"],
    }


async def _cost_center(client: Client, word: str) -> dict[str, str]:
    center = {
        "cost_center_id": f"CC-{len(word)}",
        "name": word,
        "budget_amount": "1000.00",
        "fiscal_year": YEAR,
        "responsible_manager": word,
    }
    center_id = (await client.post("/fi/cost-centers", center))["cost_center_id"]
    rules = {"rules": [{"approvers": ["role:Finance_Officer"]}]}
    assert (await client.send("PUT", "/fi/approval-rules", rules)).status == 200
    request = {
        "amount": "18.00",
        "justification": word,
        "cost_center_id": center_id,
        "approval_hierarchy": ["admin"],
    }
    until = (datetime.now(UTC) + timedelta(days=30)).isoformat()
    delegation = {"delegate": "admin", "valid_until": until, "reason": word}
    return {
        "cost_center_id": center_id,
        "approval_id": (await client.post("/fi/approval-requests", request))["approval_id"],
        "delegation_id": (await client.post("/fi/delegations", delegation))["delegation_id"],
    }


async def _integration(admin: Client) -> dict[str, str]:
    endpoint = {
        "endpoint_id": "remote-of-a",
        "connector": "itsm",
        "name": MARK,
        "sites": ["a"],
        "settings": {"base_url": "http://127.0.0.1:9", "username": "busbar"},
        "secrets": {"password": "hidden"},
    }
    await admin.post("/endpoints", endpoint)
    route = {
        "route_id": "rule-of-a",
        "name": MARK,
        "sites": ["a"],
        "pattern": ["PM_*"],
        "endpoint_id": "remote-of-a",
    }
    await admin.post("/routes", route)
    return {"endpoint_id": "remote-of-a", "route_id": "rule-of-a"}


async def load(client: Client, importer: str, site: str, rows: str) -> dict[str, Any]:
    """Import rows in CSV at a site; the finished job."""
    form = aiohttp.FormData({"importer": importer, "site": site})
    form.add_field("file", rows.encode(), filename=f"{MARK}.csv")
    answer = await client.send("POST", "/imports", data=form)
    assert answer.status == 202, answer
    job: dict[str, Any] = answer.body
    async with asyncio.timeout(30):
        while job["state"] == "running":
            await asyncio.sleep(0.02)
            job = await client.get(f"/imports/{job['import_id']}")
    return job
