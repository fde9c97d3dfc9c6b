"""Somebody who may do everything at one site learns nothing of another, and changes nothing there (DESIGN 9)."""

import asyncio
from typing import Any

import aiohttp
import pytest_asyncio

from busbar.db import fetch, fetchval
from busbar.testing.app import Client, RunningApp
from busbar.tests.route_table import STREAM, Operation, operations

MARK = "Nordquelle"
"""Stands in every text of site b, and so in everything that could leak."""
SIGNS = (MARK, "B-1", "desk-b", "route-b")
"""What tells that a list has something of site b."""

NOT_OF_A_SITE = (
    "/api/v1/users",  # people and roles belong to no site; users.read is for who administers all of them
    "/api/v1/roles",
    "/api/v1/permissions",
    "/api/v1/auth",
    "/api/v1/audit/head",  # the chain is one for the whole trail, and tells hashes only
    "/api/v1/audit/verification",
    "/api/v1/connectors",  # what is installed is the same everywhere
    "/api/v1/plugins",
    "/api/v1/importers",
    "/api/v1/events/types",
    "/api/v1/events/asyncapi",
)
BODIES: dict[str, Any] = {
    "PATCH /api/v1/endpoints/{endpoint_id}": {"name": "Taken"},
    "PATCH /api/v1/pm/assets/{asset_id}": {"name": "Taken"},
    "PATCH /api/v1/pm/incidents/{incident_id}": {"description": "Taken"},
    "PATCH /api/v1/pm/maintenance-orders/{order_id}": {"description": "Taken"},
    "PATCH /api/v1/routes/{route_id}": {"name": "Taken"},
    "PATCH /api/v1/sites/{site_id}": {"name": "Taken"},
    "PATCH /api/v1/tickets/{ticket_id}/status": {"new_status": "Assigned"},
    "POST /api/v1/deliveries/{delivery_id}/discard": {"reason": "Taken"},
    "POST /api/v1/deliveries/{delivery_id}/replay": {"reason": "Taken"},
    "POST /api/v1/pm/maintenance-orders/{order_id}/complete": {"notes": "Taken"},
    "POST /api/v1/routes/{route_id}/rollback": {"version": 1},
    "POST /api/v1/tickets/{ticket_id}/assign": {"assignee": "admin"},
    "POST /api/v1/tickets/{ticket_id}/cancel": {"reason": "Taken"},
    "POST /api/v1/tickets/{ticket_id}/hold": {"reason": "Taken"},
    "POST /api/v1/tickets/{ticket_id}/notes": {"comment": "Taken"},
    "POST /api/v1/tickets/{ticket_id}/reopen": {"reason": "Taken"},
    "POST /api/v1/tickets/{ticket_id}/resume": {"comment": "Taken"},
    "PUT /api/v1/sites/{site_id}/modules/{module}": {"enabled": False},
}
"""Valid bodies, so that it is not the body that is refused."""
ROWS = {
    "core.site": ("t", "site_id = 'b'"),
    "core.site_module": ("t", "site_id = 'b'"),
    "core.ticket": ("t", "site_id = 'b'"),
    "core.event": ("t", "site_id = 'b'"),
    "core.endpoint": ("(name, sites, settings, secrets, active, version)", "endpoint_id = 'desk-b'"),
    "core.route": ("t", "route_id = 'route-b'"),
    "core.import_job": ("t", "site_id = 'b'"),
    "core.audit": ("t", "site_id = 'b'"),
    "pm.asset": ("t", "site_id = 'b'"),
    "pm.incident": ("t", "site_id = 'b'"),
    "pm.maintenance_order": ("t", "site_id = 'b'"),
}
"""What belongs to site b, as columns and condition. Deliveries and breakers go on by themselves; that somebody has
changed a delivery shows in the audit trail."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def of_b(app: RunningApp) -> dict[str, Any]:
    """Something of everything at site b: the parameters of paths, by name."""
    admin = await app.client()
    await admin.patch("/sites/b", {"name": MARK})
    await admin.post("/pm/assets", {"asset_type": "feeder", "name": MARK, "site": "b", "asset_id": "B-1"})
    endpoint = {"endpoint_id": "desk-b", "connector": "itsm", "name": MARK, "sites": ["b"]}
    # Nobody listens there: deliveries wait.
    settings = {"base_url": "http://127.0.0.1:9", "username": MARK}
    await admin.post("/endpoints", endpoint | {"settings": settings, "secrets": {"password": MARK}})
    route = {"route_id": "route-b", "name": MARK, "sites": ["b"], "pattern": ["PM_*"], "endpoint_id": "desk-b"}
    await admin.post("/routes", route)
    await admin.post("/routes/route-b/publish", status=200)
    of_asset = {"asset_id": "B-1", "description": MARK}
    incident = await admin.post("/pm/incidents", of_asset | {"fault_type": "fault", "severity": "P2"})
    planned = of_asset | {"order_type": "preventive", "scheduled_date": "2027-03-01"}
    done = await admin.post("/pm/maintenance-orders", planned)
    await admin.post(f"/pm/maintenance-orders/{done['order_id']}/complete", {"notes": MARK}, status=200)
    order = await admin.post("/pm/maintenance-orders", planned)
    ticket_id = incident["ticket_id"]
    await admin.post(f"/tickets/{ticket_id}/notes", {"comment": MARK}, status=200)
    return {
        "asset_id": "B-1",
        "delivery_id": await a_delivery(ticket_id),
        "endpoint_id": "desk-b",
        "event_id": (await admin.get(f"/tickets/{ticket_id}/events"))[0]["id"],
        "import_id": await an_import(admin),
        "incident_id": incident["incident_id"],
        "key": ticket_id,
        "module": "pm",
        "order_id": order["order_id"],
        "route_id": "route-b",
        "site_id": "b",
        "ticket_id": ticket_id,
        "version": 1,
    }


async def a_delivery(ticket_id: str) -> int:
    """The delivery of the ticket's first event to the endpoint of site b, once it has been tried."""
    sql = """
        select d.delivery_id from core.delivery d join core.event e using (event_id)
        where d.endpoint_id = 'desk-b' and e.subject = $1 and d.state = 'retrying'
    """
    async with asyncio.timeout(10):
        while (delivery_id := await fetchval(sql, ticket_id)) is None:
            await asyncio.sleep(0.02)
    return int(delivery_id)


async def an_import(client: Client) -> str:
    """An import at site b of a file with a good and a bad row, when it is over."""
    form = aiohttp.FormData({"importer": "pm.assets", "site": "b", "mode": "partial"})
    table = f"asset_id,asset_type,name,customers_served\nB-2,feeder,{MARK},1\nB-3,feeder,{MARK},{MARK}\n"
    form.add_field("file", table.encode(), filename=f"{MARK}.csv", content_type="text/csv")
    started = await client.send("POST", "/imports", data=form)
    assert started.status == 202, started
    import_id = str(started.body["import_id"])
    async with asyncio.timeout(10):
        while (await client.get(f"/imports/{import_id}"))["state"] == "running":
            await asyncio.sleep(0.02)
    return import_id


def reading(app: RunningApp) -> list[Operation]:
    return [
        operation
        for operation in operations(app)
        if operation.method == "GET"
        and operation.template.startswith("/api/v1/")
        and operation.template != STREAM
        and not operation.template.startswith(NOT_OF_A_SITE)
    ]


def changing(app: RunningApp) -> list[Operation]:
    return [
        operation
        for operation in operations(app)
        if operation.method != "GET"
        and "{" in operation.template
        and not operation.template.startswith(NOT_OF_A_SITE)
        and not operation.template.startswith("/api/v1/inbound")  # no user calls it; its sender is known by signature
    ]


async def rows_of_b() -> dict[str, list[str]]:
    return {
        table: sorted(row["row"] for row in await fetch(f"select {columns}::text as row from {table} t where {mine}"))
        for table, (columns, mine) in ROWS.items()
    }


class TestReading:
    async def test_shows_everything_to_its_own_people(self, app: RunningApp, of_b: dict[str, Any]) -> None:
        # So that the next test cannot pass because a path was filled in wrongly.
        own = await app.client("Admin", "b")
        blind = []
        for operation in reading(app):
            answer = await own.send("GET", operation.path(**of_b))
            if answer.status != 200 or not any(sign.encode() in answer.content for sign in SIGNS):
                blind.append(f"{operation} {answer.status}")
        assert blind == [  # these show numbers and dates only
            "GET /api/v1/deliveries/summary 200",
            "GET /api/v1/endpoints/{endpoint_id}/inbound 200",
            "GET /api/v1/routes/{route_id}/versions 200",
        ]

    async def test_shows_nothing_to_those_of_another_site(self, app: RunningApp, of_b: dict[str, Any]) -> None:
        stranger = await app.client("Admin", "a")
        for operation in reading(app):
            answer = await stranger.send("GET", operation.path(**of_b))
            assert MARK.encode() not in answer.content, f"{operation} shows what is not theirs"
            assert answer.status == (404 if "{" in operation.template else 200), f"{operation}: {answer.status}"
            shown = [sign for sign in SIGNS if answer.status == 200 and sign.encode() in answer.content]
            assert shown == [], f"{operation} shows what is not theirs"

    async def test_of_lists_with_the_other_sites_filter_shows_nothing(
        self, app: RunningApp, of_b: dict[str, Any]
    ) -> None:
        stranger = await app.client("Admin", "a")
        for path in (
            "tickets",
            "pm/assets",
            "pm/incidents",
            "pm/maintenance-orders",
            "events",
            "deliveries",
            "imports",
        ):
            answer = await stranger.send("GET", f"/{path}?site=b")
            assert MARK.encode() not in answer.content, path
            assert answer.status == 404 or answer.body["items"] == [], path

    async def test_of_the_summary_counts_only_ones_own(self, app: RunningApp, of_b: dict[str, Any]) -> None:
        summary = await (await app.client("Admin", "a")).get("/deliveries/summary")
        assert (summary["deliveries"], summary["events_written"]) == (0, 0)


class TestChanging:
    async def test_is_refused_to_those_of_another_site_and_leaves_no_trace(
        self, app: RunningApp, of_b: dict[str, Any]
    ) -> None:
        stranger = await app.client("Admin", "a")
        before = await rows_of_b()
        for operation in changing(app):
            body = BODIES.get(str(operation))
            answer = await stranger.send(operation.method, operation.path(**of_b), body)
            assert answer.status in (403, 404), f"{operation} answers {answer.status}: {answer.content!r}"
            assert MARK.encode() not in answer.content, f"{operation} shows what is not theirs"
        assert await rows_of_b() == before

    async def test_by_creating_something_there_is_refused(self, app: RunningApp, of_b: dict[str, Any]) -> None:
        stranger = await app.client("Admin", "a")
        before = await rows_of_b()
        new = {
            "/pm/assets": {"asset_type": "feeder", "name": "New", "site": "b"},
            "/pm/incidents": {"asset_id": "B-1", "fault_type": "fault", "severity": "P2", "description": "New"},
            "/pm/maintenance-orders": {
                "asset_id": "B-1", "order_type": "preventive", "description": "New", "scheduled_date": "2027-03-01",
            },
            "/routes": {"name": "New", "sites": ["b"], "pattern": ["*"], "endpoint_id": "desk-b"},
            "/routes/dry-run": {"rule": {"pattern": ["*"]}, "event_id": of_b["event_id"]},
        }  # fmt: skip
        for path, body in new.items():
            answer = await stranger.send("POST", path, body)
            assert answer.status in (400, 403, 404), f"{path} answers {answer.status}: {answer.content!r}"
            assert MARK.encode() not in answer.content, path
        replayed = await stranger.post("/deliveries/replay", {"reason": "All", "dry_run": False}, status=200)
        assert replayed["matching"] == 0
        assert await rows_of_b() == before


class TestTheStream:
    async def test_tells_of_ones_own_site_only(self, app: RunningApp, of_b: dict[str, Any]) -> None:
        stranger = await app.client("Admin", "a")
        seen = b""
        async with stranger.stream("/events/stream?after=0") as answer, asyncio.timeout(10):
            await stranger.post("/pm/assets", {"asset_type": "feeder", "name": "Own", "asset_id": "A-1", "site": "a"})
            own = {"asset_id": "A-1", "fault_type": "fault", "severity": "P4", "description": "Own noise"}
            await stranger.post("/pm/incidents", own)
            while b"Own noise" not in seen:
                seen += await answer.content.readany()
        assert MARK.encode() not in seen
