"""Tickets over HTTP: who may see them at all, changes based on a version, and the gauges of a running platform."""

from typing import Any

import pytest
import pytest_asyncio

from busbar.observability import metrics
from busbar.testing.app import Client, RunningApp

VERBS: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", "", {}),
    ("GET", "/audit", {}),
    ("GET", "/events", {}),
    ("PATCH", "/status", {"new_status": "Assigned"}),
    ("POST", "/assign", {"assignee": "admin"}),
    ("POST", "/hold", {"reason": "x"}),
    ("POST", "/resume", {}),
    ("POST", "/cancel", {"reason": "x"}),
    ("POST", "/reopen", {"reason": "x"}),
    ("POST", "/notes", {"comment": "x"}),
]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def engineer(app: RunningApp) -> Client:
    return await app.client("Maintenance_Engineer", "a")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def asset_id(engineer: Client) -> str:
    return str((await engineer.post("/pm/assets", {"asset_type": "feeder", "name": "Feeder 7"}))["asset_id"])


@pytest_asyncio.fixture
async def ticket_id(engineer: Client, asset_id: str) -> str:
    incident = {"asset_id": asset_id, "fault_type": "fault", "severity": "P3", "description": "A bird on the line"}
    return str((await engineer.post("/pm/incidents", incident))["ticket_id"])


async def call(client: Client, ticket_id: str, verb: tuple[str, str, dict[str, Any]]) -> Any:
    method, path, body = verb
    return await client.send(method, f"/tickets/{ticket_id}{path}", body or None if method == "GET" else body)


class TestStranger:
    @pytest.mark.parametrize("verb", VERBS, ids=[f"{method} {path}" for method, path, _ in VERBS])
    @pytest.mark.parametrize("who", ["of another site", "of another module"])
    async def test_is_told_that_there_is_no_such_ticket(
        self, app: RunningApp, engineer: Client, ticket_id: str, who: str, verb: tuple[str, str, dict[str, Any]]
    ) -> None:
        if who == "of another site":
            stranger = await app.client("Maintenance_Engineer", "b")
        else:
            role = {"role": "Desk", "title": "Desk", "permissions": ["tickets.read", "tickets.write", "events.read"]}
            await (await app.client()).send("POST", "/roles", role)
            stranger = await app.client("Desk", "a")
        before = await engineer.get(f"/tickets/{ticket_id}")
        answer, unknown = await call(stranger, ticket_id, verb), await call(stranger, "TKT-PM-20010101-0001", verb)
        assert (answer.status, answer.body["code"]) == (404, "RES_001"), answer
        # Nothing but the id tells it from a ticket that never was.
        assert answer.body["detail"].replace(ticket_id, "?") == unknown.body["detail"].replace(
            "TKT-PM-20010101-0001", "?"
        )
        assert await engineer.get(f"/tickets/{ticket_id}") == before
        listed = await stranger.get("/tickets")
        assert (listed["items"], listed["total"]) == ([], 0)

    async def test_with_the_modules_permission_to_read_only_sees_and_does_not_change(
        self, app: RunningApp, engineer: Client, ticket_id: str
    ) -> None:
        role = {"role": "Guest", "title": "Guest", "permissions": ["tickets.read", "tickets.write", "pm.read"]}
        await (await app.client()).send("POST", "/roles", role)
        guest = await app.client("Guest", "a")
        assert (await guest.get(f"/tickets/{ticket_id}"))["ticket_id"] == ticket_id
        for verb in VERBS[3:]:
            answer = await call(guest, ticket_id, verb)
            assert (answer.status, answer.body["code"]) == (403, "AUTH_003"), verb
        assert (await engineer.get(f"/tickets/{ticket_id}"))["version"] == 1


class TestStatusChange:
    async def test_is_based_on_the_version_that_if_match_names(self, engineer: Client, ticket_id: str) -> None:
        path = f"/tickets/{ticket_id}/status"
        seen = (await engineer.send("GET", f"/tickets/{ticket_id}")).headers["ETag"]
        first = await engineer.send("PATCH", path, {"new_status": "Assigned"}, headers={"If-Match": seen})
        assert (first.status, first.headers["ETag"], first.body["status"]) == (200, '"v2"', "Assigned")
        late = await engineer.send("PATCH", path, {"new_status": "In_Progress"}, headers={"If-Match": seen})
        assert (late.status, late.body["code"], late.body["current_version"]) == (412, "RES_002", 2)
        assert (await engineer.get(f"/tickets/{ticket_id}"))["status"] == "Assigned"
        again = await engineer.send(
            "PATCH", path, {"new_status": "In_Progress"}, headers={"If-Match": first.headers["ETag"]}
        )
        assert again.body["status"] == "In_Progress"

    async def test_that_is_forbidden_names_the_code_and_the_next_status(self, engineer: Client, ticket_id: str) -> None:
        answer = await engineer.send("PATCH", f"/tickets/{ticket_id}/status", {"new_status": "Closed"})
        assert (answer.status, answer.body["code"], answer.body["title"]) == (
            422,
            "BUS_001",
            "Forbidden state transition",
        )
        assert answer.body["detail"] == "A ticket cannot go from Open to Closed; the next status is Assigned."

    async def test_to_something_that_is_no_status_is_a_bad_field(self, engineer: Client, ticket_id: str) -> None:
        answer = await engineer.send("PATCH", f"/tickets/{ticket_id}/status", {"new_status": "Resolved"})
        assert (answer.status, answer.body["errors"][0]["field"]) == (400, "new_status")


class TestMetrics:
    async def test_of_a_running_platform_count_its_tickets(
        self, app: RunningApp, engineer: Client, ticket_id: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(metrics.gauges, "_cache_s", -1.0)
        listed = await engineer.get("/tickets?status=Open&module=pm")
        text = (await app.anonymous.send("GET", "//metrics")).content.decode()
        assert f'\nticket_count_by_status{{module="pm",status="Open"}} {float(listed["total"])}\n' in text
        assert '\nsla_at_risk{module="pm",state="breached"} 0.0\n' in text
