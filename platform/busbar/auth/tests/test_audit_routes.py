"""The audit trail over HTTP: filters, pages, sites, and its head."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from busbar.audit import record
from busbar.audit.routes import ROUTES
from busbar.audit.sealer import Sealer
from busbar.auth import commands, sessions
from busbar.auth.first_start import ensure_admin
from busbar.auth.service import Auth
from busbar.auth.tests.support import PASSWORD, ManualClock, context, running
from busbar.db import execute


@pytest.fixture
async def client(auth: Auth, clock: ManualClock) -> AsyncIterator[httpx.AsyncClient]:
    ctx = context(clock)
    await ensure_admin(auth, password=PASSWORD)
    await execute("insert into core.site (site_id, name) values ('north', 'North')")
    await commands.create_role(ctx, auth.registry, role="Auditor", title="Auditor", permissions=["audit.read"])
    await commands.create_user(
        auth, ctx, username="ana", display_name="Ana", password=PASSWORD, roles=["Auditor"], sites=["north"]
    )
    for number in range(5):
        clock.advance(minutes=1)
        await record(
            ctx,
            action="move",
            object_kind="ticket",
            object_id=f"T-{number}",
            site_id="north" if number % 2 else "south",
            previous_status="Open",
            new_status="Assigned",
            details={"number": number},
        )
    async with running(auth, *ROUTES) as opened:
        yield opened


async def read(client: httpx.AsyncClient, auth: Auth, path: str, username: str = "admin") -> Any:
    ctx = context(auth.clock)
    signed_in = await sessions.login(auth, ctx, username=username, password=PASSWORD, source="192.0.2.1")
    answer = await client.get(path, headers={"Authorization": f"Bearer {signed_in.access_token}"})
    return answer.json() if answer.status_code == 200 else answer


class TestReading:
    async def test_the_newest_comes_first_with_everything_there_is_to_know(
        self, client: httpx.AsyncClient, auth: Auth
    ) -> None:
        page = await read(client, auth, "/audit?action=move&limit=2")
        assert [entry["object_id"] for entry in page["items"]] == ["T-4", "T-3"] and page["total"] == 5
        entry = page["items"][0]
        assert (entry["previous_status"], entry["new_status"], entry["details"]) == ("Open", "Assigned", {"number": 4})
        assert (entry["actor_name"], entry["correlation_id"]) == ("test", "test-correlation")
        rest = await read(client, auth, f"/audit?action=move&limit=2&cursor={page['next']}")
        assert [entry["object_id"] for entry in rest["items"]] == ["T-2", "T-1"]

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ("object_kind=ticket&object_id=T-1", ["T-1"]),
            ("site=north", ["T-3", "T-1"]),
            ("actor=test&action=move&sort=audit_id&limit=1", ["T-0"]),
            ("correlation_id=other", []),
            ("action=move&since=2026-11-23T08:04:00Z", ["T-4", "T-3"]),
            ("action=move&until=2026-11-23T08:02:00Z", ["T-0"]),
        ],
    )
    async def test_filters(self, client: httpx.AsyncClient, auth: Auth, query: str, expected: list[str]) -> None:
        page = await read(client, auth, f"/audit?{query}")
        assert [entry["object_id"] for entry in page["items"]] == expected

    async def test_who_works_for_a_site_sees_its_entries_only(self, client: httpx.AsyncClient, auth: Auth) -> None:
        for query in ("", "?site=north"):
            page = await read(client, auth, f"/audit{query}", "ana")
            assert [entry["object_id"] for entry in page["items"]] == ["T-3", "T-1"]
        assert (await read(client, auth, "/audit?site=south", "ana"))["items"] == []

    @pytest.mark.parametrize(
        "query", ["since=2026-11-23T08:00:00", "since=x", "cursor=x", "limit=0", "sort=at", "actor=%0a", "seal_id=0"]
    )
    async def test_bad_parameters_are_a_400(self, client: httpx.AsyncClient, auth: Auth, query: str) -> None:
        path = "/audit/verification" if query.startswith("seal") else "/audit"
        assert (await read(client, auth, f"{path}?{query}")).status_code == 400

    async def test_needs_a_token(self, client: httpx.AsyncClient) -> None:
        for path in ("/audit", "/audit/head", "/audit/verification"):
            assert (await client.get(path)).status_code == 401


class TestTheHead:
    async def test_is_exported_and_proves_the_trail(
        self, client: httpx.AsyncClient, auth: Auth, clock: ManualClock
    ) -> None:
        await Sealer().seal()
        head = await read(client, auth, "/audit/head")
        assert head["seal_id"] >= 5 and len(head["hash"]) == 64
        clock.advance(seconds=timedelta(minutes=1).total_seconds())
        path = f"/audit/verification?seal_id={head['seal_id']}&hash={head['hash']}"
        result = await read(client, auth, path)
        assert result["findings"] == [] and result["entries"] == head["seal_id"] and result["unsealed"] >= 1
        wrong = await read(client, auth, f"/audit/verification?seal_id={head['seal_id']}&hash={'0' * 64}")
        assert [finding["kind"] for finding in wrong["findings"]] == ["rewritten"]
