"""A small application with the real guard, edge and routes of endpoints, and people who may use them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from litestar import Litestar
from litestar.datastructures import State

from busbar.auth.commands import create_user
from busbar.auth.config import AuthSettings
from busbar.auth.guards import access_middleware, auth_dependencies
from busbar.auth.permissions import ADMIN, PermissionRegistry, RoleDefault
from busbar.auth.service import Auth
from busbar.auth.sessions import login
from busbar.auth.tests.support import TestBox
from busbar.connectors.desk import EndpointDesk
from busbar.connectors.inbound import ApplyChange
from busbar.connectors.routes import ROUTES
from busbar.connectors.tests.support import context
from busbar.kit.clock import utc_now
from busbar.tickets.commands import apply_remote_change
from busbar.web.asgi import Edge
from busbar.web.idempotency import idempotency_middleware
from busbar.web.problems import EXCEPTION_HANDLERS
from busbar.web.validation import StrictRequest

PASSWORD = "correct horse battery"
BOX = TestBox()
"""One for all: several applications of a test share a database."""


@asynccontextmanager
async def serving(desk: EndpointDesk, *, apply_change: ApplyChange = apply_remote_change) -> AsyncIterator["Site"]:
    """The application on a database with the core's roles, for the time of the block."""
    registry = PermissionRegistry()
    registry.declare((), [RoleDefault(role="Reader", title="Reader", permissions=("endpoints.read",))])
    auth = Auth(AuthSettings(), box=BOX, registry=registry, clock=utc_now)
    await auth.start()
    app = Litestar(
        route_handlers=list(ROUTES),
        middleware=[access_middleware(auth), idempotency_middleware(utc_now)],
        dependencies=auth_dependencies(auth),
        exception_handlers=EXCEPTION_HANDLERS,
        request_class=StrictRequest,
        request_max_body_size=None,
        openapi_config=None,
        logging_config=None,
        state=State({"endpoints": desk, "apply_change": apply_change}),
    )
    transport = httpx.ASGITransport(Edge(app), client=("192.0.2.9", 4711))  # type: ignore[arg-type]
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://busbar.test") as client:
            yield Site(client, auth)
    finally:
        auth.close()


class Site:
    """The running application."""

    def __init__(self, client: httpx.AsyncClient, auth: Auth) -> None:
        self.client = client
        self._auth = auth

    async def sign_in(self, username: str, *, role: str = ADMIN, sites: tuple[str, ...] = ("*",)) -> None:
        """Make a user and send their token with every request from now on."""
        await create_user(
            self._auth,
            context(),
            username=username,
            display_name=username,
            password=PASSWORD,
            roles=[role],
            sites=list(sites),
        )
        signed_in = await login(self._auth, context(), username=username, password=PASSWORD, source="192.0.2.9")
        self.client.headers["Authorization"] = f"Bearer {signed_in.access_token}"
