"""Sites never leak into each other (promise 9): whoever works at site b learns nothing of site a and changes nothing.

At site a there is one of everything, each with the word MARK in it. The tests walk the live route table, so that an
operation that is added later is held to it without anybody thinking of it.
"""

import asyncio
from datetime import UTC, datetime
from typing import Any

import aiohttp
import msgspec
import pytest_asyncio

from busbar.db import fetch
from busbar.testing.app import PASSWORD, Answer, Client, RunningApp
from busbar.tests.route_table import STREAM, Operation, operations

MARK = "zebrafish"
METRICS = "/metrics"
"""For whoever runs Busbar, as the specification has it open: numbers by endpoint and route, no content."""
NOT_OF_A_SITE = {
    "/api/v1/roles/{role}",
    "/api/v1/inbound/{endpoint_id}",
    "/openapi/{path}",
}
"""Operations whose parameter names nothing that belongs to a site; a webhook proves itself by its signature."""

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
}
"""What is valid at an address that ends so; elsewhere a name, or nothing, is."""


class Things(msgspec.Struct, kw_only=True):
    """The ids of what there is at site a."""

    values: dict[str, str]
    """By the name of the parameter of a path."""
    names: list[str]
    """Whatever must not be seen from site b, the ids and the word MARK."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def things(app: RunningApp) -> Things:
    """One of everything at site a, and something at site b, so that empty lists are not the reason."""
    admin = await app.client()
    there = await app.client("Admin", "a")
    here = await app.client("Admin", "b")
    values = {"site_id": "a", "module": "pm", "version": "1"}
    values |= await _work(there, MARK)
    await _work(here, "budgerigar")
    values |= await _integration(admin)
    user = {"username": MARK, "display_name": MARK, "password": PASSWORD, "roles": ["Admin"], "sites": ["a"]}
    values["user_id"] = (await admin.post("/users", user))["user_id"]
    values["import_id"] = await _import(there)
    storm = {"site": "a", "name": MARK, "starts_at": datetime.now(UTC).isoformat()}
    values["weather_event_id"] = (await there.post("/sla/weather-events", storm))["weather_event_id"]
    await app.quiet()
    event = (await there.get(f"/events?subject={values['ticket_id']}&limit=1"))["items"][0]
    values |= {"event_id": event["id"], "key": event["correlationid"]}
    delivery = (await there.get(f"/deliveries?subject={values['ticket_id']}&limit=1"))["items"][0]
    values["delivery_id"] = str(delivery["delivery_id"])
    hidden = [value for name, value in values.items() if name not in ("site_id", "module", "version", "delivery_id")]
    return Things(values=values, names=[MARK, *hidden])


async def _work(client: Client, word: str) -> dict[str, str]:
    asset = await client.post("/pm/assets", {"asset_type": "feeder", "name": word, "asset_id": f"F-{len(word)}"})
    asset_id = asset["asset_id"]
    order = {"asset_id": asset_id, "order_type": "preventive", "description": word, "scheduled_date": "2027-01-01"}
    order_id = (await client.post("/pm/maintenance-orders", order))["order_id"]
    incident = {"asset_id": asset_id, "fault_type": "fault", "severity": "P2", "description": word}
    reported = await client.post("/pm/incidents", incident)
    ticket_id = reported["ticket_id"]
    await client.patch(f"/tickets/{ticket_id}/status", {"new_status": "Assigned", "comment": word})
    return {
        "asset_id": asset_id,
        "order_id": order_id,
        "incident_id": reported["incident_id"],
        "ticket_id": ticket_id,
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


async def _import(client: Client) -> str:
    form = aiohttp.FormData()
    form.add_field("importer", "pm.assets")
    form.add_field("site", "a")
    form.add_field("file", b"asset_id,asset_type,name\nI-1,feeder,zebrafish\n", filename=f"{MARK}.csv")
    answer = await client.send("POST", "/imports", data=form)
    assert answer.status == 202, answer
    import_id = str(answer.body["import_id"])
    async with asyncio.timeout(10):
        while (await client.get(f"/imports/{import_id}"))["state"] == "running":
            await asyncio.sleep(0.02)
    return import_id


class TestReadingFromAnotherSite:
    async def test_finds_nothing_of_it_in_any_list(self, app: RunningApp, things: Things) -> None:
        here = await app.client("Admin", "b")
        for operation in operations(app):
            if operation.method == "GET" and not operation.kinds and operation.template not in (STREAM, METRICS):
                answer = await here.send("GET", operation.path())
                assert answer.status == 200, (operation, answer)
                text = answer.content.decode()
                assert [name for name in things.names if name in text] == [], operation

    async def test_finds_nothing_by_filters_that_name_it(self, app: RunningApp, things: Things) -> None:
        here = await app.client("Admin", "b")
        values = things.values
        for query in (
            "/tickets?site=a",
            f"/tickets?text={MARK}",
            f"/tickets?correlation_id={values['key']}",
            "/pm/assets?site=a",
            f"/pm/incidents?asset_id={values['asset_id']}",
            "/events?site=a",
            f"/events?subject={values['ticket_id']}",
            "/deliveries?site=a",
            f"/deliveries?subject={values['ticket_id']}",
            "/imports?site=a",
            "/routes?site=a",
            f"/routes?endpoint={values['endpoint_id']}",
            "/audit?site=a",
            f"/audit?object_id={values['ticket_id']}",
            f"/users?text={MARK}",
            "/sla/weather-events?site=a",
        ):
            answer = await here.send("GET", query)
            assert answer.status == 404 or answer.body["items"] == [], (query, answer)

    async def test_is_what_its_own_people_see(self, app: RunningApp, things: Things) -> None:
        """The words are really there, else the tests above would prove nothing."""
        there = await app.client("Admin", "a")
        for query in ("/tickets", "/pm/assets", "/pm/incidents", "/pm/maintenance-orders", "/events", "/endpoints",
                      "/routes", "/users", "/imports"):  # fmt: skip
            assert MARK in (await there.send("GET", query)).content.decode(), query
        seen = await there.get(f"/deliveries?subject={things.values['ticket_id']}")
        assert seen["total"] > 0
        assert (await there.get(f"/audit?object_id={things.values['ticket_id']}"))["total"] > 0

    async def test_by_its_events_live_tells_only_of_the_own_site(self, app: RunningApp, things: Things) -> None:
        there, here = await app.client("Admin", "a"), await app.client("Admin", "b")
        async with here.stream("/events/stream") as answer, asyncio.timeout(10):
            assert answer.status == 200
            await answer.content.readline()
            await _work(there, f"{MARK}-live")
            await _work(here, "canary")
            told = b""
            async for line in answer.content:
                told += line
                if line.startswith(b"data: ") and b"canary" in line:
                    break
        assert MARK.encode() not in told
        assert b'"site":"a"' not in told


class TestNamingAThingOfAnotherSite:
    async def test_is_answered_as_if_there_were_no_such_thing(self, app: RunningApp, things: Things) -> None:
        here = await app.client("Admin", "b")
        await app.quiet()
        before = await _everything()
        named = [each for each in operations(app) if each.kinds and each.template not in NOT_OF_A_SITE]
        assert {name for each in named for name in each.kinds} <= set(things.values), "an id of a new kind"
        for operation in named:
            answer = await _call(here, operation, things)
            if operation.template.endswith("/trace/{key}") and answer.status == 200:
                assert answer.body["steps"] == [], answer.content
                continue
            assert answer.status == 404, (operation, answer)
            assert MARK not in answer.content.decode(), operation
        assert await _everything() == before

    async def test_would_have_been_answered_at_its_own_site(self, app: RunningApp, things: Things) -> None:
        there = await app.client("Admin", "a")
        for operation in operations(app):
            if operation.method == "GET" and operation.kinds and operation.template not in NOT_OF_A_SITE:
                assert (await _call(there, operation, things)).status == 200, operation

    async def test_in_a_body_makes_nothing_there(self, app: RunningApp, things: Things) -> None:
        here = await app.client("Admin", "b")
        asset_id = things.values["asset_id"]
        incident = {"asset_id": asset_id, "fault_type": "fault", "severity": "P1", "description": "x"}
        order = {"asset_id": asset_id, "order_type": "preventive", "description": "x", "scheduled_date": "2027-01-01"}
        asset = {"asset_type": "feeder", "name": "x"}
        user = {"username": "spy", "display_name": "x", "password": PASSWORD, "roles": [], "sites": ["a"]}
        storm = {"site": "a", "name": "x", "starts_at": datetime.now(UTC).isoformat()}
        route = {"name": "x", "sites": ["a"], "pattern": ["*"], "endpoint_id": things.values["endpoint_id"]}
        await app.quiet()
        before = await _everything()
        for path, body in (
            ("/pm/incidents", incident),
            ("/pm/maintenance-orders", order),
            ("/pm/assets", asset | {"site": "a"}),
            ("/pm/assets", asset | {"parent_id": asset_id}),
            ("/users", user),
            ("/sla/weather-events", storm),
            ("/routes", route),
            ("/deliveries/replay", {"reason": "x", "dry_run": False, "site": "a"}),
            ("/routes/dry-run", {"route_id": things.values["route_id"], "event_id": things.values["event_id"]}),
            ("/routes/dry-run", {"rule": {}, "event_id": things.values["event_id"]}),
        ):
            answer = await here.send("POST", path, body)
            if path == "/deliveries/replay":
                assert answer.body["matching"] == 0, answer
            else:
                assert answer.status in (400, 403, 404, 409, 422), (path, answer)
            assert MARK not in answer.content.decode(), (path, answer)
        assert await _everything() == before


async def _call(client: Client, operation: Operation, things: Things) -> Answer:
    body = None
    if operation.method != "GET":
        endings = [ending for ending in BODIES if operation.template.endswith(ending)]
        body = BODIES[endings[0]] if endings else {"name": "Mine now"} if operation.method == "PATCH" else {}
    return await client.send(operation.method, operation.path(**things.values), body)


async def _everything() -> dict[str, Any]:
    """How much there is, and in which versions: what an attack from outside must not change."""
    counted = {}
    for table in ("core.ticket", "core.event", "core.user_account", "core.route", "core.endpoint", "core.site_module",
                  "core.site_calendar", "core.sla_terms", "core.weather_event",
                  "pm.asset", "pm.incident", "pm.maintenance_order", "core.site"):  # fmt: skip
        (row,) = await fetch(f"select count(*) as rows, md5(string_agg(t::text, '|' order by t::text)) from {table} t")
        counted[table] = tuple(row)
    return counted
