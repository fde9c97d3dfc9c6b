"""Maintenance orders over HTTP: ticket, history, and the end with the ticket."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import httpx
from hypothesis import given, settings
from hypothesis import strategies as st

from busbar_pm.events import OrderCompleted
from busbar_pm.tests.conftest import Served
from busbar_pm.tests.test_assets_over_http import SLOW_FIXTURES, add
from busbar_pm.tests.work import ORDER_PRIORITY, PROSE, check_ticket, events_of, plan, ticket_of, written


class TestPlan:
    @settings(max_examples=25, deadline=None, suppress_health_check=SLOW_FIXTURES)
    @given(order_type=st.sampled_from(list(ORDER_PRIORITY)), description=PROSE, scheduled=st.dates())
    async def test_opens_a_maintenance_ticket_with_id_and_deadline(
        self, erna: httpx.AsyncClient, order_type: str, description: str, scheduled: Any
    ) -> None:
        asset_id = await add(erna)
        since = datetime.now(UTC)
        opened = await plan(
            erna, asset_id, order_type=order_type, description=description, scheduled_date=scheduled.isoformat()
        )
        ticket = await ticket_of(erna, opened)
        check_ticket(ticket, ticket_type="Maintenance", priority=ORDER_PRIORITY[order_type], since=since)
        order = (await erna.get(f"/api/v1/pm/maintenance-orders/{opened['order_id']}")).json()
        assert (order["ticket_id"], order["asset_id"]) == (opened["ticket_id"], asset_id)
        assert (order["description"], order["scheduled_date"]) == (description, scheduled.isoformat())

    @settings(max_examples=20, deadline=None, suppress_health_check=SLOW_FIXTURES)
    @given(asset_id=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,59}", fullmatch=True).map("GHOST".__add__))
    async def test_on_an_unknown_asset_is_404_and_writes_nothing(self, erna: httpx.AsyncClient, asset_id: str) -> None:
        asset_id = asset_id[:60]
        before = await written()
        body = {"asset_id": asset_id, "order_type": "emergency", "description": "?", "scheduled_date": "2027-01-01"}
        answer = await erna.post("/api/v1/pm/maintenance-orders", json=body)
        assert (answer.status_code, answer.json()["code"]) == (404, "RES_001")
        assert await written() == before

    async def test_on_an_asset_of_another_site_is_404_and_writes_nothing(
        self, served: Served, erna: httpx.AsyncClient
    ) -> None:
        foreign = await add(await served.client(), site="south")
        before = await written()
        body = {"asset_id": foreign, "order_type": "emergency", "description": "?", "scheduled_date": "2027-01-01"}
        assert (await erna.post("/api/v1/pm/maintenance-orders", json=body)).status_code == 404
        assert await written() == before


class TestAMaintenanceOrder:
    async def test_completed_writes_the_assets_history_and_closes_its_ticket(self, erna: httpx.AsyncClient) -> None:
        asset_id = await add(erna)
        opened = await plan(erna, asset_id)
        answer = await erna.post(
            f"/api/v1/pm/maintenance-orders/{opened['order_id']}/complete", json={"notes": "New joint"}
        )
        assert (answer.status_code, answer.json()["status"]) == (200, "completed")
        assert (await ticket_of(erna, opened))["status"] == "Closed"
        (entry,) = (await erna.get(f"/api/v1/pm/assets/{asset_id}/history")).json()
        assert (entry["object_id"], entry["recorded_by"]) == (opened["order_id"], "erna")
        assert entry["summary"] == "corrective: New joint"
        (told,) = await events_of(opened, "PM_ORDER_COMPLETED", OrderCompleted)
        assert (told.notes, told.order.asset_id) == ("New joint", asset_id)
        trail = (await erna.get(f"/api/v1/tickets/{opened['ticket_id']}/audit")).json()
        moves = [(e["previous_status"], e["new_status"]) for e in trail if e["action"] == "ticket.move"]
        assert moves == [("Open", "Assigned"), ("Assigned", "In_Progress"), ("In_Progress", "Closed")]

    async def test_is_completed_only_once(self, erna: httpx.AsyncClient) -> None:
        asset_id = await add(erna)
        opened = await plan(erna, asset_id)
        path = f"/api/v1/pm/maintenance-orders/{opened['order_id']}"
        assert (await erna.post(f"{path}/complete")).status_code == 200
        for again in (
            await erna.post(f"{path}/complete"),
            await erna.patch(path, json={"description": "Later"}),
            await erna.delete(path),
        ):
            assert (again.status_code, again.json()["code"]) == (422, "BUS_002")
        assert len((await erna.get(f"/api/v1/pm/assets/{asset_id}/history")).json()) == 1

    async def test_called_off_stays_on_record_with_its_ticket(self, erna: httpx.AsyncClient) -> None:
        opened = await plan(erna, await add(erna))
        path = f"/api/v1/pm/maintenance-orders/{opened['order_id']}"
        assert (await erna.delete(path)).status_code == 204
        assert (await erna.get(path)).json()["status"] == "cancelled"
        assert (await ticket_of(erna, opened))["status"] == "Cancelled"

    async def test_is_cancelled_with_its_ticket(self, erna: httpx.AsyncClient) -> None:
        opened = await plan(erna, await add(erna))
        cancelled = await erna.post(f"/api/v1/tickets/{opened['ticket_id']}/cancel", json={"reason": "Sold"})
        assert cancelled.status_code == 200, cancelled.text
        async with asyncio.timeout(30):
            while (await erna.get(f"/api/v1/pm/maintenance-orders/{opened['order_id']}")).json()["status"] == "planned":
                await asyncio.sleep(0.02)

    async def test_can_be_moved_and_described_anew_while_planned(self, erna: httpx.AsyncClient) -> None:
        opened = await plan(erna, await add(erna))
        path = f"/api/v1/pm/maintenance-orders/{opened['order_id']}"
        moved = (await erna.patch(path, json={"scheduled_date": "2027-04-02", "description": ""})).json()
        assert (moved["scheduled_date"], moved["description"], moved["version"]) == ("2027-04-02", "", 2)
        assert (await erna.patch(path, json={})).json()["version"] == 2
