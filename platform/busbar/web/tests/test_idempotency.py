"""A keyed request and its answer are one transaction: both are stored, or neither (SPEC: REST contract)."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio

from busbar.db import execute, fetchval
from busbar.testing.app import Client, RunningApp

ASSETS = "select count(*) from pm.asset where name = $1"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def client(app: RunningApp) -> Client:
    return await app.client("Maintenance_Engineer", "a")


@pytest_asyncio.fixture
async def unwritable_answers(app: RunningApp) -> AsyncIterator[None]:
    """The database refuses to store answers, as it would be after a crash between effect and answer."""
    await execute(
        "create function core.refuse() returns trigger language plpgsql as "
        "$$ begin raise exception 'no' using errcode = '58030'; end $$;"
        "create trigger refuse before insert on core.idempotency for each row execute function core.refuse()"
    )
    yield
    await execute("drop trigger refuse on core.idempotency; drop function core.refuse()")


def asset(name: str, **more: Any) -> dict[str, Any]:
    return {"asset_type": "pump", "name": name, "site": "a", **more}


def keyed(key: str) -> dict[str, str]:
    return {"Idempotency-Key": key}


class TestARepeatedRequest:
    async def test_gets_the_same_answer_and_has_its_effect_once(self, client: Client) -> None:
        first = await client.send("POST", "/pm/assets", asset("Once"), headers=keyed("k1"))
        again = await client.send("POST", "/pm/assets", asset("Once"), headers=keyed("k1"))
        assert (first.status, again.status) == (201, 201)
        assert again.content == first.content
        assert again.headers["ETag"] == first.headers["ETag"]
        assert "Idempotency-Replayed" not in first.headers
        assert again.headers["Idempotency-Replayed"] == "true"
        assert await fetchval(ASSETS, "Once") == 1

    async def test_is_refused_with_another_body(self, client: Client) -> None:
        await client.send("POST", "/pm/assets", asset("Mine"), headers=keyed("k2"))
        other = await client.send("POST", "/pm/assets", asset("Other"), headers=keyed("k2"))
        assert (other.status, other.body["code"]) == (422, "BUS_002")
        assert await fetchval(ASSETS, "Other") == 0

    async def test_that_was_refused_may_be_corrected_under_the_same_key(self, client: Client) -> None:
        bad = await client.send("POST", "/pm/assets", asset("Late", parent_id="NOWHERE"), headers=keyed("k3"))
        good = await client.send("POST", "/pm/assets", asset("Late"), headers=keyed("k3"))
        assert (bad.status, good.status) == (400, 201)

    async def test_by_somebody_else_is_another_request(self, app: RunningApp, client: Client) -> None:
        await client.send("POST", "/pm/assets", asset("Shared key"), headers=keyed("k4"))
        other = await (await app.client()).send("POST", "/pm/assets", asset("Shared key"), headers=keyed("k4"))
        assert other.status == 201
        assert await fetchval(ASSETS, "Shared key") == 2

    async def test_while_the_first_is_at_work_has_no_effect_of_its_own(self, client: Client) -> None:
        answers = await asyncio.gather(
            *(client.send("POST", "/pm/assets", asset("Crowd"), headers=keyed("k5")) for _ in range(12))
        )
        assert {answer.status for answer in answers} <= {201, 409}
        assert len({answer.content for answer in answers if answer.status == 201}) == 1
        assert all(answer.headers["Retry-After"] for answer in answers if answer.status == 409)
        assert await fetchval(ASSETS, "Crowd") == 1

    async def test_opens_one_ticket_with_one_number(self, client: Client) -> None:
        created = await client.post("/pm/assets", asset("Leaking"))
        body = {
            "asset_id": created["asset_id"],
            "fault_type": "fault",
            "severity": "P2",
            "description": "Drips",
        }
        first = await client.post("/pm/incidents", body, headers=keyed("k6"))
        assert await client.post("/pm/incidents", body, headers=keyed("k6")) == first
        assert await fetchval("select count(*) from core.event where subject = $1", first["ticket_id"]) == 1


class TestAnAnswerThatCannotBeStored:
    async def test_leaves_no_effect_either(self, client: Client, unwritable_answers: None) -> None:
        answer = await client.send("POST", "/pm/assets", asset("Neither"), headers=keyed("k7"))
        assert answer.status >= 500
        assert await fetchval(ASSETS, "Neither") == 0
        assert await fetchval("select count(*) from core.idempotency where key = 'k7'") == 0

    async def test_concerns_nobody_without_a_key(self, client: Client, unwritable_answers: None) -> None:
        await client.post("/pm/assets", asset("No key"))
        assert await fetchval(ASSETS, "No key") == 1


class TestPasswords:
    async def test_are_kept_out_even_as_a_fingerprint(self, app: RunningApp) -> None:
        before = await fetchval("select count(*) from core.idempotency")
        body = {"username": "admin", "password": "not the right one"}
        answer = await app.anonymous.send("POST", "/auth/login", body, headers=keyed("k8"))
        assert answer.status == 401
        assert await fetchval("select count(*) from core.idempotency") == before
