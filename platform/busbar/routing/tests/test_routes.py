"""Routes over HTTP."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from busbar.db import execute, fetchval
from busbar.routing.routes import ROUTES
from busbar.routing.tests.sample import EVENT
from busbar.routing.tests.support import Platform, add_endpoint, add_route, an_actor, report
from busbar.routing.tests.web import serving
from busbar.web.access import PERMISSION_KEY

NEW = {
    "name": "Faults to Acme",
    "pattern": ["TST_FAULT_*"],
    "filter": "data.severity == 'P1'",
    "mapping": {"short_description": "=truncate(data.title, 10)"},
    "endpoint_id": "acme",
}
CLOUD_EVENT = EVENT | {"source": "/busbar/north/tst", "type": "TST_FAULT_REPORTED"}


@pytest.fixture
async def client(platform: Platform) -> AsyncIterator[httpx.AsyncClient]:
    async with serving() as made:
        yield made


async def answer_of(client: httpx.AsyncClient, body: Any) -> Any:
    answer = await client.post("/routes/dry-run", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def steps_of(answer: Any) -> dict[str, str]:
    return {step["name"]: step["result"] for step in answer["steps"]}


class TestRoutes:
    async def test_go_from_draft_to_published_to_off_and_back(self, client: httpx.AsyncClient) -> None:
        made = await client.post("/routes", json=NEW)
        assert (made.status_code, made.headers["ETag"], made.json()["state"]) == (201, '"v1"', "draft")
        assert made.json() | NEW == made.json()
        address = f"/routes/{made.json()['route_id']}"
        published = await client.post(f"{address}/publish", headers={"If-Match": '"v1"'})
        assert (published.status_code, published.json()["state"]) == (200, "published")
        changed = await client.patch(address, json={"filter": None}, headers={"If-Match": published.headers["ETag"]})
        assert (changed.json()["filter"], changed.json()["mapping"]) == (None, NEW["mapping"])
        assert (await client.post(f"{address}/off")).json()["state"] == "off"
        back = await client.post(f"{address}/rollback", json={"version": 1})
        assert (back.json()["filter"], back.json()["state"], back.json()["version"]) == (NEW["filter"], "off", 5)
        versions = (await client.get(f"{address}/versions")).json()
        assert [each["action"] for each in versions["items"]] == ["rollback", "off", "change", "publish", "create"]
        version = (await client.get(f"{address}/versions/3")).json()
        assert version["differences"] == [
            {"field": "filter", "kind": "changed", "before": NEW["filter"], "after": None}
        ]

    async def test_are_kept_when_they_are_deleted(self, client: httpx.AsyncClient) -> None:
        await add_route("r")
        assert (await client.delete("/routes/r")).status_code == 204
        assert (await client.get("/routes/r")).json()["state"] == "off"
        assert (await client.delete("/routes/r")).json()["code"] == "BUS_001"

    async def test_name_every_bad_place_in_a_problem(self, client: httpx.AsyncClient) -> None:
        answer = await client.post("/routes", json=NEW | {"filter": "data..x", "mapping": {"a": ["=nothing"]}})
        assert (answer.status_code, answer.json()["code"]) == (400, "VAL_001")
        assert [error["field"] for error in answer.json()["errors"]] == ["filter", "mapping.a[0]"]
        assert await fetchval("select count(*) from core.route") == 0

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({"pattern": []}, "pattern"),
            ({"sites": ["North!"]}, "sites[0]"),
            ({"mapping": ["=data"]}, "mapping"),
            ({"attempts_max": 0}, "attempts_max"),
            ({"state": "published"}, "state"),
            ({"name": ""}, "name"),
        ],
    )
    async def test_refuse_what_is_no_route(self, client: httpx.AsyncClient, body: Any, field: str) -> None:
        answer = await client.post("/routes", json=NEW | body)
        assert answer.status_code == 400, answer.text
        assert [error["field"] for error in answer.json()["errors"]] == [field]

    async def test_of_a_stale_version_are_not_changed(self, client: httpx.AsyncClient) -> None:
        await add_route("r")
        answer = await client.patch("/routes/r", json={"name": "New"}, headers={"If-Match": '"v1"'})
        assert (answer.status_code, answer.headers["ETag"]) == (412, '"v2"')

    async def test_can_be_listed_by_state_endpoint_and_site(self, client: httpx.AsyncClient) -> None:
        await add_endpoint("other")
        await add_route("a", endpoint_id="other")
        await add_route("b", published=False, sites=("south",))
        for query, found in {
            "state=draft": ["b"],
            "endpoint=other": ["a"],
            "site=north": ["a"],
            "sort=-name": 2,
        }.items():
            items = (await client.get(f"/routes?{query}")).json()["items"]
            assert (len(items) if isinstance(found, int) else [item["route_id"] for item in items]) == found
        assert (await client.get("/routes?state=lost")).status_code == 400

    async def test_that_nobody_made_are_not_found(self, client: httpx.AsyncClient) -> None:
        await add_route("r")
        for method, path in (
            ("GET", "/routes/missing"),
            ("PATCH", "/routes/missing"),
            ("DELETE", "/routes/missing"),
            ("POST", "/routes/missing/publish"),
            ("GET", "/routes/missing/versions"),
            ("GET", "/routes/r/versions/99"),
        ):
            answer = await client.request(method, path, json={} if method == "PATCH" else None)
            assert (answer.status_code, answer.json()["code"]) == (404, "RES_001"), path

    def test_need_the_permission_to_write_for_all_that_writes(self) -> None:
        needed = {route.handler_name: route.opt[PERMISSION_KEY] for route in ROUTES}
        reading = {name for name, permission in needed.items() if permission == "routes.read"}
        assert reading == {
            "list_routes",
            "get_route",
            "list_versions",
            "get_version",
            "dry_run_route",
            "back_test_route",
        }
        assert {permission for name, permission in needed.items() if name not in reading} == {"routes.write"}


class TestDryRun:
    async def test_of_an_unsaved_rule_on_a_pasted_event_shows_each_step(self, client: httpx.AsyncClient) -> None:
        rule = {key: NEW[key] for key in ("pattern", "filter", "mapping", "endpoint_id")}
        answer = await answer_of(client, {"rule": rule, "event": CLOUD_EVENT})
        assert answer["outcome"] == "would_deliver"
        assert answer["document"] == {"short_description": "Übergabest"}
        assert list(steps_of(answer)) == ["pattern", "filter", "mapping", "module", "origin", "endpoint"]
        assert set(steps_of(answer).values()) == {"passed"}

    async def test_of_a_stored_route_on_a_stored_event_says_what_the_relay_would_do(
        self, client: httpx.AsyncClient, platform: Platform
    ) -> None:
        await add_route("r", filter=NEW["filter"], mapping=NEW["mapping"])
        event_id = await report(title="Broken insulator")
        (delivery,) = await platform.relay_all()
        answer = await answer_of(client, {"route_id": "r", "event_id": str(event_id)})
        assert (answer["outcome"], delivery["state"]) == ("would_deliver", "pending")
        assert answer["document"] == {"short_description": "Broken ins"}
        assert answer["event"]["id"] == str(event_id)
        assert "position" not in answer["event"], "filters see the CloudEvent, nothing else"

    async def test_calls_no_one_and_writes_nothing(self, client: httpx.AsyncClient) -> None:
        await add_route("r")
        event_id = await report()
        tables = ("core.delivery", "core.audit", "core.route_version", "core.event")
        before = [await fetchval(f"select count(*) from {table}") for table in tables]
        await answer_of(client, {"route_id": "r", "event_id": str(event_id)})
        assert [await fetchval(f"select count(*) from {table}") for table in tables] == before

    async def test_shows_why_a_broken_rule_would_fail(self, client: httpx.AsyncClient) -> None:
        rule = {"filter": "data.nothing == 1", "mapping": {"a": "=data.title"}}
        answer = await answer_of(client, {"rule": rule, "event": CLOUD_EVENT})
        assert (answer["outcome"], answer["document"]) == ("failed", None)
        assert steps_of(answer) == {
            "pattern": "passed",
            "filter": "failed",
            "mapping": "not_reached",
            "module": "passed",
        }
        assert "there is no `nothing`" in answer["steps"][1]["errors"][0]["message"]

    async def test_shows_an_echo_and_a_module_that_is_not_enabled(self, client: httpx.AsyncClient) -> None:
        await add_route("r")
        event_id = await report(site="bare", origin="acme")
        answer = await answer_of(client, {"route_id": "r", "event_id": str(event_id)})
        assert answer["outcome"] == "not_wanted"
        assert (steps_of(answer)["module"], steps_of(answer)["origin"]) == ("stopped", "stopped")

    async def test_says_how_the_endpoint_stands(self, client: httpx.AsyncClient) -> None:
        await add_endpoint("southern", sites=["south"])
        await add_endpoint("sleeping", active=False)
        await add_endpoint("camel")
        await execute("update core.endpoint set runner = 'camel' where endpoint_id = 'camel'")
        said = {}
        for endpoint_id in ("acme", "southern", "sleeping", "camel", "missing"):
            answer = await answer_of(client, {"rule": {"endpoint_id": endpoint_id}, "event": CLOUD_EVENT})
            said[endpoint_id] = (answer["outcome"], answer["steps"][-1]["explanation"].split("; ")[0])
        assert said == {
            "acme": ("would_deliver", "Busbar would deliver to acme."),
            "southern": ("not_wanted", "The endpoint southern takes no events of north."),
            "sleeping": ("would_deliver", "The endpoint sleeping is switched off"),
            "camel": ("would_deliver", "Apache Camel would deliver to camel."),
            "missing": ("failed", "There is no endpoint missing."),
        }

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"route_id": "r"},
            {"event": {}},
            {"route_id": "r", "rule": {}, "event": {}},
            {"rule": {}, "event": {}, "event_id": str(uuid4())},
        ],
    )
    async def test_needs_one_rule_and_one_event(self, client: httpx.AsyncClient, body: Any) -> None:
        answer = await client.post("/routes/dry-run", json=body)
        assert (answer.status_code, answer.json()["code"]) == (400, "VAL_001")

    async def test_shows_nobody_an_event_or_a_route_of_other_sites(self, platform: Platform) -> None:
        await add_route("southern", sites=("south",))
        event_id = str(await report(site="south"))
        async with serving(an_actor(sites=["north"])) as northern:
            by_event = await northern.post("/routes/dry-run", json={"rule": {}, "event_id": event_id})
            by_route = await northern.post("/routes/dry-run", json={"route_id": "southern", "event": CLOUD_EVENT})
        assert (by_event.status_code, by_route.status_code) == (404, 404)

    async def test_of_an_empty_event_is_an_answer(self, client: httpx.AsyncClient) -> None:
        assert (await answer_of(client, {"rule": {}, "event": {}}))["outcome"] == "would_deliver"
