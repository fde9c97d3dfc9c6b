"""A receiver, an endpoint that sends to it as the platform does, and a remote that answers whatever a test wants."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web

from busbar.connectors.egress import Gate
from busbar.connectors.http import make_session
from busbar.kit.clock import utc_now
from busbar.sdk import Attempt, Endpoint, Receipt, Secret, SecretBag, new_signing_secret
from busbar_webhook.delivery import deliver
from busbar_webhook.settings import WebhookSettings
from busbar_webhook.simulator import Simulator, run_simulator

TICKET = "TKT-PM-20261123-0001"
EVENT_ID = "019ab0c4-7d2e-7a10-8c55-000000000001"
DELIVERY_ID = "4711"
MESSAGE_ID = f"{EVENT_ID}_{DELIVERY_ID}"
EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": EVENT_ID,
    "source": "/busbar/north/pm",
    "type": "PM_TICKET_CREATED",
    "subject": TICKET,
    "time": "2026-11-23T09:20:00.250000Z",
    "datacontenttype": "application/json",
    "data": {"ticket_id": TICKET, "priority": "P1", "title": "Überspannung am Trafo 12"},
    "correlationid": "3f0c9c1e",
    "site": "north",
    "schemaversion": 1,
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
}


def attempt(*, number: int = 1, delivery_id: str = DELIVERY_ID, document: dict[str, Any] | None = None) -> Attempt:
    """An attempt to deliver the event."""
    return Attempt(
        number=number,
        first=number == 1,
        delivery_id=delivery_id,
        correlation_id=EVENT["correlationid"],
        event=EVENT,
        document=document,
    )


class Sender:
    """Busbar's side in small: an endpoint, and what a worker does with it."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.session = session
        self.settings = WebhookSettings(url=url, timeout_s=5)
        self.secrets = {"webhook_secret": new_signing_secret().reveal()}
        self.clock = utc_now

    def configure(self, **settings: Any) -> None:
        """Change settings."""
        self.settings = msgspec.structs.replace(self.settings, **settings)

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(
            endpoint_id="control-room",
            name="Control room",
            sites=(),
            settings=self.settings,
            secrets=SecretBag({name: Secret(text) for name, text in self.secrets.items()}),
            http=self.session,
            clock=self.clock,
        )

    async def deliver(self, **given: Any) -> Receipt:
        """One attempt; see `attempt`."""
        return await deliver(self.endpoint, attempt(**given))


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with make_session(Gate(allow=(), allow_loopback=True)) as opened:
        yield opened


@pytest.fixture
async def receiver() -> AsyncIterator[Simulator]:
    async with run_simulator() as running:
        yield running


@pytest.fixture
def sender(receiver: Simulator, session: aiohttp.ClientSession) -> Sender:
    made = Sender(receiver.address, session)
    made.configure(receiver_deduplicates=True)
    made.secrets = dict(receiver.endpoint_secrets)
    return made


Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Remote:
    """A receiver that keeps each request as it came, and answers as `answer` says."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[tuple[dict[str, str], bytes]] = []
        """Headers with names in lower case, and body."""
        self.answer: Answer = self.well
        self._runner = web.ServerRunner(web.Server(self._take, access_log=None), shutdown_timeout=0.1)

    async def well(self, request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=204)

    def say(self, status: int, text: str = "", **headers: str) -> None:
        """Answer so from now on."""

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            return web.Response(status=status, text=text, headers=named)

        self.answer = answer

    async def _take(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests.append(({name.lower(): text for name, text in request.headers.items()}, await request.read()))
        return await self.answer(request)

    async def start(self) -> None:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/hooks"

    async def stop(self) -> None:
        await self._runner.cleanup()


@pytest.fixture
async def remote() -> AsyncIterator[Remote]:
    started = Remote()
    await started.start()
    try:
        yield started
    finally:
        await started.stop()


@pytest.fixture
def to_remote(remote: Remote, session: aiohttp.ClientSession) -> Sender:
    return Sender(remote.url, session)
