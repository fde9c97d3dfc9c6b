"""A fresh simulator, a session, a client and an endpoint for each test, and a clock that tests can move."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import msgspec
import pytest

from busbar.sdk import Attempt, Endpoint, Receipt, Secret, SecretBag
from busbar_itsm.client import BasicAuth, TableClient
from busbar_itsm.delivery import deliver
from busbar_itsm.settings import ItsmSettings
from busbar_itsm.simulator import Simulator, run_simulator
from busbar_itsm.tests.golden import TICKET, Event


class MovableClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 23, 9, 20, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def move(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
async def simulator(clock: MovableClock) -> AsyncIterator[Simulator]:
    async with run_simulator(clock=clock) as running:
        yield running


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened:
        yield opened


@pytest.fixture
def basic(simulator: Simulator) -> BasicAuth:
    return BasicAuth(simulator.credentials.username, simulator.credentials.password)


@pytest.fixture
def client(session: aiohttp.ClientSession, simulator: Simulator, basic: BasicAuth) -> TableClient:
    return TableClient(session, simulator.url, basic, timeout_s=5)


class ServiceOffice:
    """Busbar's side in small: an endpoint of the simulator, and what a worker does with it."""

    def __init__(self, simulator: Simulator, session: aiohttp.ClientSession, clock: MovableClock) -> None:
        self.simulator = simulator
        self.session = session
        self.clock = clock
        self.secrets = {"password": simulator.credentials.password}
        self.settings = ItsmSettings(base_url=simulator.url, username=simulator.credentials.username, timeout_s=5)

    def configure(self, **settings: Any) -> None:
        """Change settings."""
        self.settings = msgspec.structs.replace(self.settings, **settings)

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(
            endpoint_id="service-desk",
            name="Service desk",
            sites=(),
            settings=self.settings,
            secrets=SecretBag({name: Secret(text) for name, text in self.secrets.items()}),
            http=self.session,
            clock=self.clock,
        )

    async def deliver(
        self, event: Event, *, document: dict[str, Any] | None = None, remote_id: str | None = None, number: int = 1
    ) -> Receipt:
        """One attempt."""
        attempt = Attempt(
            number=number,
            first=number == 1,
            delivery_id="019ab0c4-7d2e-7000-8000-00000000d001",
            correlation_id=event["correlationid"],
            event=event,
            document=document,
            remote_id=remote_id,
        )
        return await deliver(self.endpoint, attempt)

    def incident(self, ticket_id: str = TICKET) -> dict[str, str]:
        """The one record of a ticket; fails when there are none or several."""
        [row] = self.simulator.incidents(ticket_id)
        return row

    def notes(self, ticket_id: str = TICKET, *, element: str = "work_notes") -> list[str]:
        """The journal of a ticket's record, oldest first."""
        entries = self.simulator.api.records.journal(self.incident(ticket_id)["sys_id"], element)
        return [entry["value"] for entry in entries][::-1]


@pytest.fixture
def office(simulator: Simulator, session: aiohttp.ClientSession, clock: MovableClock) -> ServiceOffice:
    return ServiceOffice(simulator, session, clock)
