"""The HTTP side of events: lists, types, trace, the live stream, and the desk of deliveries."""

from importlib.metadata import version
from typing import Annotated, Any, ClassVar, Final, Literal
from uuid import UUID

import msgspec
from litestar import Request, get, post
from litestar.datastructures import State
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, HeaderParameter, JSONBody, Parameter, QueryParameter

from busbar.auth.actor import Actor
from busbar.auth.guards import RequestContext
from busbar.auth.tokens import Claims
from busbar.events import dead_letters, deliveries, queries, replays
from busbar.events.asyncapi import asyncapi_document
from busbar.events.deliveries import DeliveryDetail, DeliveryFilter, DeliverySummary, DeliveryView
from busbar.events.queries import EventFilter, EventTypeView, EventView
from busbar.events.registry import REGISTRY
from busbar.events.replays import PER_SECOND, PER_SECOND_MAX, ReplayPlan, ReplayView
from busbar.events.stream import MEDIA_TYPE, EventStream, EventStreamResponse, resume_position
from busbar.events.trace import Trace, trace
from busbar.web.access import AUTHENTICATED, needs
from busbar.web.pagination import CursorParameter, LimitParameter, Page
from busbar.web.text import SINGLE_LINE, SLUG, Moment, Text

EventTypes = Annotated[
    list[str] | None,
    QueryParameter(name="type", max_items=50, description="Types, such as PM_TICKET_CREATED; may be repeated."),
]
_WORD = Parameter(max_length=120, pattern=SINGLE_LINE)
_SITE = QueryParameter(name="site", max_length=40, pattern=SLUG)
_CORRELATION = Parameter(max_length=128, pattern=SINGLE_LINE)
DeliveryId = Annotated[int, Parameter(ge=1, le=2**53 - 1)]
DeliveryState = Literal["pending", "retrying", "in_flight", "delivered", "dead", "skipped"]


class ReplayRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Send a delivery again."""

    EXAMPLE: ClassVar[dict[str, Any]] = {"reason": "The service desk is configured again"}

    reason: Text
    """Why; it is kept in the audit trail."""
    document: dict[str, Any] | None = None
    """What to send instead of what was sent before; only for deliveries to an endpoint."""
    work_out_anew: bool = False
    """Let the route as it is now work out what to send."""


class DiscardRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Give a delivery up."""

    EXAMPLE: ClassVar[dict[str, Any]] = {"reason": "The asset was imported by mistake"}

    reason: Text
    """Why; it is kept in the audit trail."""


class BulkReplayRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Send all dead and retrying deliveries again that are found; leave out what does not matter."""

    EXAMPLE: ClassVar[dict[str, Any]] = {
        "reason": "The service desk is configured again",
        "dry_run": True,
        "state": "dead",
        "endpoint": "service-desk",
    }

    reason: Text
    """Why; it is kept in the audit trail, once for each delivery."""
    dry_run: bool = True
    """Only count."""
    per_second: Annotated[int, msgspec.Meta(ge=1, le=PER_SECOND_MAX)] = PER_SECOND
    """So many are sent again each second, for a remote that is just back."""
    state: Literal["dead", "retrying"] | None = None
    endpoint: Annotated[str, msgspec.Meta(max_length=120, pattern=SINGLE_LINE)] | None = None
    route: Annotated[str, msgspec.Meta(max_length=120, pattern=SINGLE_LINE)] | None = None
    subscription: Annotated[str, msgspec.Meta(max_length=120, pattern=SINGLE_LINE)] | None = None
    site: Annotated[str, msgspec.Meta(max_length=40, pattern=SLUG)] | None = None
    event_type: Annotated[str, msgspec.Meta(max_length=120, pattern=SINGLE_LINE)] | None = None


@get("/events", opt=needs("events.read"))
async def list_events(
    ctx: RequestContext,
    event_type: EventTypes = None,
    module: Annotated[str | None, Parameter(max_length=40, pattern=SLUG)] = None,
    site: Annotated[str | None, _SITE] = None,
    subject: Annotated[str | None, _WORD] = None,
    correlation_id: Annotated[str | None, _CORRELATION] = None,
    time_from: Annotated[Moment | None, QueryParameter(name="from", description="Not before this moment.")] = None,
    time_to: Annotated[Moment | None, QueryParameter(name="to", description="Before this moment.")] = None,
    limit: LimitParameter = 50,
    cursor: CursorParameter = None,
) -> Page[EventView]:
    """List events, newest first.

    Only those of the caller's sites, and of modules that the caller may read. Each is a CloudEvent.
    """
    wanted = EventFilter(
        types=tuple(event_type) if event_type else None,
        module=module,
        site=site,
        subject=subject,
        correlation_id=correlation_id,
        time_from=time_from,
        time_to=time_to,
    )
    return await queries.list_events(ctx, wanted, limit=limit, cursor=cursor)


@get("/events/types", opt=needs("events.read"))
async def list_types() -> tuple[EventTypeView, ...]:
    """List the types of event with what they mean and the JSON Schema of their data."""
    return queries.event_types(REGISTRY)


@get("/events/asyncapi", opt=AUTHENTICATED)
async def get_asyncapi() -> dict[str, Any]:
    """Read the AsyncAPI 3.0 document that describes every event."""
    return asyncapi_document(REGISTRY, version("busbar"))


@get("/events/stream", opt=needs("events.read"), media_type=MEDIA_TYPE)
async def stream_events(
    ctx: RequestContext,
    request: Request[Actor, Claims, Any],
    state: State,
    event_type: EventTypes = None,
    after: Annotated[int | None, Parameter(ge=0, le=2**53 - 1, description="Start after this position.")] = None,
    last_event_id: Annotated[str | None, HeaderParameter(name="Last-Event-ID", max_length=20)] = None,
) -> EventStreamResponse:
    """Follow the events live, as Server-Sent Events: `id` is the position, `event` the type, `data` the CloudEvent.

    `Last-Event-ID` or `after` resumes without a gap and without repetition; without them the stream starts now. It ends
    with the token: sign in again and resume.
    """
    stream: EventStream = state.stream
    return await stream.response(
        ctx,
        after=resume_position(last_event_id, after),
        types=frozenset(event_type) if event_type else None,
        ends_at_s=request.auth.exp,
    )


@get("/events/trace/{key:str}", opt=needs("events.read"))
async def get_trace(ctx: RequestContext, key: Annotated[str, _CORRELATION]) -> Trace:
    """Follow a message: by correlation id, ticket id, event id or the id of a remote record.

    Request, audit entries, events, decisions and every attempt, in the order of time.
    """
    return await trace(ctx, key)


@get("/events/{event_id:uuid}", opt=needs("events.read"))
async def get_event(ctx: RequestContext, event_id: FromPath[UUID]) -> EventView:
    """Read one event."""
    return await queries.get_event(ctx, event_id)


@get("/deliveries", opt=needs("deliveries.read"))
async def list_deliveries(
    ctx: RequestContext,
    state_: Annotated[list[DeliveryState] | None, QueryParameter(name="state", max_items=6)] = None,
    endpoint: Annotated[str | None, _WORD] = None,
    route: Annotated[str | None, _WORD] = None,
    subscription: Annotated[str | None, _WORD] = None,
    site: Annotated[str | None, _SITE] = None,
    event_type: EventTypes = None,
    correlation_id: Annotated[str | None, _CORRELATION] = None,
    subject: Annotated[str | None, _WORD] = None,
    replay: Annotated[UUID | None, QueryParameter(description="Those that this replay of many sent again.")] = None,
    limit: LimitParameter = 50,
    cursor: CursorParameter = None,
) -> Page[DeliveryView]:
    """List deliveries, newest first; only of the caller's sites, and of modules that the caller may read."""
    wanted = DeliveryFilter(
        states=tuple(state_) if state_ else None,
        endpoint=endpoint,
        route=route,
        subscription=subscription,
        site=site,
        event_types=tuple(event_type) if event_type else None,
        correlation_id=correlation_id,
        subject=subject,
        replay=replay,
    )
    return await deliveries.list_deliveries(ctx, wanted, limit=limit, cursor=cursor)


@get("/deliveries/summary", opt=needs("deliveries.read"))
async def get_summary(ctx: RequestContext) -> DeliverySummary:
    """Read how many deliveries stand where, how old the oldest are, and whether the ledger adds up."""
    return await deliveries.summary(ctx)


@get("/deliveries/{delivery_id:int}", opt=needs("deliveries.read"))
async def get_delivery(ctx: RequestContext, delivery_id: DeliveryId) -> DeliveryDetail:
    """Read one delivery with its event, the document sent, and every attempt."""
    return await deliveries.get_delivery(ctx, delivery_id)


@post("/deliveries/replay", opt=needs("deliveries.replay"), status_code=200)
async def replay_matching(ctx: RequestContext, data: JSONBody[BulkReplayRequest]) -> ReplayPlan:
    """Send all dead and retrying deliveries again that a filter finds; a dry run, the default, only counts them.

    It is done in the background, oldest first, so many each second.
    """
    wanted = DeliveryFilter(
        states=None if data.state is None else (data.state,),
        endpoint=data.endpoint,
        route=data.route,
        subscription=data.subscription,
        site=data.site,
        event_types=None if data.event_type is None else (data.event_type,),
    )
    return await replays.plan_replay(ctx, wanted, reason=data.reason, dry_run=data.dry_run, per_second=data.per_second)


@get("/deliveries/replays", opt=needs("deliveries.read"))
async def list_replays(
    ctx: RequestContext, limit: LimitParameter = 50, cursor: CursorParameter = None
) -> Page[ReplayView]:
    """List the replays of many deliveries, newest first; the caller's own, unless the caller works for all sites."""
    return await replays.list_replays(ctx, limit=limit, cursor=cursor)


@get("/deliveries/replays/{replay_id:uuid}", opt=needs("deliveries.read"))
async def get_replay(ctx: RequestContext, replay_id: FromPath[UUID]) -> ReplayView:
    """Read how far a replay of many is, and what became of its deliveries."""
    return await replays.get_replay(ctx, replay_id)


@post("/deliveries/replays/{replay_id:uuid}/stop", opt=needs("deliveries.replay"), status_code=200)
async def stop_replay(ctx: RequestContext, replay_id: FromPath[UUID]) -> ReplayView:
    """Stop a replay of many: what it has sent again is on its way, the rest stays as it is."""
    return await replays.stop_replay(ctx, replay_id)


@post("/deliveries/{delivery_id:int}/replay", opt=needs("deliveries.replay"), status_code=200)
async def replay(
    ctx: RequestContext, state: State, delivery_id: DeliveryId, data: JSONBody[ReplayRequest]
) -> DeliveryDetail:
    """Send a dead or retrying delivery now, as it was or corrected; its former attempts are kept."""
    await state.matcher.refresh()  # the route may have been mended a moment ago, in another process
    await dead_letters.replay(
        ctx,
        delivery_id,
        reason=data.reason,
        document=data.document,
        work_out_anew=data.work_out_anew,
        matchers=(state.matcher,),
    )
    return await deliveries.get_delivery(ctx, delivery_id)


@post("/deliveries/{delivery_id:int}/discard", opt=needs("deliveries.replay"), status_code=200)
async def discard(ctx: RequestContext, delivery_id: DeliveryId, data: JSONBody[DiscardRequest]) -> DeliveryDetail:
    """Give a delivery up that is not finished: it is marked skipped, with the reason, and kept."""
    await dead_letters.discard(ctx, delivery_id, reason=data.reason)
    return await deliveries.get_delivery(ctx, delivery_id)


ROUTES: Final[tuple[HTTPRouteHandler, ...]] = (
    list_events,
    list_types,
    get_asyncapi,
    stream_events,
    get_trace,
    get_event,
    list_deliveries,
    get_summary,
    get_delivery,
    replay_matching,
    list_replays,
    get_replay,
    stop_replay,
    replay,
    discard,
)
"""Everything under `/api/v1/events` and `/api/v1/deliveries`."""
