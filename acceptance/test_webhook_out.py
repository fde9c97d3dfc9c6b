"""Webhooks to an independent receiver: it is down for a while, its secret changes, and each event is there once."""

import asyncio
import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from acceptance.api import Api
from acceptance.processes import Installation, JsonProcess, free_port, installation

SECRETS = tuple("whsec_" + base64.b64encode(os.urandom(32)).decode() for _ in range(2))
REPORTS = 8


class Receiver:
    """The receiver's process, and what it has told."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}/hooks"

    async def start(self, secret: str) -> None:
        """Listen, knowing what was taken before."""
        arguments = ("-m", "acceptance.webhook_receiver", str(self._folder), str(self._port), secret)
        self._process = JsonProcess(*arguments)
        await asyncio.to_thread(self._process.read)

    def kill(self) -> None:
        """kill -9."""
        self._process.process.kill()
        self._process.process.wait()

    @property
    def taken(self) -> list[dict[str, Any]]:
        """What was verified and taken, in order."""
        return self._lines("taken")

    @property
    def refused(self) -> list[dict[str, Any]]:
        """What did not verify."""
        return self._lines("refused")

    def _lines(self, name: str) -> list[dict[str, Any]]:
        file = self._folder / f"{name}.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


async def furnish(api: Api, receiver: Receiver) -> None:
    """A site with an asset, the endpoint, and a published route of all events to it."""
    await api.post("/api/v1/sites", {"site_id": "north", "name": "Depot North", "modules": ["pm"]})
    asset = {"asset_id": "TRF-1", "asset_type": "transformer", "name": "Transformer 1", "site": "north"}
    await api.post("/api/v1/pm/assets", asset)
    endpoint = {"endpoint_id": "control-room", "connector": "webhook", "name": "Control room"}
    settings = {"url": receiver.url, "receiver_deduplicates": True, "timeout_s": 5}
    secrets = {"webhook_secret": SECRETS[0]}
    await api.post("/api/v1/endpoints", endpoint | {"settings": settings, "secrets": secrets})
    route = {"route_id": "all", "name": "All events", "pattern": ["*"], "endpoint_id": "control-room"}
    await api.post("/api/v1/routes", route)
    await api.post("/api/v1/routes/all/publish")


async def report(api: Api) -> None:
    """Report incidents, and move each ticket on."""
    for n in range(REPORTS):
        incident = {"asset_id": "TRF-1", "fault_type": "outage", "severity": "P2", "description": f"Report {n}"}
        reported = await api.post("/api/v1/pm/incidents", incident)
        await api.patch(f"/api/v1/tickets/{reported['ticket_id']}/status", {"new_status": "Assigned"})


async def sign_with(api: Api, *secrets: str) -> None:
    """Have Busbar sign with these from now on."""
    await api.patch("/api/v1/endpoints/control-room", {"secrets": {"webhook_secret": " ".join(secrets)}})


async def check_each_once(installed: Installation, receiver: Receiver) -> None:
    """Every event of the route is at the receiver once, those of one ticket in their order, and nothing was refused."""
    rows = await installed.query(
        "select e.event_id::text as id, e.subject, d.delivery_id, d.state, d.remote_id from core.delivery d "
        "join core.event e using (event_id) where d.endpoint_id = 'control-room' order by d.position"
    )
    assert {row["state"] for row in rows} == {"delivered"}
    ids = [one["webhook_id"] for one in receiver.taken]
    assert len(ids) == len(set(ids)) == len(rows)
    assert set(ids) == {f"{row['id']}_{row['delivery_id']}" for row in rows} == {row["remote_id"] for row in rows}
    for subject in {row["subject"] for row in rows}:
        told = [one["document"]["id"] for one in receiver.taken if one["document"]["subject"] == subject]
        assert told == [row["id"] for row in rows if row["subject"] == subject]
    assert receiver.refused == []


@pytest.mark.slow
class TestWebhooks:
    async def test_reach_an_independent_receiver_once_though_it_is_down_and_its_secret_changes(
        self, tmp_path: Path
    ) -> None:
        old, new = SECRETS
        receiver = Receiver(tmp_path)
        await receiver.start(old)
        try:
            async with installation() as installed:
                busbar = await installed.start()
                async with Api(busbar.url) as api:
                    await furnish(api, receiver)
                    await report(api)
                    await api.drained(within_s=20)
                    receiver.kill()
                    await report(api)
                    summary = await api.get("/api/v1/deliveries/summary")
                    assert summary["open"] >= REPORTS
                    assert summary["parked"] == 0
                    await receiver.start(old)
                    await api.post("/api/v1/endpoints/control-room/resume")
                    await api.drained(within_s=60)
                    # The operator adds the new secret, the receiver changes over, the operator removes the old one.
                    await sign_with(api, new, old)
                    await report(api)
                    await api.drained(within_s=20)
                    receiver.kill()
                    await receiver.start(new)
                    await report(api)
                    await sign_with(api, new)
                    await report(api)
                    await api.drained(within_s=60)
                    tested = await api.post("/api/v1/endpoints/control-room/test")
                    assert tested["ok"], tested
                    # The forged ping of the connection test is all that it ever refused.
                    assert [json.loads(one["body"])["type"] for one in receiver.refused] == ["busbar.ping"]
                    (tmp_path / "refused.jsonl").unlink()
                    await check_each_once(installed, receiver)
        finally:
            receiver.kill()
