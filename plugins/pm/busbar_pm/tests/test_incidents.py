"""Incidents as a maintenance engineer reports them, over HTTP: ticket, event, and what is refused."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from hypothesis import given, settings
from hypothesis import strategies as st

from busbar.sdk import uuid7
from busbar_pm.events import PmTicketCreated
from busbar_pm.tests.conftest import Served
from busbar_pm.tests.test_assets_over_http import SLOW_FIXTURES, add
from busbar_pm.tests.work import (
    PROSE,
    TARGET_HOURS,
    TICKET_ID,
    check_ticket,
    events_of,
    report,
    ticket_of,
    written,
)


class TestReport:
    @settings(max_examples=25, deadline=None, suppress_health_check=SLOW_FIXTURES)
    @given(
        fault_type=st.sampled_from(["fault", "outage", "degradation"]),
        severity=st.sampled_from(list(TARGET_HOURS)),
        description=PROSE,
    )
    async def test_opens_an_incident_ticket_with_id_and_deadline(
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

    async def test_is_told_with_what_the_asset_is(self, erna: httpx.AsyncClient) -> None:
        asset_id = await add(erna, name="Feeder 7", customers_served=120, latitude=54.5, longitude=9.0)
        opened = await report(erna, asset_id)
        (told,) = await events_of(opened, "PM_TICKET_CREATED", PmTicketCreated)
        assert told.ticket_id == opened["ticket_id"]
        assert told.site == "north"
        assert (told.incident.asset_name, told.incident.customers_affected) == ("Feeder 7", 120)
        assert (told.incident.latitude, told.incident.customers_restored) == (54.5, 0)

    async def test_of_an_outage_affects_all_who_are_supplied_through_the_asset(self, erna: httpx.AsyncClient) -> None:
        asset_id = await add(erna, customers_served=900)
        for fault_type, customers in (("outage", 900), ("fault", 0), ("degradation", 0)):
            opened = await report(erna, asset_id, fault_type=fault_type)
            incident = (await erna.get(f"/api/v1/pm/incidents/{opened['incident_id']}")).json()
            assert incident["customers_affected"] == customers

    @settings(max_examples=20, deadline=None, suppress_health_check=SLOW_FIXTURES)
    @given(asset_id=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,59}", fullmatch=True).map("GHOST".__add__))
    async def test_on_an_unknown_asset_is_404_and_writes_nothing(self, erna: httpx.AsyncClient, asset_id: str) -> None:
        asset_id = asset_id[:60]
        before = await written()
        body = {"asset_id": asset_id, "fault_type": "fault", "severity": "P1", "description": "?"}
        answer = await erna.post("/api/v1/pm/incidents", json=body)
        assert (answer.status_code, answer.json()["code"]) == (404, "RES_001")
        assert await written() == before

    async def test_on_an_asset_of_another_site_is_404_and_writes_nothing(
        self, served: Served, erna: httpx.AsyncClient
    ) -> None:
        foreign = await add(await served.client(), site="south")
        before = await written()
        body = {"asset_id": foreign, "fault_type": "fault", "severity": "P1", "description": "?"}
        assert (await erna.post("/api/v1/pm/incidents", json=body)).status_code == 404
        assert await written() == before

    async def test_of_something_in_the_future_is_refused(self, erna: httpx.AsyncClient) -> None:
        tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
        body = {"asset_id": await add(erna), "fault_type": "outage", "severity": "P1", "description": ""}
        answer = await erna.post("/api/v1/pm/incidents", json=body | {"started_at": tomorrow})
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "started_at")

    async def test_is_not_taken_twice_from_the_same_source(self, erna: httpx.AsyncClient) -> None:
        asset_id, source_ref = await add(erna), f"R-{uuid7()}"
        await report(erna, asset_id, source_ref=source_ref)
        before = await written()
        body = {"asset_id": asset_id, "fault_type": "fault", "severity": "P4", "description": ""}
        again = await erna.post("/api/v1/pm/incidents", json=body | {"source_ref": source_ref})
        assert (again.status_code, again.json()["code"]) == (409, "RES_002")
        assert await written() == before

    async def test_among_bad_ones_is_not_harmed_by_them(self, erna: httpx.AsyncClient) -> None:
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
