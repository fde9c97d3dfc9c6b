"""A fresh database, simulator, session and endpoint for each test, and a clock that tests can move."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import msgspec
import pytest

from busbar.sdk import Attempt, Endpoint, Receipt, SchemaApp, Secret, SecretBag
from busbar.testing.plugins import load_plugin, schema_with
from busbar_erp import plugin
from busbar_erp.auth import BasicAuth, CsrfToken
from busbar_erp.client import ODataClient
from busbar_erp.delivery import deliver
from busbar_erp.settings import ErpSettings
from busbar_erp.simulator import Simulator, run_simulator
from busbar_erp.simulator.store import Row
from busbar_erp.tests.golden import Event

ERP = load_plugin(plugin, name="erp")
ENDPOINT = "sap"


class MovableClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 28, 9, 30, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def move(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def schema_apps() -> Sequence[SchemaApp]:
    return schema_with(ERP)


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
async def simulator(clock: MovableClock) -> AsyncIterator[Simulator]:
    async with run_simulator(clock=clock) as running:
        yield running


def new_session() -> aiohttp.ClientSession:
    """A session like the platform's: it keeps cookies of bare addresses too."""
    return aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with new_session() as opened:
        yield opened


@pytest.fixture
def client(session: aiohttp.ClientSession, simulator: Simulator) -> ODataClient:
    auth = BasicAuth(simulator.credentials.username, simulator.credentials.password)
    return ODataClient(session, simulator.url, auth, csrf=CsrfToken(), sap_client="100", language="EN", timeout_s=5)


class Office:
    """Busbar's side in small: an endpoint of the simulator, and what a worker does with it."""

    def __init__(self, simulator: Simulator, session: aiohttp.ClientSession, clock: MovableClock) -> None:
        self.simulator = simulator
        self.session = session
        self.clock = clock
        self.secrets = dict(simulator.endpoint_secrets)
        self.settings = msgspec.convert({**simulator.endpoint_settings, "timeout_s": 5}, ErpSettings)

    def configure(self, **settings: Any) -> None:
        """Change settings."""
        self.settings = msgspec.structs.replace(self.settings, **settings)

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(
            endpoint_id=ENDPOINT,
            name="SAP",
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

    def one(self, entity_set: str, **equal: Any) -> Row:
        """The one record of an entity set; fails when there are none or several."""
        [row] = self.simulator.rows(entity_set, **equal)
        return row

    def notification(self) -> Row:
        return self.one("MaintenanceNotification")

    def writes(self) -> list[str]:
        """What was written in SAP, in order: methods with entity sets, or functions."""
        return [effect.function or f"{effect.method} {effect.entity_set}" for effect in self.simulator.effects]


@pytest.fixture
def office(database: str, simulator: Simulator, session: aiohttp.ClientSession, clock: MovableClock) -> Office:
    return Office(simulator, session, clock)
