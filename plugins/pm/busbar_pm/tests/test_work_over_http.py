"""Incidents and maintenance orders over HTTP: the ticket, the event and the rules that come with each."""

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from busbar.sdk import fetch, fetchval, uuid7
from busbar_pm.events import IncidentUpdated, OrderCompleted, PmTicketCreated
from busbar_pm.tests.conftest import Served
from busbar_pm.tests.test_assets_over_http import SLOW_FIXTURES, add

TARGET_HOURS = {"P1": 4, "P2": 8, "P3": 24, "P4": 72}
ORDER_PRIORITY = {"emergency": "P1", "corrective": "P3", "preventive": "P4"}
PROSE = st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=200)
TICKET_ID = re.compile(r"TKT-PM-(\d{8})-(\d{4,})")


async def report(client: httpx.AsyncClient, asset_id: str, **fields: Any) -> dict[str, Any]:
    body = {"asset_id": asset_id, "fault_type": "outage", "severity": "P2", "description": "No supply", **fields}
    answer = await client.post("/api/v1/pm/incidents", json=body)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def plan(client: httpx.AsyncClient, asset_id: str, **fields: Any) -> dict[str, Any]:
    body = {"asset_id": asset_id, "order_type": "corrective", "description": "Fix it", "scheduled_date": "2027-03-01"}
    answer = await client.post("/api/v1/pm/maintenance-orders", json=body | fields)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def ticket_of(client: httpx.AsyncClient, opened: dict[str, Any]) -> dict[str, Any]:
    answer = await client.get(f"/api/v1/tickets/{opened['ticket_id']}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def events_of(opened: dict[str, Any], event_type: str, type_: Any) -> list[Any]:
    sql = "select data from core.event where subject = $1 and event_type = $2 order by seq"
    rows = await fetch(sql, opened["ticket_id"], event_type)
    return [msgspec.json.decode(row["data"], type=type_) for row in rows]


async def written() -> tuple[int, ...]:
    """How many rows there are that opening something would add to."""
    tables = ("core.ticket", "core.event", "core.audit", "pm.incident", "pm.maintenance_order")
    return tuple([await fetchval(f"select count(*) from {table}") for table in tables])


def check_ticket(ticket: dict[str, Any], *, ticket_type: str, priority: str, since: datetime) -> None:
    created = datetime.fromisoformat(ticket["created_at"])
    match = TICKET_ID.fullmatch(ticket["ticket_id"])
    assert match is not None, ticket["ticket_id"]
    assert match[1] == created.strftime("%Y%m%d")
    assert int(match[2]) >= 1
    assert (ticket["ticket_type"], ticket["priority"], ticket["status"]) == (ticket_type, priority, "Open")
    deadline = datetime.fromisoformat(ticket["sla_deadline"])
    assert deadline - created == timedelta(hours=TARGET_HOURS[priority])
    assert since <= created <= datetime.now(UTC)


class TestEveryCreation:
    @settings(max_examples=25, deadline=None, suppress_health_check=SLOW_FIXTURES)
    @given(
        fault_type=st.sampled_from(["fault", "outage", "degradation"]),
        severity=st.sampled_from(list(TARGET_HOURS)),
        description=PROSE,
    )
    async def test_of_an_incident_makes_an_incident_ticket_with_id_and_deadline(
        self, erna: httpx.AsyncClient, fault_type: str, severity: str, description: str
    ) -> None:
        asset_id = await add(erna)
        since = datetime.now(UTC)
        opened = await report(erna, asset_id, fault_type=fault_type, severity=severity, description=description)
        ticket = await ticket_of(erna, opened)
        check_ticket(ticket, ticket_type="Incident", priority=severity, since=since)
        incident = (await erna.get(f"/api/v1/pm/incidents/{opened['incident_id']}")).json()
        assert (incident["ticket_id"], incident["asset_id"]) == (opened["ticket_id"], asset_id)
        assert (incident["fault_type"], incident["description"]) == (fault_type, description)

    @settings(max_examples=25, deadline=None, suppress_health_check=SLOW_FIXTURES)
    @given(order_type=st.sampled_from(list(ORDER_PRIORITY)), description=PROSE, scheduled=st.dates())
    async def test_of_an_order_makes_a_maintenance_ticket_with_id_and_deadline(
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

    async def test_is_told_with_what_the_asset_is(self, erna: httpx.AsyncClient) -> None:
        asset_id = await add(erna, name="Feeder 7", customers_served=120, latitude=54.5, longitude=9.0)
        opened = await report(erna, asset_id)
        (told,) = await events_of(opened, "PM_TICKET_CREATED", PmTicketCreated)
        assert told.ticket_id == opened["ticket_id"]
        assert told.site == "north"
        assert (told.incident.asset_name, told.incident.customers_affected) == ("Feeder 7", 120)
        assert (told.incident.latitude, told.incident.customers_restored) == (54.5, 0)

    @settings(max_examples=20, deadline=None, suppress_health_check=SLOW_FIXTURES)
    @given(asset_id=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,59}", fullmatch=True).map("GHOST".__add__))
    async def test_on_an_unknown_asset_is_404_and_writes_nothing(self, erna: httpx.AsyncClient, asset_id: str) -> None:
        asset_id = asset_id[:60]
        before = await written()
        incident = {"asset_id": asset_id, "fault_type": "fault", "severity": "P1", "description": "?"}
        order = {"asset_id": asset_id, "order_type": "emergency", "description": "?", "scheduled_date": "2027-01-01"}
        for path, body in (("incidents", incident), ("maintenance-orders", order)):
            answer = await erna.post(f"/api/v1/pm/{path}", json=body)
            assert (answer.status_code, answer.json()["code"]) == (404, "RES_001")
        assert await written() == before

    async def test_on_an_asset_of_another_site_is_404_and_writes_nothing(
        self, served: Served, erna: httpx.AsyncClient
    ) -> None:
        foreign = await add(await served.client(), site="south")
        before = await written()
        body = {"asset_id": foreign, "fault_type": "fault", "severity": "P1", "description": "?"}
        assert (await erna.post("/api/v1/pm/incidents", json=body)).status_code == 404
        order = {"asset_id": foreign, "order_type": "emergency", "description": "?", "scheduled_date": "2027-01-01"}
        assert (await erna.post("/api/v1/pm/maintenance-orders", json=order)).status_code == 404
        assert await written() == before


class TestManyAtOnce:
    async def test_bad_requests_in_a_batch_harm_only_themselves(self, erna: httpx.AsyncClient) -> None:
        asset_id = await add(erna)
        await report(erna, asset_id, source_ref="S-0")

        def body(n: int) -> dict[str, Any]:
            wrong_asset, repeated = n % 7 == 3, n % 7 == 5
            return {
                "asset_id": "NOBODY" if wrong_asset else asset_id,
                "fault_type": "fault",
                "severity": "P3",
                "description": f"number {n}",
                "source_ref": "S-0" if repeated else f"S-{n}",
            }

        answers = await asyncio.gather(*(erna.post("/api/v1/pm/incidents", json=body(n)) for n in range(1, 71)))
        statuses = {n: answer.status_code for n, answer in enumerate(answers, start=1)}
        assert statuses == {n: 404 if n % 7 == 3 else 409 if n % 7 == 5 else 201 for n in range(1, 71)}
        opened = [answer.json() for answer in answers if answer.status_code == 201]
        for one in opened:
            incident = (await erna.get(f"/api/v1/pm/incidents/{one['incident_id']}")).json()
            assert incident["ticket_id"] == one["ticket_id"]
        numbers = sorted(int(TICKET_ID.fullmatch(one["ticket_id"])[2]) for one in opened)  # type: ignore[index]
        assert numbers == list(range(numbers[0], numbers[0] + 50))


class TestAnOutage:
    async def test_affects_all_who_are_supplied_through_the_asset(self, erna: httpx.AsyncClient) -> None:
        asset_id = await add(erna, customers_served=900)
        for fault_type, customers in (("outage", 900), ("fault", 0), ("degradation", 0)):
            opened = await report(erna, asset_id, fault_type=fault_type)
            incident = (await erna.get(f"/api/v1/pm/incidents/{opened['incident_id']}")).json()
            assert incident["customers_affected"] == customers

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

    async def test_cannot_begin_in_the_future(self, erna: httpx.AsyncClient) -> None:
        tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
        body = {"asset_id": await add(erna), "fault_type": "outage", "severity": "P1", "description": ""}
        answer = await erna.post("/api/v1/pm/incidents", json=body | {"started_at": tomorrow})
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "started_at")

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

    async def test_is_not_taken_twice_from_the_same_source(self, erna: httpx.AsyncClient) -> None:
        asset_id, source_ref = await add(erna), f"R-{uuid7()}"
        await report(erna, asset_id, source_ref=source_ref)
        before = await written()
        body = {"asset_id": asset_id, "fault_type": "fault", "severity": "P4", "description": ""}
        again = await erna.post("/api/v1/pm/incidents", json=body | {"source_ref": source_ref})
        assert (again.status_code, again.json()["code"]) == (409, "RES_002")
        assert await written() == before


async def until_restored(client: httpx.AsyncClient, incident_id: str) -> dict[str, Any]:
    """The incident, once the handler of its ticket's event has run."""
    async with asyncio.timeout(8):
        while True:
            incident = (await client.get(f"/api/v1/pm/incidents/{incident_id}")).json()
            if incident["restored_at"] is not None:
                return dict(incident)
            await asyncio.sleep(0.02)


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
        async with asyncio.timeout(8):
            while (await erna.get(f"/api/v1/pm/maintenance-orders/{opened['order_id']}")).json()["status"] == "planned":
                await asyncio.sleep(0.02)

    async def test_can_be_moved_and_described_anew_while_planned(self, erna: httpx.AsyncClient) -> None:
        opened = await plan(erna, await add(erna))
        path = f"/api/v1/pm/maintenance-orders/{opened['order_id']}"
        moved = (await erna.patch(path, json={"scheduled_date": "2027-04-02", "description": ""})).json()
        assert (moved["scheduled_date"], moved["description"], moved["version"]) == ("2027-04-02", "", 2)
        assert (await erna.patch(path, json={})).json()["version"] == 2
