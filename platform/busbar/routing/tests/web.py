"""The routes of routing inside the wrapper that the platform uses; every request is made by the actor of the test."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from litestar import Litestar, Router
from litestar.di import Provide

from busbar.auth.actor import Actor, Context
from busbar.observability.correlation import correlation_id
from busbar.routing.routes import ROUTES
from busbar.routing.tests.support import an_actor
from busbar.web.asgi import Edge
from busbar.web.problems import EXCEPTION_HANDLERS
from busbar.web.validation import StrictRequest


@asynccontextmanager
async def serving(actor: Actor | None = None) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the routes, signed in as `actor`."""
    caller = actor or an_actor()

    def provide_context() -> Context:
        return Context(actor=caller, correlation_id=correlation_id() or "none")

    app = Edge(
        Litestar(
            route_handlers=[Router("/api/v1", route_handlers=list(ROUTES))],
            dependencies={"ctx": Provide(provide_context, sync_to_thread=False)},
            exception_handlers=EXCEPTION_HANDLERS,
            request_class=StrictRequest,
            request_max_body_size=None,
            openapi_config=None,
            logging_config=None,
        )
    )
    transport = httpx.ASGITransport(app, client=("192.0.2.9", 4711))  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://busbar.test/api/v1") as client:
        yield client
