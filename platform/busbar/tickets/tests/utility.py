"""A running utility: the platform over HTTP, a clock that is set by hand, and somebody who may do everything."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from busbar.auth.actor import Context, system_actor
from busbar.testing.app import Client, RunningApp, running_app
from busbar.testing.database import TestServer
from busbar.tickets.tests.desk import HandClock

MONDAY = datetime(2026, 11, 23, 14, 30, 0, 250_000, tzinfo=UTC)
"""15:30 in Berlin, half an hour before the office closes."""


class Utility:
    """A running platform, its clock, and somebody who may do everything."""

    def __init__(self, app: RunningApp, clock: HandClock, client: Client) -> None:
        self.app = app
        self.clock = clock
        self.client = client
        self.system = Context(actor=system_actor("core"), correlation_id="job", clock=clock)

    async def at(self, moment: datetime) -> None:
        """Set the clock; the token of before is too old then."""
        self.clock.now = moment
        self.client = await self.app.sign_in("admin")

    async def later(self, **by: float) -> None:
        await self.at(self.clock.now + timedelta(**by))

    async def incident(self, site: str, severity: str = "P1") -> str:
        asset = await self.client.post("/pm/assets", {"asset_type": "feeder", "name": "Feeder", "site": site})
        incident = {"asset_id": asset["asset_id"], "fault_type": "fault", "severity": severity, "description": "Noise"}
        return str((await self.client.post("/pm/incidents", incident))["ticket_id"])

    async def put(self, path: str, body: Any, *, status: int = 200, **headers: str) -> Any:
        answer = await self.client.send(
            "PUT", path, body, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )
        assert answer.status == status, answer
        return answer.body

    async def alerts(self, ticket_id: str) -> list[str]:
        events = await self.client.get(f"/tickets/{ticket_id}/events")
        return [f"{each['type']} {each['data']['target']}" for each in events if "_SLA_" in each["type"]]


@asynccontextmanager
async def utility(postgres: TestServer, clock: HandClock, **more: Any) -> AsyncIterator[Utility]:
    async with running_app(postgres, clock=clock, **more) as app:
        yield Utility(app, clock, await app.client())
