"""Incidents after their report, over HTTP: steps of restoration, changes, and the end with the ticket."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from busbar_pm.events import IncidentUpdated
from busbar_pm.tests.test_assets_over_http import add
from busbar_pm.tests.work import (
    events_of,
    report,
    ticket_of,
)


async def until_restored(client: httpx.AsyncClient, incident_id: str) -> dict[str, Any]:
    """The incident, once the handler of its ticket's event has run."""
    async with asyncio.timeout(30):
        while True:
            incident = (await client.get(f"/api/v1/pm/incidents/{incident_id}")).json()
            if incident["restored_at"] is not None:
                return dict(incident)
            await asyncio.sleep(0.02)


class TestAnOutage:
    async def test_is_over_with_the_step_that_restores_the_last_customer(self, erna: httpx.AsyncClient) -> None:
        asset_id = await add(erna, customers_served=100)
        start = datetime.now(UTC) - timedelta(hours=3)
        opened = await report(erna, asset_id, started_at=start.isoformat())
        path = f"/api/v1/pm/incidents/{opened['incident_id']}"
        first = {"restored_at": (start + timedelta(minutes=30)).isoformat(), "customers_restored": 60}
        last = {"restored_at": (start + timedelta(minutes=90)).isoformat(), "customers_restored": 40, "note": "Loop"}
        assert (await erna.patch(path, json={"steps": [first]})).json()["restored_at"] is None
        incident = (await erna.patch(path, json={"steps": [last]})).json()
        assert datetime.fromisoformat(incident["restored_at"]) == start + timedelta(minutes=90)
        assert [(step["step"], step["customers_restored"]) for step in incident["steps"]] == [(1, 60), (2, 40)]
        told = await events_of(opened, "PM_INCIDENT_UPDATED", IncidentUpdated)
        assert [(event.changed, event.incident.customers_restored) for event in told] == [
            (("restoration",), 60),
            (("restoration",), 100),
        ]

    @pytest.mark.parametrize(
        ("minutes", "customers", "status"),
        [(-1, 10, 400), (60 * 24, 10, 400), (10, 101, 422), (10, 0, 400)],
        ids=["before the outage", "in the future", "more than were affected", "nobody"],
    )
    async def test_refuses_a_step(self, erna: httpx.AsyncClient, minutes: int, customers: int, status: int) -> None:
        asset_id = await add(erna, customers_served=100)
        start = datetime.now(UTC) - timedelta(hours=3)
        opened = await report(erna, asset_id, started_at=start.isoformat())
        step = {"restored_at": (start + timedelta(minutes=minutes)).isoformat(), "customers_restored": customers}
        path = f"/api/v1/pm/incidents/{opened['incident_id']}"
        answer = await erna.patch(path, json={"steps": [step], "description": "Changed"})
        assert answer.status_code == status, answer.text
        incident = (await erna.get(path)).json()
        assert (incident["steps"], incident["version"], incident["description"]) == ([], 1, "No supply")

    async def test_is_open_again_when_more_turn_out_to_be_affected(self, erna: httpx.AsyncClient) -> None:
        asset_id = await add(erna, customers_served=100)
        start = datetime.now(UTC) - timedelta(hours=1)
        opened = await report(erna, asset_id, started_at=start.isoformat())
        path = f"/api/v1/pm/incidents/{opened['incident_id']}"
        step = {"restored_at": (start + timedelta(minutes=5)).isoformat(), "customers_restored": 100}
        assert (await erna.patch(path, json={"steps": [step]})).json()["restored_at"] is not None
        assert (await erna.patch(path, json={"customers_affected": 130})).json()["restored_at"] is None
        fewer = await erna.patch(path, json={"customers_affected": 99})
        assert (fewer.status_code, fewer.json()["code"]) == (422, "BUS_002")
        assert (await erna.patch(path, json={"customers_affected": 100})).json()["restored_at"] is not None

    async def test_is_the_only_kind_that_is_restored_in_steps(self, erna: httpx.AsyncClient) -> None:
        opened = await report(erna, await add(erna), fault_type="fault")
        step = {"restored_at": datetime.now(UTC).isoformat(), "customers_restored": 1}
        answer = await erna.patch(f"/api/v1/pm/incidents/{opened['incident_id']}", json={"steps": [step]})
        assert (answer.status_code, answer.json()["code"]) == (422, "BUS_002")

    async def test_is_over_when_its_ticket_is_closed(self, erna: httpx.AsyncClient) -> None:
        opened = await report(erna, await add(erna, customers_served=5))
        for status in ("Assigned", "In_Progress", "Closed"):
            moved = await erna.patch(f"/api/v1/tickets/{opened['ticket_id']}/status", json={"new_status": status})
            assert moved.status_code == 200, moved.text
        incident = await until_restored(erna, opened["incident_id"])
        ticket = await ticket_of(erna, opened)
        closed_at = datetime.fromisoformat(ticket["closed_at"])
        assert abs(datetime.fromisoformat(incident["restored_at"]) - closed_at) < timedelta(seconds=1)

    async def test_changes_its_tickets_priority_with_its_severity_but_not_the_deadline(
        self, erna: httpx.AsyncClient
    ) -> None:
        opened = await report(erna, await add(erna), severity="P3")
        before = await ticket_of(erna, opened)
        await erna.patch(f"/api/v1/pm/incidents/{opened['incident_id']}", json={"severity": "P1"})
        after = await ticket_of(erna, opened)
        assert (after["priority"], after["sla_deadline"]) == ("P1", before["sla_deadline"])

    async def test_stays_as_it_is_when_a_change_says_nothing_new(self, erna: httpx.AsyncClient) -> None:
        opened = await report(erna, await add(erna))
        path = f"/api/v1/pm/incidents/{opened['incident_id']}"
        assert (await erna.patch(path, json={"severity": "P2"})).json()["version"] == 1
        assert await events_of(opened, "PM_INCIDENT_UPDATED", IncidentUpdated) == []
