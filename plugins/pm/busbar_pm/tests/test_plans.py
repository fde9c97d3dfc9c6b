"""Maintenance plans over HTTP: each call opens its order once, with what the plan says."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from busbar.sdk import fetchval
from busbar_pm.events import PmTicketCreated
from busbar_pm.tests.conftest import Served
from busbar_pm.tests.plans import TEMPLATE, add_plan, calls_of, measure, order_of
from busbar_pm.tests.test_assets_over_http import add
from busbar_pm.tests.work import events_of, report

METER = {"kind": "meter", "measurement": "operating_hours", "every": "1000"}
HOT = {"kind": "condition", "measurement": "oil_temperature", "above": "90", "hysteresis": "10"}
PLANS = "/api/v1/pm/maintenance-plans"


async def until_called(client: httpx.AsyncClient, plan: dict[str, Any], count: int) -> list[dict[str, Any]]:
    async with asyncio.timeout(30):
        while len(calls := await calls_of(client, plan)) < count:
            await asyncio.sleep(0.02)
    return calls


class TestAPlan:
    async def test_comes_back_as_it_was_sent(self, erna: httpx.AsyncClient) -> None:
        template = TEMPLATE | {
            "checklist": [{"text": "Earthing in place", "mandatory": True}],
            "components": [{"material_id": "OIL", "quantity": "12.5"}],
            "labour": [{"description": "Fitter", "hours": "2.25", "hourly_rate": "62.50"}],
            "cost_center_id": "CC-1",
            "cost_type": "CAPEX",
        }
        asset_id = await add(erna)
        plan = await add_plan(erna, METER, asset_id=asset_id, template=template, lead_days=3)
        read = await erna.get(f"{PLANS}/{plan['plan_id']}")
        assert read.json() == plan
        assert (plan["template"], plan["kind"], plan["asset_id"]) == (template, "meter", asset_id)
        assert plan["trigger"] == METER | {"start": "0", "ahead": "0"}
        assert (plan["next_value"], plan["lead_days"], plan["active"], plan["site"]) == ("1000.000", 3, True, "north")

    @pytest.mark.parametrize(
        ("trigger", "fields", "wrong"),
        [
            ({"kind": "calendar", "every": 0, "unit": "days", "first_due": "2027-01-01"}, {}, "trigger.every"),
            ({"kind": "condition", "measurement": "x"}, {}, "trigger.above"),
            (METER | {"every": "-1"}, {}, "trigger.every"),
            (METER, {"asset_type": "feeder", "asset_id": None}, "asset_type"),
            ({"kind": "incident"}, {"asset_id": None}, "asset_id"),
            ({"kind": "incident"}, {"asset_id": None, "asset_type": "spaceship"}, "asset_type"),
            (METER, {"template": TEMPLATE | {"components": [{"material_id": "A", "quantity": "1"}] * 2}},
             "components[1].material_id"),
        ],
    )  # fmt: skip
    async def test_that_cannot_be_meant_so_is_refused_by_the_field(
        self, erna: httpx.AsyncClient, trigger: dict[str, Any], fields: dict[str, Any], wrong: str
    ) -> None:
        body = {"name": "Plan", "asset_id": await add(erna), "trigger": trigger, "template": TEMPLATE} | fields
        answer = await erna.post(PLANS, json=body)
        assert answer.status_code == 400, answer.text
        assert [error["field"] for error in answer.json()["errors"]] == [wrong]

    async def test_of_another_site_is_not_found(self, served: Served, erna: httpx.AsyncClient) -> None:
        admin = await served.client()
        foreign = await add_plan(admin, METER, asset_id=await add(admin, site="south"))
        path = f"{PLANS}/{foreign['plan_id']}"
        for answer in (
            await erna.get(path),
            await erna.get(f"{path}/calls"),
            await erna.patch(path, json={"name": "Mine"}),
            await erna.delete(path),
            await erna.post(f"{path}/deactivate"),
            await erna.post(PLANS, json={"name": "x", "asset_id": foreign["asset_id"], "trigger": METER,
                                         "template": TEMPLATE}),
        ):  # fmt: skip
            assert (answer.status_code, answer.json()["code"]) == (404, "RES_001"), answer.text
        listed = (await erna.get(PLANS, params={"limit": "200"})).json()["items"]
        assert foreign["plan_id"] not in {plan["plan_id"] for plan in listed}

    async def test_is_not_changed_by_who_saw_an_older_version(self, erna: httpx.AsyncClient) -> None:
        plan = await add_plan(erna, METER, asset_id=await add(erna))
        path = f"{PLANS}/{plan['plan_id']}"
        seen = (await erna.get(path)).headers["ETag"]
        changed = await erna.patch(path, json={"trigger": METER | {"start": "400"}}, headers={"If-Match": seen})
        assert (changed.status_code, changed.json()["next_value"]) == (200, "1400.000")
        for late in (
            await erna.patch(path, json={"name": "Late"}, headers={"If-Match": seen}),
            await erna.post(f"{path}/deactivate", headers={"If-Match": seen}),
            await erna.delete(path, headers={"If-Match": seen}),
        ):
            assert late.status_code == 412
        kind = await erna.patch(path, json={"trigger": HOT})
        assert (kind.status_code, kind.json()["errors"][0]["field"]) == (400, "trigger.kind")

    async def test_is_deleted_only_while_it_has_called_for_nothing(self, erna: httpx.AsyncClient) -> None:
        asset_id = await add(erna)
        unused = await add_plan(erna, METER, asset_id=asset_id)
        assert (await erna.delete(f"{PLANS}/{unused['plan_id']}")).status_code == 204
        used = await add_plan(erna, METER, asset_id=asset_id)
        await measure(erna, asset_id, "operating_hours", "1000")
        answer = await erna.delete(f"{PLANS}/{used['plan_id']}")
        assert (answer.status_code, answer.json()["code"]) == (422, "BUS_002")


class TestAMeterPlan:
    async def test_calls_once_for_each_due_reading(self, erna: httpx.AsyncClient) -> None:
        asset_id = await add(erna, cost_center_id="CC-ASSET")
        template = TEMPLATE | {
            "checklist": [{"text": "Look at it"}],
            "components": [{"material_id": "OIL", "quantity": "2"}],
            "labour": [{"description": "Fitter", "hours": "1", "hourly_rate": "60"}],
        }
        plan = await add_plan(erna, METER, asset_id=asset_id, template=template, lead_days=5)
        assert (await measure(erna, asset_id, "operating_hours", "999.9"))["calls"] == []
        assert (await measure(erna, asset_id, "cycles", "5000"))["calls"] == []
        (called,) = (await measure(erna, asset_id, "operating_hours", 1000))["calls"]
        assert (await measure(erna, asset_id, "operating_hours", "1999"))["calls"] == []
        (later,) = (await measure(erna, asset_id, "operating_hours", "4500"))["calls"]
        first, second = await calls_of(erna, plan)
        assert (first["order_id"], second["order_id"]) == (called["order_id"], later["order_id"])
        assert (first["number"], first["covered"], second["number"], second["covered"]) == (1, 0, 2, 2)
        order = await order_of(erna, first)
        assert order["scheduled_date"] == (datetime.now(UTC).date() + timedelta(days=5)).isoformat()
        assert (order["plan_id"], order["cost_center_id"]) == (plan["plan_id"], "CC-ASSET")
        work = order["work"]
        assert [item["text"] for item in work["checklist"]] == ["Look at it"]
        assert (work["components"][0]["planned"], work["costs"]["planned_labour"]) == ("2.000", "60.00")
        (told,) = await events_of(order, "PM_TICKET_CREATED", PmTicketCreated)
        assert (told.order.plan_id, told.order.cost_center_id) == (plan["plan_id"], "CC-ASSET")
        assert [(c.material_id, c.quantity) for c in told.order.components] == [("OIL", 2)]

    async def test_calls_once_when_many_send_the_reading_at_once(self, erna: httpx.AsyncClient) -> None:
        asset_id = await add(erna)
        plan = await add_plan(erna, METER, asset_id=asset_id)
        await asyncio.gather(*(measure(erna, asset_id, "operating_hours", str(1000 + n)) for n in range(20)))
        assert len(await calls_of(erna, plan)) == 1

    async def test_rests_while_it_is_not_active_and_makes_up_for_nothing(self, erna: httpx.AsyncClient) -> None:
        asset_id = await add(erna)
        plan = await add_plan(erna, METER, asset_id=asset_id)
        path = f"{PLANS}/{plan['plan_id']}"
        assert (await erna.post(f"{path}/deactivate")).json()["active"] is False
        assert (await measure(erna, asset_id, "operating_hours", "3400"))["calls"] == []
        assert (await erna.post(f"{path}/activate")).json()["next_value"] == "4000.000"
        assert (await measure(erna, asset_id, "operating_hours", "3999"))["calls"] == []
        assert len((await measure(erna, asset_id, "operating_hours", "4000"))["calls"]) == 1


class TestAConditionPlan:
    async def test_calls_once_until_the_readings_are_back(self, erna: httpx.AsyncClient) -> None:
        asset_id = await add(erna)
        plan = await add_plan(erna, HOT, asset_id=asset_id)
        called = [
            len((await measure(erna, asset_id, "oil_temperature", value))["calls"])
            for value in ("90", "90.1", "95", "89", "91", "80", "92")
        ]
        assert called == [0, 1, 0, 0, 0, 0, 1]
        assert [call["reading"] for call in await calls_of(erna, plan)] == ["90.100", "92.000"]

    async def test_takes_no_late_reading_for_the_condition_now(self, erna: httpx.AsyncClient) -> None:
        asset_id = await add(erna)
        await add_plan(erna, HOT, asset_id=asset_id)
        await measure(erna, asset_id, "oil_temperature", "60")
        yesterday = (datetime.now(UTC) - timedelta(days=1)).isoformat()
        assert (await measure(erna, asset_id, "oil_temperature", "99", taken_at=yesterday))["calls"] == []

    async def test_of_a_retired_asset_calls_for_nothing(self, erna: httpx.AsyncClient) -> None:
        asset_id = await add(erna, status="retired")
        await add_plan(erna, HOT, asset_id=asset_id)
        assert (await measure(erna, asset_id, "oil_temperature", "120"))["calls"] == []


class TestAMeasurement:
    async def test_is_listed_latest_first_and_not_taken_twice(self, erna: httpx.AsyncClient) -> None:
        asset_id = await add(erna)
        await measure(erna, asset_id, "level", "-1.250", unit="m", source_ref="R-1")
        await measure(erna, asset_id, "level", "0.5")
        path = f"/api/v1/pm/assets/{asset_id}/measurements"
        again = await erna.post(path, json={"name": "level", "value": "7", "source_ref": "R-1"})
        assert (again.status_code, again.json()["code"]) == (409, "RES_002")
        future = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        ahead = await erna.post(path, json={"name": "level", "value": "7", "taken_at": future})
        assert (ahead.status_code, ahead.json()["errors"][0]["field"]) == (400, "taken_at")
        page = (await erna.get(path, params={"name": "level"})).json()
        assert [(item["value"], item["unit"]) for item in page["items"]] == [("0.500", ""), ("-1.250", "m")]


class TestAPlanThatWaitsForIncidents:
    async def test_opens_its_order_in_the_chain_of_the_incident(self, erna: httpx.AsyncClient) -> None:
        asset_id = await add(erna, asset_type="pump")
        trigger = {"kind": "incident", "fault_types": ["fault"], "severities": ["P1", "P2"]}
        template = {"order_type": "emergency", "description": "Look at the pump"}
        plan = await add_plan(erna, trigger, asset_type="pump", template=template)
        for other in (
            {"fault_type": "outage"},
            {"severity": "P3", "fault_type": "fault"},
        ):
            await report(erna, asset_id, **other)
        opened = await report(erna, asset_id, fault_type="fault", severity="P1")
        (call,) = await until_called(erna, plan, 1)
        order = await order_of(erna, call)
        assert (order["incident_id"], order["asset_id"]) == (opened["incident_id"], asset_id)
        assert order["order_type"] == "emergency"
        sql = "select correlation_id from core.ticket where ticket_id = $1"
        assert await fetchval(sql, order["ticket_id"]) == await fetchval(sql, opened["ticket_id"])
        (told,) = await events_of(order, "PM_TICKET_CREATED", PmTicketCreated)
        assert told.order.incident_ticket_id == opened["ticket_id"]
        assert call["incident_id"] == opened["incident_id"]
