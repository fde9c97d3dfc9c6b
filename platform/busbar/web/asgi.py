"""The one wrapper around the whole application: correlation id, trace, limits, overload, metrics, one log line (H11).

It stands outside the framework, because that answers unknown addresses and wrong methods before any middleware runs.
"""

import time
from typing import Any, Final

import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from busbar.errors import BusbarError, InternalError, Unavailable
from busbar.observability.correlation import (
    accepted_correlation_id,
    accepted_traceparent,
    correlation_id_var,
    new_correlation_id,
    new_traceparent,
    traceparent_var,
)
from busbar.observability.health import Lifecycle, Phase
from busbar.observability.logs import write_line
from busbar.observability.metrics import request_metrics as default_metrics
from busbar.observability.requests import UNMATCHED, RequestMetrics
from busbar.web.limits import Limits, check_headers, check_target, limited
from busbar.web.problems import problem_message

log = structlog.get_logger()

EXCHANGE_KEY: Final = "busbar"
"""Where the scope of a request holds its `Exchange`."""
REQUESTS_MAX: Final = 256
"""Requests that are worked on at the same time; the next one is told to come back."""
STREAMS_MAX: Final = 500
"""Open event streams; they last for hours and cost next to nothing, so they do not count as requests."""
ALWAYS_ANSWERED: Final = ("/health/", "/metrics")
"""Answered also under overload and while stopping: an operator looks exactly then."""
_WITHOUT_BODY: Final = ("GET", "HEAD", "OPTIONS")


class Exchange:
    """One request and its answer, as the wrapper sees them; `exchange_of(scope)` finds it."""

    __slots__ = (
        "answered", "closing", "correlation_id", "response_bytes", "started_s", "status", "traceparent", "user_id"
    )  # fmt: skip

    def __init__(self, correlation_id: str, traceparent: str) -> None:
        self.correlation_id = correlation_id
        self.traceparent = traceparent
        self.user_id: str | None = None
        """Set by whoever verifies the token; appears in the log line."""
        self.status = 0
        self.response_bytes = 0
        self.answered = False
        self.closing = False
        self.started_s = time.perf_counter()


def exchange_of(scope: Any) -> Exchange | None:
    """The exchange of a request's scope; None when the application runs without the wrapper."""
    found = scope.get(EXCHANGE_KEY)
    return found if isinstance(found, Exchange) else None


class Edge:
    """The outermost ASGI application: `Edge(litestar_app, lifecycle=…)`."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        lifecycle: Lifecycle | None = None,
        limits: Limits | None = None,
        metrics: RequestMetrics | None = None,
        requests_max: int = REQUESTS_MAX,
        streams_max: int = STREAMS_MAX,
        stream_prefixes: tuple[str, ...] = ("/api/v1/events/stream",),
    ) -> None:
        self.app = app
        self.lifecycle = lifecycle or Lifecycle()
        self.requests_in_flight = 0
        self.streams_open = 0
        self._limits = limits or Limits()
        self._metrics = metrics or default_metrics
        self._requests_max = requests_max
        self._streams_max = streams_max
        self._stream_prefixes = stream_prefixes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI 3)."""
        if scope["type"] != ScopeType.HTTP:
            # Life cycle messages and WebSockets have no status line to add a header to.
            await self.app(scope, receive, send)
            return
        headers = scope["headers"]
        sent_id = sent_trace = None
        for name, value in headers:
            if name == b"x-correlation-id":
                sent_id = value
            elif name == b"traceparent":
                sent_trace = value
        exchange = Exchange(
            accepted_correlation_id(sent_id) or new_correlation_id(),
            accepted_traceparent(sent_trace) or new_traceparent(),
        )
        scope[EXCHANGE_KEY] = exchange  # type: ignore[typeddict-unknown-key]  # a key of our own
        id_token = correlation_id_var.set(exchange.correlation_id)
        trace_token = traceparent_var.set(exchange.traceparent)
        try:
            await self._serve(scope, receive, _answering(exchange, send), exchange)
        finally:
            self._record(scope, exchange)
            traceparent_var.reset(trace_token)
            correlation_id_var.reset(id_token)

    async def _serve(self, scope: Any, receive: Receive, send: Send, exchange: Exchange) -> None:
        path: str = scope["path"]
        is_stream = path.startswith(self._stream_prefixes)
        try:
            check_target(scope.get("raw_path") or path.encode(), scope["query_string"], self._limits)
            check_headers(scope["headers"])
            self._admit(path, is_stream)
        except BusbarError as error:
            await _send_problem(error, path, exchange, send)
            return
        exchange.closing = self.lifecycle.phase is not Phase.SERVING
        if is_stream:
            self.streams_open += 1
        else:
            self.requests_in_flight += 1
        try:
            if scope["method"] not in _WITHOUT_BODY:
                receive = limited(receive, path=path, headers=scope["headers"], limits=self._limits)
            await self.app(scope, receive, send)
        except Exception as error:  # the framework's own last resort may fail as well
            log.error("request_failed", method=scope["method"], path=path, exc_info=error)
            if exchange.answered:
                # The caller gets a body cut short; counted as the fault that it is.
                exchange.status = 500
            else:
                fault = InternalError(
                    "Busbar failed at this request; the correlation id leads to the cause in its log."
                )
                await _send_problem(fault, path, exchange, send)
        finally:
            if is_stream:
                self.streams_open -= 1
            else:
                self.requests_in_flight -= 1

    def _admit(self, path: str, is_stream: bool) -> None:
        if path.startswith(ALWAYS_ANSWERED):
            return
        if not self.lifecycle.accepts_requests:
            raise Unavailable("This instance is starting or stopping; try again.", headers={"Connection": "close"})
        if is_stream:
            if self.streams_open >= self._streams_max:
                raise Unavailable("Too many event streams are open; try again later.", retry_after_s=10)
        elif self.requests_in_flight >= self._requests_max:
            raise Unavailable("Too many requests at once; try again.", retry_after_s=1)

    def _record(self, scope: Any, exchange: Exchange) -> None:
        seconds = time.perf_counter() - exchange.started_s
        # 499 is what proxies write for a caller that left before the answer began; it was nobody's fault here.
        status = exchange.status or 499
        route = _route_of(scope)
        method = scope["method"]
        self._metrics.observe(method, route, status, seconds)
        client = scope.get("client")
        fields = {
            "method": method,
            "path": scope["path"],
            "route": route,
            "status": status,
            "duration_ms": round(seconds * 1000, 3),
            "response_bytes": exchange.response_bytes,
            "client": client[0] if client else None,
            "user_id": exchange.user_id,
            "traceparent": exchange.traceparent,
        }
        level = "INFO" if status < 500 else ("WARNING" if status == 503 else "ERROR")
        write_line(level, "request", fields, correlation_id=exchange.correlation_id)


def _answering(exchange: Exchange, send: Send) -> Send:
    """A `send` that adds the correlation id and notes what was answered."""
    id_header = (b"x-correlation-id", exchange.correlation_id.encode("ascii"))

    async def send_noting(message: Message) -> None:
        if message["type"] == "http.response.start":
            exchange.status = message["status"]
            exchange.answered = True
            headers = [*message.get("headers", ()), id_header]
            if exchange.closing:
                # Callers with an open connection go to another instance with their next request.
                headers.append((b"connection", b"close"))
            await send({**message, "headers": headers})
            return
        if message["type"] == "http.response.body":
            exchange.response_bytes += len(message.get("body", b""))
        await send(message)

    return send_noting


def _route_of(scope: Any) -> str:
    """The template of the route, such as `/api/v1/tickets/{ticket_id}`."""
    template = scope.get("path_template")
    return template or UNMATCHED


async def _send_problem(error: BusbarError, path: str, exchange: Exchange, send: Send) -> None:
    headers, body = problem_message(error, instance=path, correlation_id=exchange.correlation_id)
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
