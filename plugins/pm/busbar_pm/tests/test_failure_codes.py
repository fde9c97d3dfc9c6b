"""Failures are coded by part, damage, cause and detection; what is unknown is said and counted."""

from typing import Any

import httpx
import pytest

from busbar_pm.events import IncidentUpdated
from busbar_pm.failure_codes import CODE_GROUPS
from busbar_pm.tests.conftest import Served
from busbar_pm.tests.test_assets_over_http import add
from busbar_pm.tests.work import events_of, plan, report

CODES = "/api/v1/pm/failure-codes"
STATISTICS = "/api/v1/pm/failure-statistics"


async def code(client: httpx.AsyncClient, opened: dict[str, Any], **codes: str) -> httpx.Response:
    kind, key = ("incidents", "incident_id") if "incident_id" in opened else ("maintenance-orders", "order_id")
    return await client.patch(f"/api/v1/pm/{kind}/{opened[key]}", json=codes)


class TestTheCatalogue:
    async def test_has_the_unknown_in_every_group(self, erna: httpx.AsyncClient) -> None:
        codes = (await erna.get(CODES)).json()
        assert {each["code_group"] for each in codes} == set(CODE_GROUPS)
        assert {each["code_group"] for each in codes if each["code"] == "unknown"} == set(CODE_GROUPS)
        causes = (await erna.get(CODES, params={"code_group": "cause"})).json()
        assert {"vegetation", "lightning", "ageing", "third_party"} <= {each["code"] for each in causes}
        assert causes[-1]["code"] == "unknown"

    async def test_grows_and_gives_up_codes_but_never_the_unknown(
        self, served: Served, erna: httpx.AsyncClient
    ) -> None:
        admin = await served.client()
        fire = {"code_group": "cause", "code": "wildfire", "title": "Wildfire"}
        assert (await admin.put(CODES, json=fire)).json() == fire | {"active": True}
        opened = await report(erna, await add(erna))
        assert (await code(erna, opened, cause="wildfire")).status_code == 200
        await admin.put(CODES, json=fire | {"active": False})
        again = await code(erna, await report(erna, await add(erna)), cause="wildfire")
        assert (again.status_code, again.json()["errors"][0]["field"]) == (400, "cause")
        kept = (await erna.get(f"/api/v1/pm/incidents/{opened['incident_id']}")).json()
        assert kept["cause"] == "wildfire"
        for group in CODE_GROUPS:
            gone = {"code_group": group, "code": "unknown", "title": "Unknown", "active": False}
            answer = await admin.put(CODES, json=gone)
            assert (answer.status_code, answer.json()["code"]) == (422, "BUS_002")

    async def test_is_not_changed_by_who_works_for_some_sites_only(self, erna: httpx.AsyncClient) -> None:
        before = (await erna.get(CODES)).json()
        answer = await erna.put(CODES, json={"code_group": "cause", "code": "vegetation", "title": "Trees"})
        assert (answer.status_code, answer.json()["code"]) == (403, "AUTH_003")
        assert "all sites share" in answer.json()["detail"]
        assert (await erna.get(CODES)).json() == before


class TestCoding:
    async def test_of_an_incident_starts_unknown_and_is_told(self, erna: httpx.AsyncClient) -> None:
        opened = await report(erna, await add(erna))
        path = f"/api/v1/pm/incidents/{opened['incident_id']}"
        assert {(await erna.get(path)).json()[group] for group in CODE_GROUPS} == {"unknown"}
        coded = (await code(erna, opened, object_part="joint", damage="burnt", cause="ageing")).json()
        assert [coded[group] for group in CODE_GROUPS] == ["joint", "burnt", "ageing", "unknown"]
        (told,) = await events_of(opened, "PM_INCIDENT_UPDATED", IncidentUpdated)
        assert told.changed == ("object_part", "damage", "cause")
        assert (told.incident.cause, told.incident.detection) == ("ageing", "unknown")
        back = (await code(erna, opened, cause="unknown")).json()
        assert back["cause"] == "unknown"

    async def test_takes_the_codes_of_its_group_only(self, erna: httpx.AsyncClient) -> None:
        opened = await report(erna, await add(erna))
        answer = await code(erna, opened, damage="ageing", detection="alarm", cause="gremlins")
        assert answer.status_code == 400
        assert sorted(error["field"] for error in answer.json()["errors"]) == ["cause", "damage"]

    @pytest.mark.parametrize(("order_type", "status"), [("corrective", 200), ("emergency", 200), ("preventive", 422)])
    async def test_belongs_to_orders_that_mend_something(
        self, erna: httpx.AsyncClient, order_type: str, status: int
    ) -> None:
        opened = await plan(erna, await add(erna), order_type=order_type)
        assert (await code(erna, opened, cause="ageing")).status_code == status
        path = f"/api/v1/pm/maintenance-orders/{opened['order_id']}/complete"
        assert (await erna.post(path, json={"damage": "worn"})).status_code == status


class TestTheStatistics:
    async def test_count_causes_and_the_unknown_beside_them(self, erna: httpx.AsyncClient) -> None:
        asset_id = await add(erna)
        seen, mended, unknown = [await report(erna, asset_id) for _ in range(3)]
        await code(erna, seen, cause="storm")
        order = await plan(erna, asset_id, incident_id=mended["incident_id"])
        await code(erna, order, cause="ageing")
        alone = await plan(erna, asset_id, order_type="emergency")
        await code(erna, alone, cause="storm")
        await plan(erna, asset_id, order_type="preventive")
        wrong = await report(erna, asset_id)
        await erna.post(f"/api/v1/tickets/{wrong['ticket_id']}/cancel", json={"reason": "Reported twice"})
        told = (await erna.get(STATISTICS, params={"asset_id": asset_id})).json()
        assert [(each["code"], each["failures"]) for each in told["codes"]] == [
            ("storm", 2),
            ("ageing", 1),
            ("unknown", 1),
        ]
        assert (told["failures"], told["unknown"], told["unknown_share"]) == (4, 1, 0.25)
        assert told["codes"][0]["share"] == 0.5
        assert unknown["incident_id"]
        damages = (await erna.get(STATISTICS, params={"asset_id": asset_id, "code_group": "damage"})).json()
        assert damages["unknown_share"] == 1.0

    async def test_of_nothing_have_no_share(self, erna: httpx.AsyncClient) -> None:
        told = (await erna.get(STATISTICS, params={"asset_id": await add(erna)})).json()
        assert (told["failures"], told["unknown_share"], told["codes"]) == (0, None, [])
