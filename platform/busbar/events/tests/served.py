"""The routes of events behind a real server on a free port, a caller, and a reader of Server-Sent Events."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import aiohttp
import msgspec
import uvicorn
from litestar import Litestar, Router
from litestar.datastructures import State
from litestar.di import Provide
from litestar.types import ASGIApp, Receive, Scope, Send

from busbar.auth.actor import Actor, Context
from busbar.db import spawn
from busbar.events.envelope import StoredEvent
from busbar.events.routes import ROUTES
from busbar.events.stream import EventStream
from busbar.events.subscriptions import Match
from busbar.events.tests.facts import an_actor
from busbar.observability.correlation import correlation_id
from busbar.web.access import declared_access
from busbar.web.asgi import Edge
from busbar.web.problems import EXCEPTION_HANDLERS
from busbar.web.validation import StrictRequest


class Signed:
    """Who calls, in place of tokens: every request is made by `actor`, whose token lasts `token_s` seconds."""

    def __init__(self, actor: Actor | None = None, *, token_s: float = 600) -> None:
        self.actor = actor or an_actor()
        self.token_s = token_s

    def __call__(self, app: ASGIApp) -> ASGIApp:
        async def signed(scope: Scope, receive: Receive, send: Send) -> None:
            assert declared_access(scope["route_handler"]) is not None
            scope["user"] = self.actor
            scope["auth"] = SimpleNamespace(exp=time.time() + self.token_s)
            await app(scope, receive, send)

        return signed


class NoRoutes:
    """No event goes by a route."""

    async def refresh(self) -> None:
        """There is nothing to know."""

    def match(self, event: StoredEvent) -> tuple[Match, ...]:
        return ()


def make_app(stream: EventStream, signed: Signed, matcher: Any = None) -> Edge:
    """The routes of events, inside the wrapper that the platform uses."""

    def provide_context(scope: Scope) -> Context:
        return Context(actor=scope["user"], correlation_id=correlation_id() or "none")

    return Edge(
        Litestar(
            route_handlers=[Router("/api/v1", route_handlers=list(ROUTES))],
            dependencies={"ctx": Provide(provide_context, sync_to_thread=False)},
            middleware=[signed],
            exception_handlers=EXCEPTION_HANDLERS,
            request_class=StrictRequest,
            state=State({"stream": stream, "matcher": matcher or NoRoutes()}),
            openapi_config=None,
            logging_config=None,
        )
    )


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[str]:
    """Serve the application; gives its address."""
    # Named, or asyncio would not set TCP_NODELAY, and each answer would wait 40 ms for an acknowledgement.
    with socket.socket(proto=socket.IPPROTO_TCP) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(100)
        config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=5)
        server = uvicorn.Server(config)
        server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign]
        task = spawn(server.serve(sockets=[listening]), name="server")
        try:
            async with asyncio.timeout(30):
                while not server.started:
                    await asyncio.sleep(0.01)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task


class Told:
    """One event of a stream, as a browser would hand it over."""

    def __init__(self, position: int, event_type: str, data: bytes) -> None:
        self.position = position
        self.event_type = event_type
        self.data: dict[str, Any] = msgspec.json.decode(data)


class Reader:
    """Reads a stream as a browser does, and remembers the last id, with which it resumes."""

    def __init__(self, base: str, session: aiohttp.ClientSession, *, last_id: str | None = None) -> None:
        self._base = base
        self._session = session
        self.last_id = last_id
        self.status = 0
        self.comments = 0

    async def events(self, query: str = "") -> AsyncIterator[Told]:
        """The events of one connection; ends when the server ends it, however."""
        headers = {} if self.last_id is None else {"Last-Event-ID": self.last_id}
        with contextlib.suppress(aiohttp.ClientPayloadError):
            async with self._session.get(f"{self._base}/api/v1/events/stream{query}", headers=headers) as answer:
                self.status = answer.status
                if answer.status != 200:
                    return
                fields: dict[str, str] = {}
                async for line in answer.content:
                    text = line.decode().rstrip("\n")
                    if text.startswith(":"):
                        self.comments += 1
                    elif text:
                        name, _, value = text.partition(": ")
                        fields[name] = value
                    else:
                        self.last_id = fields.get("id", self.last_id)
                        if "data" in fields:
                            yield Told(int(fields["id"]), fields["event"], fields["data"].encode())
                        fields = {}


@asynccontextmanager
async def browser() -> AsyncIterator[aiohttp.ClientSession]:
    """A client whose buffers take lines of any event."""
    async with aiohttp.ClientSession(read_bufsize=2**16, timeout=aiohttp.ClientTimeout(total=60)) as session:
        yield session


class Api:
    """A caller of the API."""

    def __init__(self, base: str, session: aiohttp.ClientSession, signed: Signed) -> None:
        self._base = base
        self._session = session
        self.signed = signed

    async def get(self, path: str, *, status: int = 200) -> Any:
        async with self._session.get(f"{self._base}/api/v1{path}") as answer:
            body = await answer.json(content_type=None)
            assert answer.status == status, body
            return body

    async def post(self, path: str, body: Any, *, status: int = 200) -> Any:
        async with self._session.post(f"{self._base}/api/v1{path}", json=body) as answer:
            answered = await answer.json(content_type=None)
            assert answer.status == status, answered
            return answered
