"""Many change the same thing at once: nobody's change is lost, and versions add up (SPEC R1.5, DESIGN 5)."""

import asyncio
from collections import Counter
from typing import Any

import pytest
import pytest_asyncio

from busbar.db import fetchval
from busbar.testing.app import Answer, Client, RunningApp

CROWD = 100


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def client(app: RunningApp) -> Client:
    return await app.client("Maintenance_Engineer", "a")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def asset_id(client: Client) -> str:
    return str((await client.post("/pm/assets", {"asset_type": "feeder", "name": "Feeder 7"}))["asset_id"])


@pytest_asyncio.fixture
async def ticket_id(client: Client, asset_id: str) -> str:
    return await reported(client, asset_id)


async def reported(client: Client, asset_id: str) -> str:
    incident = {"asset_id": asset_id, "fault_type": "fault", "severity": "P3", "description": "A bird on the line"}
    return str((await client.post("/pm/incidents", incident))["ticket_id"])


async def note(client: Client, ticket_id: str, *, version: str | None = None, number: int = 0) -> Answer:
    headers = {} if version is None else {"If-Match": version}
    return await client.send("POST", f"/tickets/{ticket_id}/notes", {"comment": f"note {number}"}, headers=headers)


async def statuses(*calls: Any) -> Counter[int]:
    return Counter(answer.status for answer in await asyncio.gather(*calls))


class TestIfMatch:
    async def test_lets_the_change_through_on_the_version_of_the_etag(self, client: Client, ticket_id: str) -> None:
        seen = await client.send("GET", f"/tickets/{ticket_id}")
        changed = await note(client, ticket_id, version=seen.headers["ETag"])
        assert (seen.headers["ETag"], changed.headers["ETag"]) == ('"v1"', '"v2"')

    async def test_refuses_a_stale_version_with_412_and_the_current_one(self, client: Client, ticket_id: str) -> None:
        await note(client, ticket_id)
        late = await note(client, ticket_id, version='"v1"')
        assert (late.status, late.body["code"]) == (412, "RES_002")
        assert (late.headers["ETag"], late.body["current_version"]) == ('"v2"', 2)
        assert len(await client.get(f"/tickets/{ticket_id}/audit")) == 2

    @pytest.mark.parametrize(
        ("header", "status"),
        [
            ("*", 200),
            ('"v1"', 200),
            ('"v7", "v1"', 200),
            ('W/"v1"', 412),
            ('"v2"', 412),
            ('"another"', 412),
            ("v1", 400),
            ("", 400),
            ('"v1', 400),
        ],
    )
    async def test_is_read_as_the_standard_says(self, client: Client, ticket_id: str, header: str, status: int) -> None:
        assert (await note(client, ticket_id, version=header)).status == status

    async def test_holds_for_assets_orders_sites_users_and_roles(self, app: RunningApp, asset_id: str) -> None:
        admin = await app.client()
        order = {"asset_id": asset_id, "order_type": "preventive", "description": "x", "scheduled_date": "2027-01-01"}
        order_id = (await admin.post("/pm/maintenance-orders", order))["order_id"]
        user = {"username": "changed", "display_name": "x", "password": "a quiet relay room"}
        user_id = (await admin.post("/users", user))["user_id"]
        await admin.post("/roles", {"role": "Changed", "title": "x", "permissions": []})
        for path, body in (
            (f"/pm/assets/{asset_id}", {"name": "Feeder 8"}),
            (f"/pm/maintenance-orders/{order_id}", {"description": "y"}),
            ("/sites/b", {"name": "Bee"}),
            (f"/users/{user_id}", {"display_name": "y"}),
            ("/roles/Changed", {"title": "y"}),
        ):
            current = (await admin.send("GET", path)).headers["ETag"]
            await admin.patch(path, body, status=412, headers={"If-Match": '"v99"'})
            changed = await admin.send("PATCH", path, body, headers={"If-Match": current})
            assert changed.status == 200, (path, changed)
            assert changed.headers["ETag"] != current, path
            assert (await admin.send("PATCH", path, body, headers={"If-Match": current})).status == 412, path


class TestCrowd:
    async def test_of_conditional_changes_has_one_winner_a_round(self, client: Client, ticket_id: str) -> None:
        for version in (1, 2, 3):
            calls = (note(client, ticket_id, version=f'"v{version}"', number=n) for n in range(CROWD))
            assert await statuses(*calls) == {200: 1, 412: CROWD - 1}
        ticket = await client.get(f"/tickets/{ticket_id}")
        assert ticket["version"] == 4
        assert len(await client.get(f"/tickets/{ticket_id}/audit")) == 4

    async def test_of_unconditional_changes_loses_none(self, client: Client, ticket_id: str) -> None:
        assert await statuses(*(note(client, ticket_id, number=n) for n in range(CROWD))) == {200: CROWD}
        assert (await client.get(f"/tickets/{ticket_id}"))["version"] == 1 + CROWD
        audit = await client.get(f"/tickets/{ticket_id}/audit")
        assert {entry["comment"] for entry in audit[1:]} == {f"note {n}" for n in range(CROWD)}

    async def test_that_moves_a_ticket_moves_it_once(self, client: Client, ticket_id: str) -> None:
        move = {"new_status": "Assigned"}
        calls = (client.send("PATCH", f"/tickets/{ticket_id}/status", move) for _ in range(CROWD))
        assert await statuses(*calls) == {200: 1, 422: CROWD - 1}
        audit = await client.get(f"/tickets/{ticket_id}/audit")
        assert [entry["new_status"] for entry in audit] == ["Open", "Assigned"]

    async def test_of_two_minds_ends_in_a_state_that_one_of_them_made(self, client: Client, ticket_id: str) -> None:
        """Half close and half cancel: the trail tells one story."""
        for step in ("Assigned", "In_Progress"):
            await client.patch(f"/tickets/{ticket_id}/status", {"new_status": step})
        close = (client.send("PATCH", f"/tickets/{ticket_id}/status", {"new_status": "Closed"}) for _ in range(20))
        cancel = (client.send("POST", f"/tickets/{ticket_id}/cancel", {"reason": "false alarm"}) for _ in range(20))
        assert await statuses(*close, *cancel) == {200: 1, 422: 39}
        audit = await client.get(f"/tickets/{ticket_id}/audit")
        assert audit[-1]["new_status"] == (await client.get(f"/tickets/{ticket_id}"))["status"]
        assert [entry["previous_status"] for entry in audit[1:]] == [entry["new_status"] for entry in audit[:-1]]

    async def test_of_conditional_changes_of_an_asset_adds_up(self, client: Client, asset_id: str) -> None:
        """Each reads, adds one and writes back on what it read, again until it wins: the sum is that of all."""
        path = f"/pm/assets/{asset_id}"
        await client.patch(path, {"customers_served": 0})

        async def add_one() -> None:
            while True:
                seen = await client.send("GET", path)
                body = {"customers_served": seen.body["customers_served"] + 1}
                answer = await client.send("PATCH", path, body, headers={"If-Match": seen.headers["ETag"]})
                if answer.status == 200:
                    return
                assert answer.status == 412, answer

        await asyncio.gather(*(add_one() for _ in range(12)))
        assert (await client.get(path))["customers_served"] == 12


class TestIdempotencyKeys:
    """What `busbar/web/tests/test_idempotency.py` does not: crowds, sizes, and keys that are none."""

    async def test_of_fifty_at_once_lets_one_have_an_effect(self, client: Client, asset_id: str) -> None:
        incident = {"asset_id": asset_id, "fault_type": "fault", "severity": "P1", "description": "fifty at once"}

        async def until_answered() -> Answer:
            while True:
                answer = await client.send("POST", "/pm/incidents", incident, headers={"Idempotency-Key": "fifty"})
                if answer.status != 409:
                    return answer
                assert answer.headers["Retry-After"] == "1"

        answers = await asyncio.gather(*(until_answered() for _ in range(50)))
        assert {answer.status for answer in answers} == {201}
        assert len({answer.content for answer in answers}) == 1
        assert sum("Idempotency-Replayed" not in answer.headers for answer in answers) == 1
        assert await fetchval("select count(*) from pm.incident where description = 'fifty at once'") == 1

    async def test_hold_for_a_large_body(self, client: Client) -> None:
        large = {"asset_type": "feeder", "name": "Large", "attributes": {f"key{n}": "x" * 250 for n in range(50)}}
        first = await client.send("POST", "/pm/assets", large, headers={"Idempotency-Key": "large"})
        again = await client.send("POST", "/pm/assets", large, headers={"Idempotency-Key": "large"})
        assert first.status == 201, first
        assert again.content == first.content
        other = {**large, "attributes": {**large["attributes"], "key49": "y"}}  # type: ignore[dict-item]
        assert (await client.send("POST", "/pm/assets", other, headers={"Idempotency-Key": "large"})).status == 422

    @pytest.mark.parametrize("key", ["", " ", "x" * 256, "schlüssel", "a\tb"])
    async def test_that_are_none_are_refused(self, client: Client, key: str) -> None:
        asset = {"asset_type": "feeder", "name": "Keyless"}
        answer = await client.send("POST", "/pm/assets", asset, headers={"Idempotency-Key": key})
        assert (answer.status, answer.body["code"]) == (400, "VAL_003"), answer
        assert answer.body["errors"][0]["field"] == "Idempotency-Key"

    async def test_of_the_longest_kind_are_taken(self, client: Client) -> None:
        asset = {"asset_type": "feeder", "name": "Long key"}
        answer = await client.send("POST", "/pm/assets", asset, headers={"Idempotency-Key": "k" * 255})
        assert answer.status == 201, answer

    async def test_at_another_address_are_other_keys(self, client: Client, asset_id: str) -> None:
        asset = {"asset_type": "feeder", "name": "Here"}
        order = {"asset_id": asset_id, "order_type": "preventive", "description": "x", "scheduled_date": "2027-01-01"}
        await client.post("/pm/assets", asset, headers={"Idempotency-Key": "both"})
        await client.post("/pm/maintenance-orders", order, headers={"Idempotency-Key": "both"})

    async def test_change_nothing_where_nothing_is_made(self, client: Client, asset_id: str) -> None:
        for name in ("one", "two"):
            await client.patch(f"/pm/assets/{asset_id}", {"name": name}, headers={"Idempotency-Key": "patch"})
        assert (await client.get(f"/pm/assets/{asset_id}"))["name"] == "two"
