"""Sites over HTTP: made, changed, and their modules switched off and on while everything runs."""

import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from busbar.db import fetch, fetchval
from busbar.host.loader import installed, load
from busbar.host.tests.made_up import module_plugin, subscription
from busbar.testing.app import Answer, Client, RunningApp, running_app
from busbar.testing.database import TestServer

NOTICED = "bert.notice"
"""The subscription of a made-up module `bert` to what plant maintenance tells of."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def app(postgres: TestServer) -> AsyncIterator[RunningApp]:
    bert = module_plugin("bert", subscriptions=(subscription("bert", pattern="PM_TICKET_CREATED", called=NOTICED),))
    async with running_app(postgres, plugins=load([*installed(), bert])) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def admin(app: RunningApp) -> Client:
    return await app.client()


async def switch(admin: Client, site: str, module: str, *, enabled: bool) -> Answer:
    return await admin.send("PUT", f"/sites/{site}/modules/{module}", {"enabled": enabled})


async def audited(site: str) -> list[str]:
    rows = await fetch("select action from core.audit where object_kind = 'site' and object_id = $1 order by 1", site)
    return [row["action"] for row in rows]


class TestMakingASite:
    async def test_answers_with_the_site_as_it_can_be_read_from_then_on(self, admin: Client) -> None:
        new = {"site_id": "pump-3", "name": "Pumpwerk 3", "timezone": "Europe/Vienna", "modules": ["pm", "bert", "pm"]}
        made = await admin.send("POST", "/sites", new)
        assert made.status == 201
        assert {name: made.body[name] for name in new} == {**new, "modules": ["bert", "pm"]}
        assert made.headers["ETag"] == '"v1"'
        assert await admin.get("/sites/pump-3") == made.body
        assert await audited("pump-3") == ["site.create"]

    async def test_is_in_utc_and_without_modules_unless_said(self, admin: Client) -> None:
        made = await admin.post("/sites", {"site_id": "plain", "name": "Plain"})
        assert (made["timezone"], made["modules"]) == ("UTC", [])

    async def test_needs_a_free_id(self, admin: Client) -> None:
        await admin.post("/sites", {"site_id": "twice", "name": "First"})
        again = await admin.send("POST", "/sites", {"site_id": "twice", "name": "Second"})
        assert (again.status, again.body["code"]) == (409, "RES_002")
        assert (await admin.get("/sites/twice"))["name"] == "First"
        assert await audited("twice") == ["site.create"]

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({"modules": ["pm", "gas"]}, "modules"),
            ({"modules": ["itsm"]}, "modules"),
            ({"timezone": "Mars/Olympus_Mons"}, "timezone"),
            ({"timezone": "Europe"}, "timezone"),
            ({"timezone": "../../etc/passwd"}, "timezone"),
            ({"timezone": "/etc/localtime"}, "timezone"),
            ({"timezone": "zone.tab"}, "timezone"),
            ({"timezone": ""}, "timezone"),
            ({"site_id": "Not a slug"}, "site_id"),
            ({"name": ""}, "name"),
        ],
    )
    async def test_is_refused_naming_the_field(self, admin: Client, body: dict[str, Any], field: str) -> None:
        count = await fetchval("select count(*) from core.site")
        answer = await admin.send("POST", "/sites", {"site_id": "refused", "name": "X", **body})
        assert answer.status == 400, answer
        assert [error["field"].partition("[")[0] for error in answer.body["errors"]] == [field]
        assert await fetchval("select count(*) from core.site") == count

    async def test_is_not_for_who_works_at_some_sites_only(self, app: RunningApp) -> None:
        of_a = await app.client("Admin", "a")
        answer = await of_a.send("POST", "/sites", {"site_id": "mine", "name": "Mine"})
        assert (answer.status, answer.body["code"]) == (403, "AUTH_003")
        assert not await fetchval("select exists(select from core.site where site_id = 'mine')")


class TestChangingASite:
    async def test_changes_what_is_said_and_keeps_the_rest(self, admin: Client) -> None:
        await admin.post("/sites", {"site_id": "moved", "name": "Old", "timezone": "Asia/Kathmandu", "modules": ["pm"]})
        renamed = await admin.send("PATCH", "/sites/moved", {"name": "New"})
        assert renamed.headers["ETag"] == '"v2"'
        assert (renamed.body["name"], renamed.body["timezone"]) == ("New", "Asia/Kathmandu")
        moved = await admin.patch("/sites/moved", {"timezone": "America/Argentina/Buenos_Aires"})
        assert (moved["name"], moved["timezone"]) == ("New", "America/Argentina/Buenos_Aires")
        assert (moved["modules"], moved["version"]) == (["pm"], 3)
        assert await audited("moved") == ["site.change", "site.change", "site.create"]

    async def test_refuses_an_unknown_time_zone(self, admin: Client) -> None:
        await admin.post("/sites", {"site_id": "still", "name": "Still"})
        refused = await admin.patch("/sites/still", {"name": "Other", "timezone": "Europe/Atlantis"}, status=400)
        assert refused["errors"][0]["field"] == "timezone"
        assert (await admin.get("/sites/still"))["name"] == "Still"

    async def test_is_for_those_who_work_there(self, app: RunningApp) -> None:
        of_a = await app.client("Admin", "a")
        assert (await of_a.patch("/sites/a", {"name": "Ours"}))["name"] == "Ours"
        for path in ("/sites/b", "/sites/nowhere"):
            assert (await of_a.patch(path, {"name": "Ours"}, status=404))["code"] == "RES_001"
        answers = [await switch(of_a, site, "pm", enabled=True) for site in ("a", "b", "nowhere")]
        assert [answer.status for answer in answers] == [200, 404, 404]

    async def test_refuses_to_switch_what_is_no_module(self, admin: Client) -> None:
        for module in ("gas", "itsm"):
            answer = await switch(admin, "a", module, enabled=True)
            assert (answer.status, answer.body["detail"]) == (404, f"There is no module {module}.")

    async def test_may_switch_a_module_to_what_it_is(self, admin: Client) -> None:
        await admin.post("/sites", {"site_id": "same", "name": "Same", "modules": ["pm"]})
        for enabled, modules in ((True, ["pm"]), (False, []), (False, []), (True, ["pm"])):
            assert (await switch(admin, "same", "pm", enabled=enabled)).body["modules"] == modules


_numbers = itertools.count(1)


class Depot:
    """A site of its own with both modules, an engineer there, and an asset."""

    def __init__(self, admin: Client, engineer: Client, asset_id: str, site: str) -> None:
        self.admin, self.engineer, self.asset_id, self.site = admin, engineer, asset_id, site

    async def report(self) -> Answer:
        incident = {"asset_id": self.asset_id, "fault_type": "fault", "severity": "P2", "description": "It hums"}
        return await self.engineer.send("POST", "/pm/incidents", incident)

    async def switch(self, module: str, *, enabled: bool) -> None:
        assert (await switch(self.admin, self.site, module, enabled=enabled)).status == 200


@pytest.fixture
async def depot(app: RunningApp, admin: Client) -> Depot:
    site = f"depot-{next(_numbers)}"
    await admin.post("/sites", {"site_id": site, "name": "Depot", "modules": ["pm", "bert"]})
    engineer = await app.client("Maintenance_Engineer", site)
    asset = await engineer.post("/pm/assets", {"asset_type": "feeder", "name": "Feeder 7"})
    return Depot(admin, engineer, asset["asset_id"], site)


class TestModuleThatIsOff:
    async def test_has_no_routes_at_that_site_from_the_next_request_on(self, depot: Depot) -> None:
        opened = (await depot.report()).body
        await depot.switch("pm", enabled=False)
        for path in ("/pm/assets", f"/pm/assets/{depot.asset_id}", "/pm/incidents", "/pm/maintenance-orders"):
            assert (await depot.engineer.get(path, status=404))["code"] == "RES_001"
        reason = "The module pm is not enabled at any of your sites; an administrator can enable it."
        assert (await depot.engineer.get("/pm/assets", status=404))["detail"] == reason
        refused = await depot.report()
        assert (refused.status, refused.body["code"]) == (404, "RES_001")
        assert refused.headers["Content-Type"] == "application/problem+json"
        assert await fetchval("select count(*) from core.ticket where site_id = $1", depot.site) == 1
        assert (await depot.engineer.get(f"/tickets/{opened['ticket_id']}"))["status"] == "Open", "data stays"

    async def test_is_back_with_all_its_data_by_the_next_request(self, depot: Depot) -> None:
        before = await depot.engineer.get(f"/pm/assets/{depot.asset_id}")
        await depot.switch("pm", enabled=False)
        await depot.switch("pm", enabled=True)
        assert await depot.engineer.get(f"/pm/assets/{depot.asset_id}") == before
        assert (await depot.report()).status == 201

    async def test_goes_on_at_other_sites(self, app: RunningApp, depot: Depot) -> None:
        elsewhere = await app.client("Maintenance_Engineer", "a")
        await elsewhere.post("/pm/assets", {"asset_type": "feeder", "name": "Elsewhere"})
        await depot.switch("pm", enabled=False)
        assert "Elsewhere" in str(await elsewhere.get("/pm/assets"))
        listed = await depot.admin.get("/pm/assets?limit=200")
        assert depot.site not in {item["site"] for item in listed["items"]}, "whoever works at both sees the other"

    async def test_gets_no_events_of_that_site_and_the_ledger_says_why(self, app: RunningApp, depot: Depot) -> None:
        await depot.switch("bert", enabled=False)
        missed = (await depot.report()).body["ticket_id"]
        await app.quiet()  # what counts is whether the module is on when the event is handed on
        await depot.switch("bert", enabled=True)
        noticed = (await depot.report()).body["ticket_id"]
        await app.quiet()
        rows = await fetch(
            "select e.subject, d.state, d.attempts, d.last_error from core.delivery d "
            "join core.event e using (event_id) where d.subscription = $1 and d.site_id = $2 order by d.position",
            NOTICED,
            depot.site,
        )
        reason = f"the module bert is not enabled at {depot.site}"
        assert [tuple(row) for row in rows] == [(missed, "skipped", 0, reason), (noticed, "delivered", 1, None)]
        assert await fetchval("select name from core.site where site_id = $1", depot.site) == "Depot bert!"

    async def test_is_told_of_in_the_trail(self, depot: Depot) -> None:
        await depot.switch("pm", enabled=False)
        await depot.switch("pm", enabled=True)
        assert await audited(depot.site) == ["site.create", "site.disable_module", "site.enable_module"]
