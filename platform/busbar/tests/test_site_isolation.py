"""Sites never leak into each other (promise 9): whoever works at site b learns nothing of site a and changes nothing.

At site a there is one of everything, each with the word MARK in it. The tests walk the live route table, so that an
operation that is added later is held to it without anybody thinking of it.
"""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest_asyncio

from busbar.db import fetch
from busbar.testing.app import PASSWORD, Client, RunningApp
from busbar.tests.another_site import MARK, OWN, YEAR, Things, fill_both_sites, load, work
from busbar.tests.route_table import STREAM, operations

METRICS = "/metrics"
"""For whoever runs Busbar, as the specification has it open: numbers by endpoint and route, no content."""
NOT_OF_A_SITE = {
    "/api/v1/roles/{role}",
    "/api/v1/inbound/{endpoint_id}",
    "/openapi/{path}",
}
"""Operations whose parameter names nothing that belongs to a site; a webhook proves itself by its signature."""
CHANGED_BY_COMMANDS = ("core.ticket", "core.event", "core.user_account", "core.route", "core.endpoint",
                       "core.site_module", "core.site_calendar", "core.sla_terms", "core.weather_event",
                       "core.site")  # fmt: skip
"""Tables of the core that change by nothing else, not by being read; those of the modules are all looked at."""

OWN_ASSET, OWN_MATERIAL, OWN_CENTER = (f"{kind}-{len(OWN)}" for kind in ("F", "M", "CC"))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def things(app: RunningApp) -> Things:
    return await fill_both_sites(app)


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
            "/pm/maintenance-plans?site=a",
            f"/pm/maintenance-plans?asset_id={values['asset_id']}",
            f"/pm/maintenance-orders?plan_id={values['plan_id']}",
            f"/pm/maintenance-orders?incident_id={values['incident_id']}",
            "/mm/materials?site=a",
            f"/mm/materials?text={MARK}",
            f"/mm/materials?storage_location={MARK}",
            f"/mm/stock-transactions?material_id={values['material_id']}",
            "/mm/storage-locations?site=a",
            f"/mm/stock-counts?storage_location={MARK}",
            f"/mm/purchase-requisitions?material_id={values['material_id']}",
            "/fi/cost-centers?site=a",
            f"/fi/cost-centers?text={MARK}",
            f"/fi/commitments?cost_center_id={values['cost_center_id']}",
            f"/fi/cost-entries?ticket_id={values['ticket_id']}",
            f"/fi/cost-entries?cost_center_id={values['cost_center_id']}",
            f"/fi/approval-requests?cost_center_id={values['cost_center_id']}",
            "/fi/approval-rules?site=a",
        ):
            answer = await here.send("GET", query)
            assert answer.status == 404 or answer.body["items"] == [], (query, answer)

    async def test_counts_nothing_of_it_in_any_report(self, app: RunningApp, things: Things) -> None:
        here, values = await app.client("Admin", "b"), things.values
        for query in (
            "/fi/reports/costs?site=a",
            "/fi/reports/costs?site=a&format=csv",
            "/fi/reports/costs?site=a&format=xlsx",
            "/pm/failure-statistics?site=a",
            "/pm/reliability?site=a",
            "/pm/indices?site=a",
            "/pm/indices/major-event-days?site=a",
            "/pm/indices/incidents?site=a",
        ):
            answer = await here.send("GET", query)
            assert answer.status == 404, (query, answer)
        for query, key in (
            (f"/fi/reports/costs?cost_center_id={values['cost_center_id']}", "rows"),
            (f"/fi/reports/costs?by=ticket&ticket_id={values['ticket_id']}", "rows"),
            (f"/fi/reports/costs?by=asset&asset_id={values['asset_id']}", "rows"),
            (f"/pm/failure-statistics?asset_id={values['asset_id']}", "failures"),
        ):
            assert not (await here.get(query))[key], query

    async def test_is_what_its_own_people_see(self, app: RunningApp, things: Things) -> None:
        """The words are really there, else the tests above would prove nothing."""
        there = await app.client("Admin", "a")
        for query in ("/tickets", "/pm/assets", "/pm/incidents", "/pm/maintenance-orders", "/pm/maintenance-plans",
                      "/mm/materials", "/mm/stock-transactions", "/mm/stock-counts", "/mm/storage-locations",
                      "/mm/purchase-requisitions", "/fi/cost-centers", "/fi/cost-entries", "/fi/approval-requests",
                      "/fi/delegations", "/events", "/endpoints", "/routes", "/users", "/imports"):  # fmt: skip
            assert MARK in (await there.send("GET", query)).content.decode(), query
        seen = await there.get(f"/deliveries?subject={things.values['ticket_id']}")
        assert seen["total"] > 0
        assert (await there.get(f"/audit?object_id={things.values['ticket_id']}"))["total"] > 0

    async def test_by_its_events_live_tells_only_of_the_own_site(self, app: RunningApp, things: Things) -> None:
        there, here = await app.client("Admin", "a"), await app.client("Admin", "b")
        async with here.stream("/events/stream") as answer, asyncio.timeout(30):
            assert answer.status == 200
            await answer.content.readline()
            await work(there, f"{MARK}-live")
            await work(here, "canary")
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
        before = await _everything(app)
        named = [each for each in operations(app) if each.kinds and each.template not in NOT_OF_A_SITE]
        assert {name for each in named for name in each.kinds} <= set(things.values), "an id of a new kind"
        for operation in named:
            answer = await things.call(here, operation)
            if operation.template.endswith("/trace/{key}") and answer.status == 200:
                assert answer.body["steps"] == [], answer.content
                continue
            assert answer.status == 404, (operation, answer)
            assert MARK not in answer.content.decode(), operation
        assert await _everything(app) == before

    async def test_would_have_been_answered_at_its_own_site(self, app: RunningApp, things: Things) -> None:
        there = await app.client("Admin", "a")
        for operation in operations(app):
            if operation.method == "GET" and operation.kinds and operation.template not in NOT_OF_A_SITE:
                assert (await things.call(there, operation)).status == 200, operation

    async def test_in_a_body_makes_nothing_there(self, app: RunningApp, things: Things) -> None:
        here = await app.client("Admin", "b")
        await app.quiet()
        before = await _everything(app)
        for method, path, body in _naming_things(things.values):
            answer = await here.send(method, path, body)
            if path == "/deliveries/replay":
                assert answer.body["matching"] == 0, answer
            else:
                assert answer.status in (400, 403, 404, 409, 422), (path, body, answer)
            assert MARK not in answer.content.decode(), (path, answer)
        assert await _everything(app) == before

    async def test_in_the_rows_of_a_file_changes_nothing_there(self, app: RunningApp, things: Things) -> None:
        here = await app.client("Admin", "b")
        await app.quiet()
        before = await _everything(app)
        asset, material, center = (things.values[name] for name in ("asset_id", "material_id", "cost_center_id"))
        for importer, rows in (
            ("pm.assets", f"asset_id,asset_type,name\n{asset},feeder,x\n"),
            ("mm.materials", f"material_id,description,unit_of_measure\n{material},x,EA\n"),
            ("mm.stock", f"material_id,storage_location,quantity\n{material},{MARK},1\n"),
            (
                "fi.cost_centers",
                "cost_center_id,name,budget_amount,fiscal_year,responsible_manager\n" + f"{center},x,1.00,{YEAR},x\n",
            ),
        ):
            job = await load(here, importer, "b", rows)
            assert (job["rows_accepted"], job["rows_rejected"]) == (0, 1), job
        assert await _everything(app) == before

    async def test_in_a_body_that_is_taken_has_no_effect_there(self, app: RunningApp, things: Things) -> None:
        """Modules keep ids of each other without asking; what they tell each other must not reach the other site."""
        here, there = await app.client("Admin", "b"), await app.client("Admin", "a")
        await app.quiet()
        before = await _seen(there, things.values)
        own = await work(here, "own")
        center, material = things.values["cost_center_id"], things.values["material_id"]
        component = {"material_id": material, "quantity": "2"}
        order = {
            "asset_id": own["asset_id"],
            "order_type": "preventive",
            "description": "x",
            "scheduled_date": "2027-01-01",
            "cost_center_id": center,
            "labour": [{"description": "Fitter", "hours": "4", "hourly_rate": "62.50"}],
            "components": [component],
        }
        planned = await here.post("/pm/maintenance-orders", order)
        path = f"/pm/maintenance-orders/{planned['order_id']}"
        await here.post(f"{path}/actuals", {"costs": [{"description": "x", "amount": "9.00"}]}, status=200)
        await app.quiet()
        await here.patch(path, {"components": [component | {"quantity": "3"}]})
        await here.post(f"{path}/complete", {}, status=200)
        issue = {"material_id": own["material_id"], "quantity_change": "-1", "transaction_type": "issue"}
        await here.post("/mm/stock-transactions", issue | {"cost_center_id": center})
        request = {"material_id": own["material_id"], "quantity": "1", "cost_center_id": center}
        wanted = await here.post("/mm/purchase-requisitions", request)
        await app.quiet()
        await here.send("DELETE", f"/mm/purchase-requisitions/{wanted['requisition_id']}")
        await app.quiet()
        assert await _seen(there, things.values) == before
        told = (await here.send("GET", "/deliveries?state=dead&limit=200")).content.decode()
        assert center in told, "the costs found no cost center, and say so"
        assert MARK not in told


def _naming_things(values: dict[str, str]) -> list[tuple[str, str, dict[str, Any]]]:
    """Requests that are well formed and name things of site a in their bodies."""
    asset_id, ticket_id, center, material = (
        values[name] for name in ("asset_id", "ticket_id", "cost_center_id", "material_id")
    )
    incident = {"asset_id": asset_id, "fault_type": "fault", "severity": "P1", "description": "x"}
    order = {"order_type": "preventive", "description": "x", "scheduled_date": "2027-01-01"}
    asset = {"asset_type": "feeder", "name": "x"}
    user = {"username": "spy", "display_name": "x", "password": PASSWORD, "roles": [], "sites": ["a"]}
    storm = {"site": "a", "name": "x", "starts_at": datetime.now(UTC).isoformat()}
    route = {"name": "x", "sites": ["a"], "pattern": ["*"], "endpoint_id": values["endpoint_id"]}
    plan = {
        "name": "x",
        "trigger": {"kind": "incident"},
        "template": {"order_type": "corrective", "description": "x"},
    }
    new_material = {"material_id": "M-spy", "description": "x", "unit_of_measure": "EA"}
    posting = {"quantity_change": "-1", "transaction_type": "issue"}
    receipt = {"material_id": OWN_MATERIAL, "quantity_change": "1", "transaction_type": "receipt"}
    new_center = {
        "cost_center_id": "CC-spy",
        "name": "x",
        "budget_amount": "1.00",
        "fiscal_year": YEAR,
        "responsible_manager": "x",
    }
    entry = {"ticket_id": ticket_id, "amount": "1.00", "cost_type": "OPEX", "cost_center_id": OWN_CENTER}
    request = {"amount": "1.00", "justification": "x", "cost_center_id": center, "approval_hierarchy": ["admin"]}
    code = {"code_group": "cause", "code": "vegetation", "title": "Mine now"}
    return [
        ("POST", "/pm/incidents", incident),
        ("POST", "/pm/maintenance-orders", order | {"asset_id": asset_id}),
        ("POST", "/pm/maintenance-orders", order | {"incident_id": values["incident_id"]}),
        ("POST", "/pm/maintenance-orders", order | {"asset_id": OWN_ASSET, "incident_id": values["incident_id"]}),
        ("POST", "/pm/maintenance-plans", plan | {"asset_id": asset_id}),
        ("POST", "/pm/maintenance-plans", plan | {"asset_type": "feeder", "site": "a"}),
        ("POST", "/pm/assets", asset | {"site": "a"}),
        ("POST", "/pm/assets", asset | {"parent_id": asset_id}),
        ("PATCH", f"/pm/assets/{OWN_ASSET}", {"parent_id": asset_id}),
        ("PUT", "/pm/failure-codes", code),
        ("POST", "/mm/materials", new_material | {"site": "a"}),
        ("POST", "/mm/materials", new_material | {"material_id": material}),
        ("POST", "/mm/stock-transactions", posting | {"material_id": material}),
        ("POST", "/mm/stock-transactions", posting | {"material_id": OWN_MATERIAL, "ticket_id": ticket_id}),
        ("POST", "/mm/stock-transactions", receipt | {"requisition_id": values["requisition_id"]}),
        ("POST", "/mm/storage-locations", {"storage_location": "x", "site": "a"}),
        ("POST", "/mm/stock-counts", {"storage_location": MARK, "site": "a"}),
        ("POST", "/mm/stock-counts", {"storage_location": OWN, "material_ids": [material]}),
        ("POST", "/mm/purchase-requisitions", {"material_id": material, "quantity": "1"}),
        ("POST", "/fi/cost-centers", new_center | {"site": "a"}),
        ("POST", "/fi/cost-centers", new_center | {"cost_center_id": center}),
        ("POST", "/fi/cost-centers", new_center | {"parent_id": center}),
        ("PATCH", f"/fi/cost-centers/{OWN_CENTER}", {"parent_id": center}),
        ("POST", "/fi/cost-entries", entry),
        ("POST", "/fi/cost-entries", entry | {"cost_center_id": center}),
        ("POST", "/fi/approval-requests", request),
        ("PUT", "/fi/approval-rules?site=a", {"rules": []}),
        ("POST", "/users", user),
        ("POST", "/sla/weather-events", storm),
        ("POST", "/routes", route),
        ("POST", "/deliveries/replay", {"reason": "x", "dry_run": False, "site": "a"}),
        ("POST", "/routes/dry-run", {"route_id": values["route_id"], "event_id": values["event_id"]}),
        ("POST", "/routes/dry-run", {"rule": {}, "event_id": values["event_id"]}),
    ]


async def _seen(client: Client, values: dict[str, str]) -> list[Any]:
    """What the modules know of the things of site a that others can name to them."""
    center, material = values["cost_center_id"], values["material_id"]
    return [
        await client.get(path)
        for path in (
            f"/fi/cost-centers/{center}",
            f"/fi/cost-centers/{center}/budgets",
            f"/fi/commitments?cost_center_id={center}",
            f"/fi/cost-entries?cost_center_id={center}",
            f"/fi/approval-requests?cost_center_id={center}",
            f"/fi/reports/costs?cost_center_id={center}",
            f"/mm/materials/{material}",
            f"/mm/materials/{material}/stock",
            f"/mm/materials/{material}/reservations",
            f"/mm/materials/{material}/transactions",
            f"/mm/purchase-requisitions?material_id={material}",
        )
    ]


async def _everything(app: RunningApp) -> dict[str, Any]:
    """How much there is, and in which versions: what an attack from outside must not change."""
    counted = {}
    modules = await fetch(
        "select table_schema || '.' || table_name as name from information_schema.tables where table_schema = any($1)",
        app.platform.catalog.modules,
    )
    for table in (*CHANGED_BY_COMMANDS, *sorted(row["name"] for row in modules)):
        (row,) = await fetch(f"select count(*) as rows, md5(string_agg(t::text, '|' order by t::text)) from {table} t")
        counted[table] = tuple(row)
    return counted
