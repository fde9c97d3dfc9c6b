"""What an order's work is planned to take and what it took, over HTTP: checklist, labour, material, cost."""

from decimal import Decimal
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from busbar_pm.events import ComponentsChanged, OrderCompleted, PmTicketCreated
from busbar_pm.order_work import labour_cost
from busbar_pm.tests.conftest import Served
from busbar_pm.tests.test_assets_over_http import SLOW_FIXTURES, add
from busbar_pm.tests.work import events_of, plan, report, ticket_of

ORDERS = "/api/v1/pm/maintenance-orders"
HOURS = st.decimals(Decimal("0.001"), Decimal(10_000), places=3)
RATES = st.decimals(Decimal(0), Decimal(500), places=2)
AMOUNTS = st.decimals(Decimal("0.01"), Decimal(1_000_000), places=2)
CHECKLIST = [{"text": "Earthing in place"}, {"text": "Photograph the nameplate", "mandatory": False}]


async def read(client: httpx.AsyncClient, opened: dict[str, Any]) -> dict[str, Any]:
    answer = await client.get(f"{ORDERS}/{opened['order_id']}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


class TestAChecklist:
    async def test_holds_the_completion_up_while_a_mandatory_item_is_open(self, erna: httpx.AsyncClient) -> None:
        opened = await plan(erna, await add(erna), checklist=CHECKLIST)
        path = f"{ORDERS}/{opened['order_id']}"
        early = await erna.post(f"{path}/complete")
        assert (early.status_code, early.json()["code"]) == (422, "BUS_002")
        assert "1. Earthing in place" in early.json()["detail"]
        assert (await ticket_of(erna, opened))["status"] == "Open"
        ticked = (await erna.put(f"{path}/checklist/1", json={"done": True, "note": "0.4 ohm"})).json()
        first, second = ticked["work"]["checklist"]
        assert (first["done_by"], first["note"], second["done_at"]) == ("erna", "0.4 ohm", None)
        assert first["done_at"] is not None
        untick = (await erna.put(f"{path}/checklist/1", json={"done": False})).json()
        assert (untick["work"]["checklist"][0]["done_by"], untick["version"]) == (None, 3)
        assert (await erna.post(f"{path}/complete")).status_code == 422
        await erna.put(f"{path}/checklist/1", json={})
        assert (await erna.post(f"{path}/complete")).json()["status"] == "completed"
        late = await erna.put(f"{path}/checklist/2", json={})
        assert (late.status_code, late.json()["code"]) == (422, "BUS_002")

    async def test_has_no_other_items(self, erna: httpx.AsyncClient) -> None:
        opened = await plan(erna, await add(erna), checklist=CHECKLIST)
        answer = await erna.put(f"{ORDERS}/{opened['order_id']}/checklist/3", json={})
        assert (answer.status_code, answer.json()["code"]) == (404, "RES_001")

    async def test_is_replaced_only_before_it_is_begun(self, erna: httpx.AsyncClient) -> None:
        opened = await plan(erna, await add(erna), checklist=CHECKLIST)
        path = f"{ORDERS}/{opened['order_id']}"
        changed = (await erna.patch(path, json={"checklist": [{"text": "Only this"}]})).json()
        assert [item["text"] for item in changed["work"]["checklist"]] == ["Only this"]
        await erna.put(f"{path}/checklist/1", json={})
        answer = await erna.patch(path, json={"checklist": []})
        assert (answer.status_code, answer.json()["code"]) == (422, "BUS_002")


class TestPlannedWork:
    async def test_comes_back_and_is_told(self, erna: httpx.AsyncClient) -> None:
        asset_id = await add(erna, cost_center_id="CC-7")
        opened = await plan(
            erna,
            asset_id,
            cost_type="CAPEX",
            labour=[{"description": "Fitter", "hours": "1.333", "hourly_rate": "62.55"}],
            components=[{"material_id": "M-2", "quantity": "0.125"}, {"material_id": "M-1", "quantity": 3}],
        )
        order = await read(erna, opened)
        assert (order["cost_center_id"], order["cost_type"]) == ("CC-7", "CAPEX")
        costs = order["work"]["costs"]
        assert (costs["planned_hours"], costs["planned_labour"], costs["total"]) == ("1.333", "83.38", "0.00")
        (told,) = await events_of(opened, "PM_TICKET_CREATED", PmTicketCreated)
        assert (told.order.cost_center_id, told.order.cost_type) == ("CC-7", "CAPEX")
        assert told.order.planned_cost == Decimal("83.38")
        assert [(c.material_id, c.quantity) for c in told.order.components] == [("M-2", Decimal("0.125")), ("M-1", 3)]

    async def test_of_material_is_told_when_it_changes(self, erna: httpx.AsyncClient) -> None:
        opened = await plan(erna, await add(erna), components=[{"material_id": "M-1", "quantity": "3"}])
        components = [{"material_id": "M-1", "quantity": "4"}, {"material_id": "M-9", "quantity": "1"}]
        path = f"{ORDERS}/{opened['order_id']}"
        changed = (await erna.patch(path, json={"components": components, "cost_center_id": "CC-2"})).json()
        assert [(c["material_id"], c["planned"]) for c in changed["work"]["components"]] == [
            ("M-1", "4.000"),
            ("M-9", "1.000"),
        ]
        await erna.patch(path, json={"description": "Nothing about what is planned"})
        (told,) = await events_of(opened, "PM_COMPONENTS_CHANGED", ComponentsChanged)
        assert [(c.material_id, c.quantity) for c in told.order.components] == [("M-1", 4), ("M-9", 1)]
        assert (told.order.cost_center_id, told.order.planned_cost) == ("CC-2", 0)
        labour = [{"description": "Fitter", "hours": "2", "hourly_rate": "60.00"}]
        for change in ({"labour": labour}, {"cost_type": "CAPEX"}, {"cost_center_id": "CC-3"}):
            await erna.patch(path, json=change)
        (*_, told) = await events_of(opened, "PM_COMPONENTS_CHANGED", ComponentsChanged)
        assert (told.order.cost_center_id, told.order.cost_type, told.order.planned_cost) == ("CC-3", "CAPEX", 120)

    @pytest.mark.parametrize(
        ("fields", "wrong"),
        [
            ({"components": [{"material_id": "M", "quantity": "1"}] * 2}, "components[1].material_id"),
            ({"components": [{"material_id": "M", "quantity": "0"}]}, "components[0].quantity"),
            ({"labour": [{"description": "x", "hours": "10000.1", "hourly_rate": "1"}]}, "labour[0].hours"),
            ({"labour": [{"description": "x", "hours": "1", "hourly_rate": "1.234"}]}, "labour[0].hourly_rate"),
            ({"labour": [{"description": "x", "hours": "9999", "hourly_rate": "9999999"}]}, "labour[0].hourly_rate"),
            ({"checklist": [{"text": ""}]}, "checklist[0].text"),
            ({"cost_type": "GIFT"}, "cost_type"),
        ],
    )
    async def test_that_cannot_be_meant_is_refused_by_the_field(
        self, erna: httpx.AsyncClient, fields: dict[str, Any], wrong: str
    ) -> None:
        body = {"asset_id": await add(erna), "order_type": "corrective", "description": "x"}
        answer = await erna.post(ORDERS, json=body | {"scheduled_date": "2027-01-01"} | fields)
        assert answer.status_code == 400, answer.text
        assert [error["field"] for error in answer.json()["errors"]] == [wrong]


class TestAnOrderThatMendsAnIncident:
    async def test_is_of_the_incidents_asset_and_names_its_ticket(self, erna: httpx.AsyncClient) -> None:
        asset_id = await add(erna)
        incident = await report(erna, asset_id)
        body = {"incident_id": incident["incident_id"], "order_type": "emergency", "description": "Mend it"}
        answer = await erna.post(ORDERS, json=body | {"scheduled_date": "2027-01-01"})
        assert answer.status_code == 201, answer.text
        order = await read(erna, answer.json())
        assert (order["asset_id"], order["incident_id"]) == (asset_id, incident["incident_id"])
        (told,) = await events_of(order, "PM_TICKET_CREATED", PmTicketCreated)
        assert told.order.incident_ticket_id == incident["ticket_id"]
        listed = (await erna.get(ORDERS, params={"incident_id": incident["incident_id"]})).json()["items"]
        assert [each["order_id"] for each in listed] == [order["order_id"]]

    async def test_needs_an_incident_and_an_asset_that_are_there(self, served: Served, erna: httpx.AsyncClient) -> None:
        admin = await served.client()
        foreign = await add(admin, site="south")
        theirs, ours = await report(admin, foreign), await report(erna, await add(erna))
        body = {"order_type": "emergency", "description": "x", "scheduled_date": "2027-01-01"}
        nothing = await erna.post(ORDERS, json=body)
        assert (nothing.status_code, nothing.json()["code"]) == (400, "VAL_002")
        assert nothing.json()["errors"][0]["field"] == "asset_id"
        assert (await erna.post(ORDERS, json=body | {"incident_id": theirs["incident_id"]})).status_code == 404
        mixed = body | {"incident_id": ours["incident_id"], "asset_id": foreign}
        for client in (erna, admin):
            assert (await client.post(ORDERS, json=mixed)).status_code == 404


class TestWhatTheWorkTook:
    async def test_is_in_the_history_and_told_when_the_order_is_completed(self, erna: httpx.AsyncClient) -> None:
        asset_id = await add(erna)
        opened = await plan(erna, asset_id, cost_center_id="CC-1")
        path = f"{ORDERS}/{opened['order_id']}"
        labour = {"description": "Jointer", "hours": "3.5", "hourly_rate": "68.00"}
        noted = await erna.post(f"{path}/actuals", json={"labour": [labour]})
        assert (noted.status_code, noted.json()["version"]) == (200, 2), noted.text
        completion = {
            "notes": "New joint",
            "actuals": {
                "labour": [{"description": "Helper", "hours": "2", "hourly_rate": "40.05"}],
                "costs": [
                    {"description": "Excavation", "amount": "480.50"},
                    {"description": "Sleeve", "amount": 20, "kind": "material"},
                ],
            },
            "cause": "third_party",
        }
        answer = await erna.post(f"{path}/complete", json=completion)
        assert answer.status_code == 200, answer.text
        costs = answer.json()["work"]["costs"]
        amounts = [costs[name] for name in ("actual_labour", "external", "material", "total")]
        assert (costs["actual_hours"], amounts) == ("5.500", ["318.10", "480.50", "20.00", "818.60"])
        (entry,) = (await erna.get(f"/api/v1/pm/assets/{asset_id}/history")).json()
        assert (entry["cost"], entry["labour_hours"], entry["currency"]) == ("818.60", "5.500", "EUR")
        (told,) = await events_of(opened, "PM_ORDER_COMPLETED", OrderCompleted)
        assert [(c.kind, c.description, c.amount) for c in told.costs] == [
            ("labour", "Jointer", Decimal("238.00")),
            ("labour", "Helper", Decimal("80.10")),
            ("external", "Excavation", Decimal("480.50")),
            ("material", "Sleeve", Decimal("20.00")),
        ]
        assert (told.total_cost, told.labour_hours) == (Decimal("818.60"), Decimal("5.500"))
        assert (told.cause, told.damage, told.order.cost_center_id) == ("third_party", "unknown", "CC-1")

    @settings(max_examples=20, deadline=None, suppress_health_check=SLOW_FIXTURES)
    @given(
        labour=st.lists(st.tuples(HOURS, RATES), max_size=5),
        bills=st.lists(st.tuples(AMOUNTS, st.sampled_from(["external", "material"])), max_size=5),
    )
    async def test_sums_up_to_the_cent(
        self, erna: httpx.AsyncClient, labour: list[tuple[Decimal, Decimal]], bills: list[tuple[Decimal, str]]
    ) -> None:
        opened = await plan(erna, await add(erna))
        actuals = {
            "labour": [{"description": "", "hours": str(h), "hourly_rate": str(rate)} for h, rate in labour],
            "costs": [{"description": "", "amount": str(amount), "kind": kind} for amount, kind in bills],
        }
        answer = await erna.post(f"{ORDERS}/{opened['order_id']}/complete", json={"actuals": actuals})
        assert answer.status_code == 200, answer.text
        hundredths = sum(int((h * rate * 1000 + 5) // 10) for h, rate in labour)
        hundredths += sum(int(amount * 100) for amount, _ in bills)
        (told,) = await events_of(opened, "PM_ORDER_COMPLETED", OrderCompleted)
        assert int(told.total_cost * 100) == hundredths == sum(int(cost.amount * 100) for cost in told.costs)
        assert Decimal(answer.json()["work"]["costs"]["total"]) == told.total_cost

    async def test_can_be_taken_back_until_the_order_is_completed(self, erna: httpx.AsyncClient) -> None:
        opened = await plan(erna, await add(erna))
        path = f"{ORDERS}/{opened['order_id']}"
        bill = {"description": "Crane", "amount": "900.00"}
        noted = (await erna.post(f"{path}/actuals", json={"costs": [bill, bill]})).json()
        first, second = (entry["entry_id"] for entry in noted["work"]["actuals"])
        assert (await erna.delete(f"{path}/actuals/{first}")).status_code == 204
        assert (await erna.delete(f"{path}/actuals/{first}")).status_code == 404
        stale = await erna.post(f"{path}/actuals", json={"costs": [bill]}, headers={"If-Match": '"v1"'})
        assert stale.status_code == 412
        completed = (await erna.post(f"{path}/complete")).json()
        assert completed["work"]["costs"]["total"] == "900.00"
        for late in (
            await erna.delete(f"{path}/actuals/{second}"),
            await erna.post(f"{path}/actuals", json={"costs": [bill]}),
        ):
            assert (late.status_code, late.json()["code"]) == (422, "BUS_002")

    async def test_is_nobodys_business_at_another_site(self, served: Served, erna: httpx.AsyncClient) -> None:
        admin = await served.client()
        opened = await plan(admin, await add(admin, site="south"))
        path = f"{ORDERS}/{opened['order_id']}"
        for answer in (
            await erna.post(f"{path}/actuals", json={}),
            await erna.put(f"{path}/checklist/1", json={}),
            await erna.delete(f"{path}/actuals/{opened['order_id']}"),
        ):
            assert (answer.status_code, answer.json()["code"]) == (404, "RES_001")


class TestMoney:
    def test_of_labour_is_rounded_half_up(self) -> None:
        assert labour_cost(Decimal("0.5"), Decimal("0.01")) == Decimal("0.01")
        assert labour_cost(Decimal("1.005"), Decimal("1.00")) == Decimal("1.01")
