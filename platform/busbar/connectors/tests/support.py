"""What the tests of endpoints share: a small remote system, its connector, and the work of a process on it."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
from aiohttp import web

from busbar.auth.actor import Actor, Context, system_actor
from busbar.bus.embedded import EmbeddedTransport
from busbar.bus.worker import Worker
from busbar.connectors import commands
from busbar.connectors.breaker import BreakerPolicy
from busbar.connectors.contract import (
    Attempt,
    ConnectionReport,
    Connector,
    DeliveryClass,
    Endpoint,
    InboundMessage,
    NothingToTell,
    Permanent,
    Receipt,
    RemoteChange,
)
from busbar.connectors.desk import EndpointDesk
from busbar.connectors.http import failure_of_status
from busbar.connectors.secrets import KeyRing, Secret
from busbar.db import execute, fetch, fetchval, spawn
from busbar.db.wakeup import Channel, poke, signal, wait_for
from busbar.kit.clock import utc_now
from busbar.kit.ids import uuid7

CANARY = "canary+7f3a/no one may ever see this"
"""The secret of the tests' endpoint; it has characters that look different in JSON, addresses and base64."""
SUBSCRIPTION = "route:acme"
QUICK = BreakerPolicy(failures_max=3, open_s_first=0.1, open_s_max=0.2, probe_s_max=5.0)
SITE = "north"


class Remote:
    """The remote system: keeps records by subject, and misbehaves as it is told."""

    def __init__(self) -> None:
        self.token = CANARY
        self.records: dict[str, list[str]] = {}
        """The events that were accepted, by subject, in order."""
        self.requests: list[str] = []
        """The subject of every request, refused ones too."""
        self.poison: set[str] = set()
        self.refused: set[str] = set()
        self.limited_until: float | None = None
        self.hold: asyncio.Event | None = None
        """While set, requests wait for it."""
        self.held = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listen; again on the same port after a stop."""
        app = web.Application()
        app.router.add_post("/records", self._write)
        app.router.add_get("/ping", self._ping)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _write(self, request: web.Request) -> web.Response:
        sent = await request.json()
        subject = sent["subject"]
        self.requests.append(subject)
        if self.hold is not None:
            self.held.set()
            await self.hold.wait()
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return web.Response(status=401, text=f"bad token {request.headers.get('Authorization')}")
        if self.limited_until is not None and time.time() < self.limited_until:
            return web.Response(status=429, headers={"Retry-After": str(round(self.limited_until - time.time()) or 1)})
        if subject in self.poison:
            return web.Response(status=500)
        if subject in self.refused:
            return web.Response(status=400)
        known = self.records.setdefault(subject, [])
        duplicate = sent["event"] in known
        if not duplicate:
            known.append(sent["event"])
        return web.json_response({"id": f"REM-{subject}", "revision": str(len(known)), "duplicate": duplicate})

    async def _ping(self, request: web.Request) -> web.Response:
        well = request.headers.get("Authorization") == f"Bearer {self.token}"
        return web.Response(status=200 if well else 401)


class AcmeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where the remote is."""

    base_url: str
    project: str = "ops"
    batch: int = 1


ATTEMPTS: list[Attempt] = []
"""Every attempt that the connector was asked for; emptied by the fixture."""


async def deliver(endpoint: Endpoint, attempt: Attempt) -> Receipt:
    ATTEMPTS.append(attempt)
    token = endpoint.secrets["token"].reveal()
    if attempt.event["subject"].startswith("idle"):
        raise NothingToTell("Acme keeps no such records.")
    if attempt.event["subject"] == "leaky":
        raise RuntimeError(f"cannot use {token}")
    body = {"subject": attempt.event["subject"], "event": attempt.event["id"]}
    headers = {"Authorization": f"Bearer {token}"}
    async with endpoint.http.post(f"{endpoint.settings.base_url}/records", json=body, headers=headers) as response:
        if response.status != 200:
            raise failure_of_status(response.status, response.headers, now=endpoint.clock())
        answer = await response.json()
    return Receipt(remote_id=answer["id"], duplicate=answer["duplicate"], marker=answer["revision"])


def compose(settings: AcmeSettings, attempt: Attempt) -> dict[str, Any]:
    subject = attempt.event["subject"]
    if subject.startswith("idle"):
        raise NothingToTell("Acme keeps no such records.")
    if subject.startswith("bad"):
        raise Permanent("Acme cannot be told of it.")
    if subject == "broken":
        raise KeyError("ticket_id")
    return {"path": "/records", "body": {"subject": subject, "event": attempt.event["id"]}, "of": settings.project}


async def check(endpoint: Endpoint) -> ConnectionReport:
    token = endpoint.secrets["token"].reveal() if "token" in endpoint.secrets else "none"
    async with endpoint.http.get(
        f"{endpoint.settings.base_url}/ping", headers={"Authorization": f"Bearer {token}"}
    ) as response:
        ok = response.status == 200
    return ConnectionReport(ok=ok, detail="It answers." if ok else f"It refuses the token {token}.")


async def receive(endpoint: Endpoint, message: InboundMessage) -> tuple[RemoteChange, ...]:
    changes = msgspec.json.decode(message.body)["changes"]
    return tuple(msgspec.convert(change, RemoteChange) for change in changes)


ACME = Connector(
    kind="acme",
    title="Acme",
    delivery_class=DeliveryClass.A,
    settings=AcmeSettings,
    secrets=("token",),
    deliver=deliver,
    compose=compose,
    test_connection=check,
    receive=receive,
    default_pattern="pm.*",
)
RING = KeyRing.generate()


def context(*, sites: Sequence[str] = ("*",), permissions: Sequence[str] = ("*",)) -> Context:
    """The context of a command that a test calls directly."""
    if tuple(sites) == ("*",) and tuple(permissions) == ("*",):
        actor = system_actor("test")
    else:
        actor = Actor(user_id="user-1", username="anna", sites=tuple(sites), permissions=frozenset(permissions))
    return Context(actor=actor, correlation_id="test-correlation", clock=utc_now)


def make_desk(
    *,
    quarantined: Callable[[str], bool] = lambda name: False,
    connector: Connector = ACME,
    brokered: bool = False,
    key_ring: KeyRing = RING,
) -> EndpointDesk:
    """The endpoints of an imagined process."""
    return EndpointDesk(
        {connector.kind: connector},
        key_ring=key_ring,
        egress=(),
        allow_loopback=True,
        clock=utc_now,
        quarantined=quarantined,
        policy=QUICK,
        brokered=brokered,
    )


async def add_site(*names: str) -> None:
    for name in names:
        await execute(
            "insert into core.site (site_id, name, created_at) values ($1, $1, now()) on conflict do nothing", name
        )


async def add_endpoint(desk: EndpointDesk, remote: Remote, *, secrets: dict[str, str] | None = None) -> None:
    """The endpoint `acme-1` of all sites, with a route to it that gives up after four attempts."""
    given = {"token": CANARY} | (secrets or {})
    await commands.create_endpoint(
        context(),
        desk,
        endpoint_id="acme-1",
        connector="acme",
        name="Acme",
        settings={"base_url": remote.url},
        secrets={name: Secret(text) for name, text in given.items()},
    )
    await execute(
        "insert into core.route (route_id, name, sites, pattern, endpoint_id, attempts_max, state, created_at, "
        "updated_at) values ('acme', 'acme', '{}', '{*}', 'acme-1', 4, 'published', now(), now())"
    )
    await desk.refresh()


async def add_deliveries(*subjects: str) -> list[UUID]:
    """One event for each subject with its delivery, as the relay leaves them; returns the events' ids in order."""
    ids = []
    last = await fetchval("select coalesce(max(position), 0) from core.event")
    for number, subject in enumerate(subjects, last + 1):
        event_id = uuid7()
        ids.append(event_id)
        await execute(
            "insert into core.event (event_id, event_type, module, site_id, subject, time, data, correlation_id, "
            "actor_id, position) values ($1, 'PM_TICKET_UPDATED', 'pm', $2, $3, now(), '{}', 'c-1', 'u-1', $4)",
            event_id,
            SITE,
            subject,
            number,
        )
        await execute(
            "insert into core.delivery (event_id, position, subscription, endpoint_id, route_id, route_version, "
            "site_id, ordering_key, state, next_attempt_at, created_at, updated_at) "
            "values ($1, $2, $3, 'acme-1', 'acme', 1, $4, $5, 'pending', now(), now(), now())",
            event_id,
            number,
            SUBSCRIPTION,
            SITE,
            subject,
        )
    poke(Channel.DELIVERIES)
    return ids


@asynccontextmanager
async def working(desk: EndpointDesk, *, number: int = 1) -> AsyncIterator[None]:
    """A process that works on the deliveries and hears of changed endpoints, for the time of the block."""
    worker = Worker(EmbeddedTransport(), lambda: {SUBSCRIPTION: desk.lane("acme-1")}, number=number)

    async def keep_fresh() -> None:
        with signal(Channel.CONFIG) as changed:
            while True:
                await wait_for(changed, poll_s=5)
                await desk.refresh()

    tasks = [spawn(worker.run(), name=f"worker-{number}", pool="background"), spawn(keep_fresh(), name="refresh")]
    try:
        yield
    finally:
        await worker.stop(within_s=2)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def states() -> dict[str, int]:
    """How many deliveries are in which state."""
    rows = await fetch("select state, count(*) as n from core.delivery group by state")
    return {row["state"]: row["n"] for row in rows}


async def state_of(subject: str) -> Any:
    """The delivery of the subject's only event."""
    (row,) = await fetch(
        "select d.* from core.delivery d join core.event e using (event_id) where subject = $1", subject
    )
    return row


async def breaker() -> dict[str, Any]:
    """What is stored of the endpoint's breaker; empty when nothing ever failed."""
    stored = await fetchval("select breaker from core.endpoint where endpoint_id = 'acme-1'")
    return {} if stored is None else msgspec.json.decode(stored)


async def until(condition: Callable[[], Awaitable[bool]], *, within_s: float = 30.0) -> None:
    """Wait for what other tasks bring about in the database, which tells nobody.

    Raises:
        AssertionError: it did not come about in time.
    """
    deadline = utc_now() + timedelta(seconds=within_s)
    while not await condition():
        assert utc_now() < deadline, f"it did not come about; deliveries: {await states()}, breaker: {await breaker()}"
        await asyncio.sleep(0.02)


async def all_delivered(count: int, **others: int) -> None:
    """Wait until so many are delivered, and of the `others` so many are in the state of that name."""

    async def reached() -> bool:
        return await states() == {"delivered": count, **others}

    await until(reached)
