"""What the tests of identity share: a database, the service on a clock of their own, and a small application."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from litestar import Litestar, get

from busbar.auth.actor import Context, system_actor
from busbar.auth.config import AuthSettings
from busbar.auth.guards import RequestContext, access_middleware, auth_dependencies
from busbar.auth.permissions import Permission, PermissionRegistry, RoleDefault
from busbar.auth.service import Auth
from busbar.kit.clock import Clock
from busbar.web.access import ANYONE, AUTHENTICATED, SIGNED, needs
from busbar.web.idempotency import idempotency_middleware
from busbar.web.problems import EXCEPTION_HANDLERS
from busbar.web.validation import StrictRequest

PASSWORD = "correct horse battery"


class ManualClock:
    """A clock that stands still until it is moved."""

    def __init__(self, now: datetime | None = None) -> None:
        self.now = now or datetime(2026, 11, 23, 8, 0, 0, 250_000, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **period: float) -> None:
        """Move forward, for example by `minutes=5`."""
        self.now += timedelta(**period)


class TestBox:
    """Encrypts with a random key that dies with the test."""

    __test__ = False

    def __init__(self) -> None:
        self._cipher = AESGCM(os.urandom(32))

    def encrypt(self, plain: bytes, *, context: str) -> str:
        nonce = os.urandom(12)
        return (nonce + self._cipher.encrypt(nonce, plain, context.encode())).hex()

    def is_current(self, sealed: str) -> bool:
        return True

    def decrypt(self, sealed: str, *, context: str) -> bytes:
        raw = bytes.fromhex(sealed)
        return self._cipher.decrypt(raw[:12], raw[12:], context.encode())


def registry() -> PermissionRegistry:
    """The core's permissions and those of an imagined plugin."""
    made = PermissionRegistry()
    made.declare(
        [Permission(name="pm.read", title="See maintenance"), Permission(name="pm.write", title="Change maintenance")],
        [RoleDefault(role="Engineer", title="Engineer", permissions=("pm.read", "pm.write"))],
    )
    return made


def context(clock: Clock | None = None) -> Context:
    """The context of a command that a test calls directly."""
    return Context(actor=system_actor("test"), correlation_id="test-correlation", clock=clock or ManualClock())


@get("/open", opt=ANYONE)
async def open_route(ctx: RequestContext) -> dict[str, str]:
    return {"username": ctx.actor.username}


@get("/signed", opt=SIGNED)
async def signed_route() -> str:
    return "signed"


@get("/mine", opt=AUTHENTICATED)
async def mine(ctx: RequestContext) -> dict[str, Any]:
    return {"username": ctx.actor.username, "sites": ctx.actor.site_filter, "correlation_id": ctx.correlation_id}


@get("/pm", opt=needs("pm.read"))
async def pm_read() -> str:
    return "pm"


@get("/forgotten")
async def forgotten() -> str:
    return "nobody may read this"


def application(auth: Auth, *handlers: Any) -> Litestar:
    """The guard and the given routes, put together as the platform does it."""
    return Litestar(
        route_handlers=[open_route, signed_route, mine, pm_read, forgotten, *handlers],
        middleware=[access_middleware(auth), idempotency_middleware(auth.clock)],
        dependencies=auth_dependencies(auth),
        exception_handlers=EXCEPTION_HANDLERS,
        request_class=StrictRequest,
        openapi_config=None,
    )


@asynccontextmanager
async def running(auth: Auth, *handlers: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of such an application, in the loop of the test."""
    transport = httpx.ASGITransport(application(auth, *handlers), client=("192.0.2.9", 4711))  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://busbar.test") as client:
        yield client


@asynccontextmanager
async def identity(clock: ManualClock | None = None, **settings: Any) -> AsyncIterator[Auth]:
    """A started identity service."""
    auth = Auth(AuthSettings(**settings), box=TestBox(), registry=registry(), clock=clock or ManualClock())
    await auth.start()
    try:
        yield auth
    finally:
        auth.close()
