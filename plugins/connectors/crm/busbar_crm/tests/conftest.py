"""A fresh simulator, a session, a client and an endpoint for each test, and a clock that tests can move."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from busbar.sdk import Attempt, Endpoint, Receipt, Secret, SecretBag
from busbar_crm.client import SalesforceClient
from busbar_crm.delivery import deliver
from busbar_crm.oauth import ClientCredentials, Session
from busbar_crm.settings import CrmSettings
from busbar_crm.simulator import Options, Simulator, run_simulator
from busbar_crm.tests.golden import TICKET, Event


class MovableClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 23, 9, 20, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def move(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture(scope="session")
def keys() -> tuple[str, str]:
    """A private and a public RSA key in PEM form."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public.decode()


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
async def simulator(clock: MovableClock, keys: tuple[str, str]) -> AsyncIterator[Simulator]:
    options = Options(tls_port=None, public_key=keys[1], webhook_retry_delays_s=(0.0, 0.0))
    async with run_simulator(options, clock=clock) as running:
        yield running


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened:
        yield opened


@pytest.fixture
def client(session: aiohttp.ClientSession, simulator: Simulator) -> SalesforceClient:
    grant = ClientCredentials(simulator.credentials.client_id, simulator.credentials.client_secret)
    return SalesforceClient(session, simulator.url, Session(grant), api_version="v64.0", timeout_s=5)


class ServiceOffice:
    """Busbar's side in small: an endpoint of the simulator, and what a worker does with it."""

    def __init__(self, simulator: Simulator, session: aiohttp.ClientSession, clock: MovableClock) -> None:
        self.simulator = simulator
        self.session = session
        self.clock = clock
        self.secrets = {"client_secret": simulator.credentials.client_secret}
        self.settings = CrmSettings(base_url=simulator.url, client_id=simulator.credentials.client_id, timeout_s=5)

    def configure(self, **settings: Any) -> None:
        """Change settings."""
        self.settings = msgspec.structs.replace(self.settings, **settings)

    def use_jwt(self, private_key: str) -> None:
        """Log in by an assertion."""
        self.configure(auth="jwt_bearer", username=self.simulator.credentials.username)
        self.secrets = {"private_key": private_key}

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(
            endpoint_id="service-team",
            name="Service team",
            sites=(),
            settings=self.settings,
            secrets=SecretBag({name: Secret(text) for name, text in self.secrets.items()}),
            http=self.session,
            clock=self.clock,
        )

    async def deliver(self, event: Event, *, document: dict[str, Any] | None = None, number: int = 1) -> Receipt:
        """One attempt."""
        attempt = Attempt(
            number=number,
            first=number == 1,
            delivery_id="019ab0c4-7d2e-7000-8000-00000000d001",
            correlation_id=event["correlationid"],
            event=event,
            document=document,
        )
        return await deliver(self.endpoint, attempt)

    def case(self, key: str = TICKET) -> dict[str, Any]:
        """The one Case with an external id; fails when there are none or several."""
        [row] = self.simulator.cases(key)
        return row

    def comments(self, key: str = TICKET) -> list[str]:
        """What people read in the comments, without the last line that says where each came from."""
        return [body.rpartition("\n— Busbar, ")[0] for body in self.simulator.comments(key)]


@pytest.fixture
def office(simulator: Simulator, session: aiohttp.ClientSession, clock: MovableClock) -> ServiceOffice:
    return ServiceOffice(simulator, session, clock)
