"""The connector inside the running platform: each endpoint with a queue of its own, hostile addresses refused."""

from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio

from busbar.testing.app import Client, RunningApp
from busbar_webhook.simulator import Simulator, run_simulator

INCIDENTS = 5


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def receivers(app: RunningApp) -> AsyncIterator[tuple[Simulator, Simulator]]:
    """Two receivers, each known to the platform, with a published route of all events."""
    async with run_simulator() as bad, run_simulator() as good:
        admin = await app.client()
        site = (await admin.get("/sites"))["items"][0]["site_id"]
        await admin.post("/pm/assets", {"asset_id": "FD-1", "asset_type": "feeder", "name": "Feeder", "site": site})
        await app.quiet()
        for name, receiver in (("bad", bad), ("good", good)):
            await admin.post("/endpoints", endpoint(name, {**receiver.endpoint_settings, "timeout_s": 3}, receiver))
            route = {"route_id": f"to-{name}", "name": name, "pattern": ["*"], "endpoint_id": name}
            await admin.post("/routes", route)
            await admin.post(f"/routes/to-{name}/publish", status=200)
        yield bad, good


def endpoint(name: str, settings: dict[str, Any], receiver: Simulator) -> dict[str, Any]:
    return {
        "endpoint_id": name,
        "connector": "webhook",
        "name": name,
        "settings": settings,
        "secrets": dict(receiver.endpoint_secrets),
    }


async def report(admin: Client, count: int) -> set[str]:
    """Report incidents; returns their tickets."""
    reported = set()
    for n in range(count):
        incident = {"asset_id": "FD-1", "fault_type": "outage", "severity": "P2", "description": f"Fault {n}"}
        reported.add((await admin.post("/pm/incidents", incident))["ticket_id"])
    return reported


class TestQueues:
    async def test_one_endpoint_that_hangs_or_is_down_holds_up_no_other(
        self, app: RunningApp, receivers: tuple[Simulator, Simulator]
    ) -> None:
        bad, good = receivers
        admin = await app.client()
        for kind in ("slow", "down"):
            bad.misbehave(kind, delay_s=60)
            taken = len(bad.messages())
            expected = len(good.messages()) + INCIDENTS
            tickets = await report(admin, INCIDENTS)
            # None of them waits for an attempt at the other endpoint, which lasts for as long as its timeout.
            messages = await good.wait_for_messages(expected, timeout_s=60)
            assert {one.subject for one in messages[-INCIDENTS:]} == tickets
            assert len(bad.messages()) == taken
            states = await admin.get("/deliveries?endpoint=bad&limit=100")
            waiting = [one["state"] for one in states["items"] if one["state"] != "delivered"]
            assert len(waiting) >= INCIDENTS
            assert set(waiting) <= {"pending", "in_flight", "retrying"}
            bad.behave()
        await admin.post("/endpoints/bad/resume", status=200)
        everything = {one.fields["id"] for one in good.messages()}
        assert {one.fields["id"] for one in await bad.wait_for_messages(2 * INCIDENTS, timeout_s=60)} == everything
        assert len(bad.messages()) == len(everything)


class TestAddresses:
    async def test_of_what_the_operator_has_not_allowed_are_refused_when_they_are_entered(
        self, app: RunningApp, receivers: tuple[Simulator, Simulator]
    ) -> None:
        admin = await app.client()
        for url in ("http://169.254.169.254/latest/meta-data", "https://10.0.0.5/hooks", "http://2130706433/"):
            answer = await admin.send("POST", "/endpoints", endpoint("hostile", {"url": url}, receivers[1]))
            assert answer.status == 400
            assert [error["field"] for error in answer.body["errors"]] == ["settings.url"]

    async def test_a_bad_signing_secret_is_refused_when_it_is_entered(
        self, app: RunningApp, receivers: tuple[Simulator, Simulator]
    ) -> None:
        admin = await app.client()
        body = endpoint("hasty", {"url": receivers[1].address}, receivers[1]) | {"secrets": {"webhook_secret": "abc"}}
        answer = await admin.send("POST", "/endpoints", body)
        assert answer.status == 400
        assert [error["field"] for error in answer.body["errors"]] == ["secrets.webhook_secret"]
