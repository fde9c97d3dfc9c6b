"""The live stream of events, as Server-Sent Events: it resumes after any position without a gap or a repetition.

One task in each process, the tailer, reads what the relay has given a position and keeps the latest in memory. A client
is only a cursor: it reads from that memory, and from the database when it is further behind. So a slow client costs no
memory; one that takes nothing at all for a while is disconnected, and resumes when it comes back.
"""

import asyncio
from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import Any, Final

import msgspec
import structlog
from litestar.response import Stream
from litestar.response.base import ASGIResponse
from litestar.types import Receive, Send

from busbar.auth.actor import Context
from busbar.db import DATABASE_TROUBLE, end_tasks, fetch, fetchval, spawn
from busbar.db.wakeup import Channel, signal, wait_for
from busbar.errors import FieldError, InvalidPayload, Unavailable
from busbar.events.access import reach_of
from busbar.events.envelope import COLUMNS, StoredEvent, stored
from busbar.events.queries import view
from busbar.observability.correlation import correlated
from busbar.web.conditions import Where

log = structlog.get_logger()

MEDIA_TYPE: Final = "text/event-stream"
CLIENTS_MAX: Final = 200
KEPT_EVENTS_MAX: Final = 2_000
KEPT_BYTES_MAX: Final = 16 * 1024 * 1024
PAGE: Final = 500
"""Events read in one query, and sent in one piece."""
POLL_S: Final = 1.0
HEARTBEAT_S: Final = 15.0
SEND_S_MAX: Final = 30.0
"""A client that takes nothing for so long is disconnected."""
CATCHING_UP_MAX: Final = 4
"""Clients that read from the database at the same time."""
RECONNECT_MS: Final = 2_000
"""After so long a client should come back; it is told so at the start."""

_HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class TooManyStreams(Unavailable):
    """This process serves as many streams as it may."""


class _Frame(msgspec.Struct, frozen=True):
    """An event as it goes over the wire, with what decides who sees it."""

    position: int
    event_type: str
    site_id: str
    module: str
    text: bytes


class EventStream:
    """The tailer and the clients of one process; `run` is its task."""

    def __init__(
        self,
        *,
        clients_max: int = CLIENTS_MAX,
        kept_events_max: int = KEPT_EVENTS_MAX,
        heartbeat_s: float = HEARTBEAT_S,
        send_s_max: float = SEND_S_MAX,
        poll_s: float = POLL_S,
    ) -> None:
        self._clients_max = clients_max
        self._kept_events_max = kept_events_max
        self._heartbeat_s = heartbeat_s
        self._send_s_max = send_s_max
        self._poll_s = poll_s
        self._kept: deque[_Frame] = deque()
        self._kept_bytes = 0
        self._position = 0
        self._started = asyncio.Event()
        self._stopped = False
        self._clients: set[_Client] = set()
        self._catching_up = asyncio.Semaphore(CATCHING_UP_MAX)

    @property
    def clients(self) -> int:
        """How many streams are open."""
        return len(self._clients)

    async def run(self) -> None:
        """Follow the outbox until cancelled; then the streams end. A failed round is logged and tried again."""
        try:
            with signal(Channel.STREAM) as there_is_more:
                while True:
                    try:
                        while await self._read_on():
                            pass
                    except DATABASE_TROUBLE as error:
                        log.warning("stream_round_failed", error=str(error) or repr(error))
                    await wait_for(there_is_more, poll_s=self._poll_s)
        finally:
            self.stop()

    def stop(self) -> None:
        """End all streams and take no new ones; call it when the process begins to stop, or they would hold it up."""
        self._stopped = True
        self._started.set()
        for client in self._clients:
            client.wake.set()

    async def response(
        self, ctx: Context, *, after: int | None, types: frozenset[str] | None, ends_at_s: float
    ) -> "EventStreamResponse":
        """A stream of what the actor may see, after the position `after`, or from now; `types` narrows it.

        `ends_at_s`, in seconds since 1970 UTC, is when the caller's token expires. The answer is 503 when as many
        streams are open as this process serves, or it is stopping.
        """
        await self._started.wait()
        life_s = max(0.0, ends_at_s - ctx.clock().timestamp())
        cursor = self._position if after is None else after
        return EventStreamResponse(_Client(self, ctx, types=types, cursor=cursor, life_s=life_s))

    def _admit(self, client: "_Client") -> None:
        if self._stopped:
            raise TooManyStreams("This instance is stopping; connect again.", retry_after_s=1)
        if len(self._clients) >= self._clients_max:
            raise TooManyStreams(f"{self._clients_max} streams are open already; try again later.", retry_after_s=10)
        self._clients.add(client)

    async def _read_on(self) -> bool:
        """Take in the next events; whether there may be more."""
        if not self._started.is_set():
            self._position = int(await fetchval("select coalesce(max(position), 0) from core.event"))
            self._started.set()
            return False
        rows = await fetch(
            f"select {COLUMNS} from core.event where position > $1 order by position limit {PAGE}", self._position
        )
        for row in rows:
            self._keep(_frame(stored(row)))
        if rows:
            for client in self._clients:
                client.wake.set()
        return len(rows) == PAGE

    def _keep(self, frame: _Frame) -> None:
        self._kept.append(frame)
        self._kept_bytes += len(frame.text)
        self._position = frame.position
        while len(self._kept) > self._kept_events_max or self._kept_bytes > KEPT_BYTES_MAX:
            self._kept_bytes -= len(self._kept.popleft().text)


class _Client:
    """One open stream: a cursor, and what its reader may see."""

    def __init__(
        self, stream: EventStream, ctx: Context, *, types: frozenset[str] | None, cursor: int, life_s: float
    ) -> None:
        self.wake = asyncio.Event()
        self._stream = stream
        self._reach = reach_of(ctx.actor)
        self._user_id = ctx.actor.user_id
        self._correlation_id = ctx.correlation_id
        self._types = types
        self._cursor = cursor
        self._life_s = life_s

    def enter(self) -> None:
        """Take a place. Raises TooManyStreams."""
        self._stream._admit(self)

    def leave(self) -> None:
        """Give the place up."""
        self._stream._clients.discard(self)

    async def serve(self, send: Send) -> None:
        """Send what there is, then what comes, until the token expires, the process stops or the client is stuck."""
        why = "client_left"
        try:
            async with asyncio.timeout(self._life_s) as life:
                await self._send(send, b"retry: %d\nid: %d\n\n" % (RECONNECT_MS, self._cursor))
                while not self._stream._stopped:
                    await self._send(send, await self._next())
            why = "stopping"
        except TimeoutError:
            why = "token_expired" if life.expired() else "database_too_slow"
        except _Stuck:
            why = "client_too_slow"
        except DATABASE_TROUBLE as error:
            why = f"database: {error}"
        finally:
            with correlated(self._correlation_id):
                log.info("event_stream_closed", reason=why, position=self._cursor, user_id=self._user_id)
        if why != "client_too_slow":
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, send: Send, text: bytes) -> None:
        if not text:
            return
        try:
            async with asyncio.timeout(self._stream._send_s_max) as limit:
                await send({"type": "http.response.body", "body": text, "more_body": True})
        except TimeoutError:
            if limit.expired():
                raise _Stuck from None
            raise

    async def _next(self) -> bytes:
        """The next piece of the stream; a heartbeat when nothing came for a while, nothing when woken in vain."""
        self.wake.clear()
        if self._cursor < self._stream._position:
            frames = self._from_memory()
            return self._told(await self._from_database() if frames is None else frames)
        try:
            async with asyncio.timeout(self._stream._heartbeat_s) as limit:
                await self.wake.wait()
        except TimeoutError:
            if not limit.expired():
                raise
            # The id lets a client whose filter holds everything back resume from here all the same.
            return b": heartbeat\nid: %d\n\n" % self._cursor
        return b""

    def _from_memory(self) -> list[_Frame] | None:
        """What comes after the cursor, up to a page; None when memory does not reach back so far."""
        kept = self._stream._kept
        if not kept or kept[0].position > self._cursor + 1:
            return None
        # Positions have no gaps, so the place of the next one is known.
        first = self._cursor + 1 - kept[0].position
        frames = list(islice(kept, first, first + PAGE))
        self._cursor = frames[-1].position
        return frames

    async def _from_database(self) -> Iterable[_Frame]:
        where = Where()
        where.add("position > {}", self._cursor)
        upper = self._stream._position
        where.add("position <= {}", upper)
        where.add("event_type = any({}::text[])", None if self._types is None else sorted(self._types))
        self._reach.narrow(where, site="site_id", module="module")
        async with self._stream._catching_up:
            rows = await fetch(
                f"select {COLUMNS} from core.event where {where.sql} order by position limit {PAGE}", *where.values
            )
        frames = [_frame(stored(row)) for row in rows]
        self._cursor = frames[-1].position if len(frames) == PAGE else upper
        return frames

    def _told(self, frames: Iterable[_Frame]) -> bytes:
        """Those of the frames that the reader wants and may see."""
        return b"".join(
            frame.text
            for frame in frames
            if (self._types is None or frame.event_type in self._types)
            and self._reach.includes(site_id=frame.site_id, module=frame.module)
        )


class _Stuck(Exception):
    """The client takes nothing."""


class EventStreamResponse(Stream):
    """An open stream as the answer of a route handler."""

    def __init__(self, client: _Client) -> None:
        super().__init__((), media_type=MEDIA_TYPE, headers=_HEADERS)
        self._client = client

    def to_asgi_response(
        self,
        app: Any,
        request: Any,
        *,
        headers: dict[str, str] | None = None,
        encoded_headers: Iterable[tuple[bytes, bytes]] | None = None,
        status_code: int | None = None,
        **others: Any,
    ) -> ASGIResponse:
        """The response with what the handler and the application add."""
        return _StreamingResponse(
            self._client,
            headers={**(headers or {}), **_HEADERS},
            encoded_headers=encoded_headers,
            media_type=MEDIA_TYPE,
            status_code=status_code or 200,
        )


class _StreamingResponse(ASGIResponse):
    """Runs a client until either side ends it."""

    _should_set_content_length = False

    def __init__(self, client: _Client, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._client = client

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer with the stream (ASGI 3); 503 when there is no place for it."""
        self._client.enter()
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._client.leave()

    async def send_body(self, send: Send, receive: Receive) -> None:
        """Serve; a client that goes away ends it at once."""
        serving = spawn(self._client.serve(send), name="event-stream-client")
        leaving = spawn(_gone(receive), name="event-stream-leaving")
        try:
            await asyncio.wait([serving, leaving], return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end_tasks(serving, leaving)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _frame(event: StoredEvent) -> _Frame:
    shown = msgspec.json.encode(view(event))
    position = event.position or 0
    text = b"id: %d\nevent: %s\ndata: %s\n\n" % (position, event.event_type.encode(), shown)
    return _Frame(position, event.event_type, event.site_id, event.module, text)


def resume_position(last_event_id: str | None, after: int | None) -> int | None:
    """The position after which to go on; the header, which a browser sends by itself, counts more than the address.

    Raises:
        InvalidPayload: the header is not a position.
    """
    if last_event_id is None or last_event_id == "":
        return after
    if not (last_event_id.isascii() and last_event_id.isdigit()) or int(last_event_id) >= 2**63:
        message = "Must be the id of an event of this stream, a number."
        raise InvalidPayload(
            "Not accepted: Last-Event-ID.", errors=[FieldError(field="Last-Event-ID", message=message)]
        )
    return int(last_event_id)
