"""The connector inside the running platform: told by a route, asked by the poller, with its table in the database."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest_asyncio

from busbar.testing.app import RunningApp
from busbar_erp.simulator import Simulator, run_simulator

ENDPOINT = "sap"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def sap(app: RunningApp) -> AsyncIterator[Simulator]:
    """A simulator that the platform knows, with a published route of both modules to it."""
    async with run_simulator() as simulator:
        admin = await app.client()
        settings = {**simulator.endpoint_settings, "poll_s": 0.2}
        endpoint = {"endpoint_id": ENDPOINT, "connector": "erp", "name": "SAP", "settings": settings}
        await admin.post("/endpoints", {**endpoint, "secrets": dict(simulator.endpoint_secrets)})
        route = {"route_id": "to-sap", "name": "To SAP", "pattern": ["MM_*", "PM_*"], "endpoint_id": ENDPOINT}
        await admin.post("/routes", route)
        await admin.post("/routes/to-sap/publish", status=200)
        yield simulator


async def until(check: Callable[[], Awaitable[Any]]) -> Any:
    """Wait for something that the poller brings about; it looks once a second."""
    async with asyncio.timeout(20):
        while not (found := await check()):
            await asyncio.sleep(0.05)
        return found


class TestPlatform:
    async def test_an_outage_becomes_a_notification_and_its_completion_closes_the_ticket_without_echo(
        self, app: RunningApp, sap: Simulator
    ) -> None:
        admin = await app.client()
        site = (await admin.get("/sites"))["items"][0]["site_id"]
        asset = {"asset_id": "FD-012", "asset_type": "feeder", "name": "Feeder 12", "site": site}
        await admin.post("/pm/assets", asset)
        outage = {"asset_id": "FD-012", "fault_type": "outage", "severity": "P2", "description": "Cable fault"}
        ticket_id = (await admin.post("/pm/incidents", outage))["ticket_id"]
        await app.quiet()
        [row] = sap.rows("MaintenanceNotification")
        assert row["NotificationText"] == "Outage at FD-012: Cable fault"
        key = {"MaintenanceNotification": row["MaintenanceNotification"]}
        sap.change("MaintenanceNotification", key, NotifProcessingPhase="4")

        async def closed() -> bool:
            return bool((await admin.get(f"/tickets/{ticket_id}"))["status"] == "Closed")

        await until(closed)
        await app.quiet()
        await asyncio.sleep(1.5)
        # What the core made of it is not told back to SAP, and no poll took it for news.
        assert [effect.method for effect in sap.effects] == ["POST", "CHANGE"]
        deliveries = (await admin.get(f"/deliveries?endpoint_id={ENDPOINT}"))["items"]
        assert {one["state"] for one in deliveries} == {"delivered", "skipped"}
        inbound = (await admin.get(f"/endpoints/{ENDPOINT}/inbound"))["items"]
        assert [one["outcome"] for one in inbound] == [f"applied: {ticket_id} Closed"]
