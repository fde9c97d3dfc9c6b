"""Assets over HTTP, against a whole platform."""

import asyncio
import string
from datetime import date
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from busbar.sdk import uuid7
from busbar_pm.tests.conftest import Served

LINE = st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=80)
ASSETS = st.fixed_dictionaries(
    {
        "asset_type": st.sampled_from(["substation", "transformer", "feeder", "line", "switch", "pump", "valve"]),
        "name": LINE.filter(lambda text: bool(text) and not text.startswith(" ")),
    },
    optional={
        "location": LINE,
        "latitude": st.none() | st.floats(-90, 90),
        "longitude": st.none() | st.floats(-180, 180),
        "installation_date": st.none() | st.dates(date(1, 1, 1)).map(date.isoformat),
        "status": st.sampled_from(["planned", "in_service", "out_of_service", "retired"]),
        "customers_served": st.integers(0, 2**31 - 1),
        "voltage_kv": st.none() | st.floats(0, 2000),
        "cost_center_id": st.none() | st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,59}", fullmatch=True),
        "attributes": st.dictionaries(
            st.text(string.ascii_lowercase, min_size=1, max_size=10),
            LINE | st.integers(-(2**53), 2**53) | st.booleans() | st.none(),
            max_size=5,
        ),
    },
)
SLOW_FIXTURES = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


async def add(client: httpx.AsyncClient, **fields: Any) -> str:
    body = {"asset_type": "feeder", "name": "Feeder", **fields}
    answer = await client.post("/api/v1/pm/assets", json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["asset_id"])


class TestAnAsset:
    @settings(max_examples=50, deadline=None, suppress_health_check=SLOW_FIXTURES)
    @given(asset=ASSETS)
    async def test_comes_back_as_it_was_sent(self, erna: httpx.AsyncClient, asset: dict[str, Any]) -> None:
        sent = {"asset_id": f"P-{uuid7().hex}", **asset}
        created = await erna.post("/api/v1/pm/assets", json=sent)
        assert created.status_code == 201, created.text
        read = await erna.get(f"/api/v1/pm/assets/{sent['asset_id']}")
        assert {name: read.json()[name] for name in sent} == sent
        assert read.json() == created.json()
        assert read.json()["site"] == "north"

    async def test_gets_an_id_when_it_came_without_one(self, erna: httpx.AsyncClient) -> None:
        asset_id = await add(erna)
        assert (await erna.get(f"/api/v1/pm/assets/{asset_id}")).status_code == 200

    async def test_is_refused_twice_under_one_id(self, erna: httpx.AsyncClient) -> None:
        asset_id = await add(erna, asset_id="TWICE")
        again = await erna.post(
            "/api/v1/pm/assets", json={"asset_id": asset_id, "asset_type": "feeder", "name": "Another"}
        )
        assert (again.status_code, again.json()["code"]) == (409, "RES_002")
        assert (await erna.get("/api/v1/pm/assets/TWICE")).json()["name"] == "Feeder"

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("asset_type", "spaceship"),
            ("parent_id", "NOBODY"),
            ("latitude", 90.5),
            ("status", "lost"),
            ("customers_served", -1),
            ("installation_date", "31.12.1999"),
            ("colour", "red"),
        ],
    )
    async def test_names_the_field_that_is_wrong(self, erna: httpx.AsyncClient, field: str, value: Any) -> None:
        answer = await erna.post("/api/v1/pm/assets", json={"asset_type": "feeder", "name": "X", field: value})
        assert answer.status_code == 400
        assert [error["field"] for error in answer.json()["errors"]] == [field]

    async def test_changes_in_the_fields_that_are_sent_and_no_other(self, erna: httpx.AsyncClient) -> None:
        asset_id = await add(erna, location="Husum", voltage_kv=20, latitude=54.5)
        answer = await erna.patch(f"/api/v1/pm/assets/{asset_id}", json={"voltage_kv": None, "name": "Renamed"})
        changed = answer.json()
        assert (changed["name"], changed["voltage_kv"]) == ("Renamed", None)
        assert (changed["location"], changed["latitude"], changed["version"]) == ("Husum", 54.5, 2)

    async def test_is_not_changed_by_who_saw_an_older_version(self, erna: httpx.AsyncClient) -> None:
        asset_id = await add(erna)
        path = f"/api/v1/pm/assets/{asset_id}"
        seen = (await erna.get(path)).headers["ETag"]
        assert (await erna.patch(path, json={"name": "First"}, headers={"If-Match": seen})).status_code == 200
        late = await erna.patch(path, json={"name": "Second"}, headers={"If-Match": seen})
        assert late.status_code == 412
        assert (await erna.get(path)).json()["name"] == "First"

    async def test_is_deleted_when_nothing_refers_to_it(self, erna: httpx.AsyncClient) -> None:
        asset_id = await add(erna)
        assert (await erna.delete(f"/api/v1/pm/assets/{asset_id}")).status_code == 204
        assert (await erna.get(f"/api/v1/pm/assets/{asset_id}")).status_code == 404

    async def test_is_kept_while_another_hangs_below_it(self, erna: httpx.AsyncClient) -> None:
        parent = await add(erna)
        await add(erna, parent_id=parent)
        answer = await erna.delete(f"/api/v1/pm/assets/{parent}")
        assert (answer.status_code, answer.json()["code"]) == (422, "BUS_002")

    async def test_cannot_hang_below_itself(self, erna: httpx.AsyncClient) -> None:
        top = await add(erna)
        middle = await add(erna, parent_id=top)
        bottom = await add(erna, parent_id=middle)
        answer = await erna.patch(f"/api/v1/pm/assets/{top}", json={"parent_id": bottom})
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "parent_id")


class TestTheListOfAssets:
    async def test_pages_without_repeating_or_losing_one(self, erna: httpx.AsyncClient) -> None:
        parent = await add(erna)
        added = {await add(erna, parent_id=parent, name=f"Part {n % 3}") for n in range(7)}
        seen: list[str] = []
        cursor = None
        while True:
            asked = {"parent_id": parent, "limit": "3", "sort": "-name", **({"cursor": cursor} if cursor else {})}
            page = (await erna.get("/api/v1/pm/assets", params=asked)).json()
            assert page["total"] == 7
            seen += [item["asset_id"] for item in page["items"]]
            cursor = page["next"]
            if cursor is None:
                break
        assert sorted(seen) == sorted(added)

    async def test_finds_words_of_name_and_place(self, erna: httpx.AsyncClient) -> None:
        asset_id = await add(erna, name="Transformer 7", location="Umspannwerk Quickborn")
        page = (await erna.get("/api/v1/pm/assets", params={"text": "quickborn transformer"})).json()
        assert [item["asset_id"] for item in page["items"]] == [asset_id]


class TestSitesAndModules:
    async def test_an_asset_of_another_site_is_not_found(self, served: Served, erna: httpx.AsyncClient) -> None:
        admin = await served.client()
        foreign = await add(admin, site="south")
        for answer in (
            await erna.get(f"/api/v1/pm/assets/{foreign}"),
            await erna.get(f"/api/v1/pm/assets/{foreign}/history"),
            await erna.patch(f"/api/v1/pm/assets/{foreign}", json={"name": "Mine"}),
            await erna.delete(f"/api/v1/pm/assets/{foreign}"),
            await erna.post("/api/v1/pm/assets", json={"asset_type": "feeder", "name": "X", "site": "south"}),
        ):
            assert (answer.status_code, answer.json()["code"]) == (404, "RES_001"), answer.text
        page = (await erna.get("/api/v1/pm/assets", params={"limit": "200"})).json()
        assert {item["site"] for item in page["items"]} <= {"north"}

    async def test_a_site_without_the_module_has_no_assets(self, served: Served) -> None:
        otto = await served.client("otto")
        for answer in (
            await otto.get("/api/v1/pm/assets"),
            await otto.get("/api/v1/pm/assets", params={"site": "office"}),
            await otto.post("/api/v1/pm/assets", json={"asset_type": "feeder", "name": "X", "site": "office"}),
            await otto.get("/api/v1/pm/incidents"),
            await otto.get("/api/v1/pm/maintenance-orders"),
        ):
            assert answer.status_code == 404, answer.text
            assert "pm is not enabled" in answer.json()["detail"]

    async def test_who_works_at_several_sites_must_name_one(self, served: Served) -> None:
        admin = await served.client()
        answer = await admin.post("/api/v1/pm/assets", json={"asset_type": "feeder", "name": "X"})
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "site")

    async def test_a_module_that_is_switched_off_is_gone_until_it_is_switched_on_again(self, served: Served) -> None:
        admin = await served.client()
        created = await admin.post("/api/v1/sites", json={"site_id": "depot", "name": "Depot", "modules": ["pm"]})
        assert created.status_code == 201, created.text
        await served.add_user("dora", sites=["depot"])
        dora = await served.client("dora")
        await until(dora, "/api/v1/pm/assets", status=200)
        asset_id = await add(dora)
        body = {"asset_id": asset_id, "fault_type": "fault", "severity": "P1", "description": "?"}

        await admin.put("/api/v1/sites/depot/modules/pm", json={"enabled": False})
        refused = await dora.post("/api/v1/pm/incidents", json=body)
        assert (refused.status_code, refused.json()["code"]) == (404, "RES_001")
        await until(dora, f"/api/v1/pm/assets/{asset_id}", status=404)

        await admin.put("/api/v1/sites/depot/modules/pm", json={"enabled": True})
        await until(dora, f"/api/v1/pm/assets/{asset_id}", status=200)
        assert (await dora.post("/api/v1/pm/incidents", json=body)).status_code == 201


async def until(client: httpx.AsyncClient, path: str, *, status: int) -> httpx.Response:
    """The answer, once every part of the process knows what was changed."""
    async with asyncio.timeout(30):
        while (answer := await client.get(path)).status_code != status:
            await asyncio.sleep(0.02)
    return answer


class TestATableSentByHttp:
    async def test_becomes_assets(self, erna: httpx.AsyncClient) -> None:
        table = "Asset ID;asset_type;name;parent_id\nUP-2;feeder;Ölmühle;UP-1\nUP-1;substation;Station;\n"
        sent = await erna.post(
            "/api/v1/imports",
            data={"importer": "pm.assets", "site": "north"},
            files={"file": ("netz.csv", table.encode("cp1252"))},
        )
        assert sent.status_code == 202, sent.text
        async with asyncio.timeout(30):
            while (job := (await erna.get(sent.headers["Location"])).json())["state"] == "running":
                await asyncio.sleep(0.02)
        assert (job["state"], job["outcomes"]) == ("done", {"created": 2, "updated": 0, "unchanged": 0})
        asset = (await erna.get("/api/v1/pm/assets/UP-2")).json()
        assert (asset["name"], asset["parent_id"]) == ("Ölmühle", "UP-1")
