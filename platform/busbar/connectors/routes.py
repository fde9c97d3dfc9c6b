"""The HTTP side of connectors, endpoints and webhooks."""

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from litestar import Request, Response, delete, get, patch, post
from litestar.datastructures import State
from litestar.params import JSONBody, Parameter, QueryParameter

from busbar.auth.guards import RequestContext
from busbar.connectors import commands, inbound, queries
from busbar.connectors.commands import Changes
from busbar.connectors.contract import ConnectionReport
from busbar.connectors.queries import ConnectorView, EndpointView, InboundView
from busbar.connectors.secrets import Secret
from busbar.connectors.signature import BODY_BYTES_MAX
from busbar.web.access import SIGNED, needs
from busbar.web.conditional import IfMatchHeader, parse_if_match, versioned
from busbar.web.pagination import CursorParameter, LimitParameter, Page, SortParameter
from busbar.web.text import SLUG, Name, Slug

_READ = needs("endpoints.read")
_WRITE = needs("endpoints.write")

EndpointId = Annotated[str, Parameter(max_length=40, pattern=SLUG)]
SecretText = Annotated[str, msgspec.Meta(max_length=16_384)]
Sites = Annotated[tuple[Slug, ...], msgspec.Meta(max_length=200)]
Settings = Annotated[dict[str, Any], msgspec.Meta(max_length=100)]
Runner = Literal["busbar", "camel"]


class _WithSecrets(msgspec.Struct, frozen=True, kw_only=True):
    """A request that must not show up in a log line or an error as it is."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(***)"


class NewEndpoint(_WithSecrets, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A configured instance of a connector."""

    EXAMPLE: ClassVar[dict[str, Any]] = {
        "endpoint_id": "service-desk",
        "connector": "itsm",
        "name": "Service desk",
        "settings": {"base_url": "https://example.service-now.com", "username": "busbar.integration"},
        "secrets": {"password": "of the integration user"},
    }

    endpoint_id: Slug
    connector: Slug
    """Its kind, as listed under /connectors."""
    name: Name
    sites: Sites = ()
    """The sites whose events it may get; empty for all sites."""
    settings: Settings
    """By the connector's schema."""
    secrets: Annotated[dict[str, SecretText], msgspec.Meta(max_length=50)] = {}
    """By name; they are encrypted, and never shown again."""
    runner: Runner = "busbar"
    """Who delivers: the embedded router, or Apache Camel."""


class EndpointChange(_WithSecrets, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be different; fields that are left out stay."""

    EXAMPLE: ClassVar[dict[str, Any]] = {"active": False}

    name: Name | None = None
    sites: Sites | None = None
    """All of them; empty for all sites."""
    settings: Settings | None = None
    """All of them; what is left out gets its default."""
    secrets: Annotated[dict[str, SecretText | None], msgspec.Meta(max_length=50)] = {}
    """Those to be set; null removes one. The others stay."""
    runner: Runner | None = None
    active: bool | None = None


class WebhookOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a webhook."""

    outcome: str


@get("/connectors", opt=_READ)
async def list_connectors(state: State) -> tuple[ConnectorView, ...]:
    """List the kinds of external system that the plugins can talk to, with the form of their settings."""
    return queries.list_connectors(state.endpoints)


@get("/endpoints", opt=_READ)
async def list_endpoints(
    ctx: RequestContext,
    state: State,
    connector: Annotated[str | None, QueryParameter(name="connector", max_length=40, pattern=SLUG)] = None,
    limit: LimitParameter = 50,
    cursor: CursorParameter = None,
    sort: SortParameter = None,
) -> Page[EndpointView]:
    """List the endpoints of the caller's sites. Can be sorted by endpoint_id, name, connector, created_at."""
    return await queries.list_endpoints(
        ctx, state.endpoints, connector=connector, limit=limit, cursor=cursor, sort=sort
    )


@post("/endpoints", opt=_WRITE)
async def create_endpoint(ctx: RequestContext, state: State, data: JSONBody[NewEndpoint]) -> Response[EndpointView]:
    """Make an endpoint. Every bad setting is named at once."""
    await commands.create_endpoint(
        ctx,
        state.endpoints,
        endpoint_id=data.endpoint_id,
        connector=data.connector,
        name=data.name,
        sites=data.sites,
        settings=data.settings,
        secrets={name: Secret(text) for name, text in data.secrets.items()},
        runner=data.runner,
    )
    endpoint = await queries.get_endpoint(ctx, state.endpoints, data.endpoint_id)
    return versioned(endpoint, endpoint.version, status_code=201)


@get("/endpoints/{endpoint_id:str}", opt=_READ)
async def get_endpoint(ctx: RequestContext, state: State, endpoint_id: EndpointId) -> Response[EndpointView]:
    """Read one endpoint; of its secrets, the names of those that are set."""
    endpoint = await queries.get_endpoint(ctx, state.endpoints, endpoint_id)
    return versioned(endpoint, endpoint.version)


@patch("/endpoints/{endpoint_id:str}", opt=_WRITE)
async def change_endpoint(
    ctx: RequestContext,
    state: State,
    endpoint_id: EndpointId,
    data: JSONBody[EndpointChange],
    if_match: IfMatchHeader = None,
) -> Response[EndpointView]:
    """Change an endpoint. New settings or secrets end a pause."""
    changes = Changes(
        name=data.name,
        sites=data.sites,
        settings=data.settings,
        secrets={name: None if text is None else Secret(text) for name, text in data.secrets.items()},
        runner=data.runner,
        active=data.active,
    )
    expected = parse_if_match(if_match, required=False)
    await commands.change_endpoint(ctx, state.endpoints, endpoint_id, changes, expected=expected)
    endpoint = await queries.get_endpoint(ctx, state.endpoints, endpoint_id)
    return versioned(endpoint, endpoint.version)


@delete("/endpoints/{endpoint_id:str}", opt=_WRITE)
async def deactivate_endpoint(
    ctx: RequestContext, state: State, endpoint_id: EndpointId, if_match: IfMatchHeader = None
) -> None:
    """Switch an endpoint off. Its deliveries wait; a change of `active` to true brings it back."""
    expected = parse_if_match(if_match, required=False)
    await commands.change_endpoint(ctx, state.endpoints, endpoint_id, Changes(active=False), expected=expected)


@post("/endpoints/{endpoint_id:str}/test", opt=_WRITE, status_code=200)
async def check_connection(ctx: RequestContext, state: State, endpoint_id: EndpointId) -> ConnectionReport:
    """Try the stored settings and secrets against the remote, which changes nothing there."""
    return await commands.check_connection(ctx, state.endpoints, endpoint_id)


@post("/endpoints/{endpoint_id:str}/resume", opt=_WRITE, status_code=200)
async def resume_endpoint(ctx: RequestContext, state: State, endpoint_id: EndpointId) -> EndpointView:
    """End a pause: deliveries go out again at once."""
    await commands.resume_endpoint(ctx, endpoint_id)
    return await queries.get_endpoint(ctx, state.endpoints, endpoint_id)


@get("/endpoints/{endpoint_id:str}/inbound", opt=_READ)
async def list_inbound(
    ctx: RequestContext,
    state: State,
    endpoint_id: EndpointId,
    limit: LimitParameter = 50,
    cursor: CursorParameter = None,
) -> Page[InboundView]:
    """List what came in from the endpoint's remote system, newest first, with what became of it."""
    return await queries.list_inbound(ctx, state.endpoints, endpoint_id, limit=limit, cursor=cursor)


@post("/inbound/{endpoint_id:str}", opt=SIGNED, status_code=200, request_max_body_size=BODY_BYTES_MAX)
async def take_webhook(
    ctx: RequestContext, state: State, request: Request[Any, Any, Any], endpoint_id: EndpointId
) -> Response[WebhookOutcome]:
    """Take a webhook that is signed by Standard Webhooks 1.0 with the endpoint's `webhook_secret`.

    A repeated one has no further effect and gets the same outcome. 202: nothing in it was for Busbar.
    """
    taken = await inbound.take_webhook(
        ctx,
        state.endpoints,
        state.apply_change,
        endpoint_id,
        headers=[(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.scope["headers"]],
        body=await request.body(),
    )
    return Response(WebhookOutcome(outcome=taken.outcome), status_code=202 if taken.ignored else 200)


ROUTES = (
    list_connectors,
    list_endpoints,
    create_endpoint,
    get_endpoint,
    change_endpoint,
    deactivate_endpoint,
    check_connection,
    resume_endpoint,
    list_inbound,
    take_webhook,
)
