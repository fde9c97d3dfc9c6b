"""The HTTP side of routes."""

from typing import Annotated, Any, ClassVar
from uuid import UUID

import msgspec
from litestar import Response, delete, get, patch, post
from litestar.params import JSONBody, Parameter, QueryParameter
from msgspec import UNSET, Meta, UnsetType

from busbar.auth.actor import Context
from busbar.auth.guards import RequestContext
from busbar.errors import FieldError, InvalidPayload
from busbar.routing import commands, queries
from busbar.routing.back_test import EVENTS, EVENTS_MAX, BackTest, back_test
from busbar.routing.commands import RouteChanges
from busbar.routing.definition import ATTEMPTS_MAX_DEFAULT, RouteDefinition, State
from busbar.routing.limits import SOURCE_CHARS_MAX
from busbar.routing.patterns import SITES_MAX, TYPE_PATTERN_CHARS_MAX, TYPE_PATTERNS_MAX, EventPattern
from busbar.routing.queries import RouteFilter, RouteView, VersionSummary, VersionView
from busbar.routing.rehearsal import Rehearsal, rehearse
from busbar.routing.rules import RouteRule
from busbar.sites.directory import DIRECTORY
from busbar.web.access import needs
from busbar.web.conditional import IfMatchHeader, parse_if_match, versioned
from busbar.web.pagination import CursorParameter, LimitParameter, Page, SortParameter
from busbar.web.text import MULTI_LINE, SINGLE_LINE, SLUG, Name, Slug

_READ = needs("routes.read")
_WRITE = needs("routes.write")

RouteId = Annotated[str, Parameter(max_length=commands.ROUTE_ID_CHARACTERS_MAX, pattern=SLUG)]
VersionNumber = Annotated[int, Parameter(ge=1, le=2**31 - 1)]

Sites = Annotated[tuple[Slug, ...], Meta(max_length=SITES_MAX)]
Pattern = Annotated[
    tuple[Annotated[str, Meta(min_length=1, max_length=TYPE_PATTERN_CHARS_MAX, pattern=SINGLE_LINE)], ...],
    Meta(min_length=1, max_length=TYPE_PATTERNS_MAX),
]
Filter = Annotated[str, Meta(min_length=1, max_length=SOURCE_CHARS_MAX, pattern=MULTI_LINE)]
Mapping = Annotated[dict[str, Any], Meta(max_length=500)]
Attempts = Annotated[int, Meta(ge=1, le=100)]


class NewRoute(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which events go to which endpoint, and in which shape."""

    EXAMPLE: ClassVar[dict[str, Any]] = {
        "route_id": "outages-to-desk",
        "name": "Outages to the service desk",
        "pattern": ["PM_TICKET_CREATED"],
        "filter": "data.incident.fault_type == 'outage'",
        "mapping": {"short_description": "='Outage: ' + data.title"},
        "endpoint_id": "service-desk",
    }

    route_id: Slug | None = None
    """Made of the name when it is left out."""
    name: Name
    sites: Sites = ()
    """The sites whose events it takes; empty for all."""
    pattern: Pattern
    """Event types: one name per entry, a prefix such as `PM_*`, or `*`."""
    filter: Filter | None = None
    """CEL over `event` and `data`, such as `data.priority == 'P1'`; null takes every event of the pattern."""
    mapping: Mapping | None = None
    """JSON whose texts that start with `=` are CEL expressions; null hands the event on as it is."""
    endpoint_id: Slug
    attempts_max: Attempts = ATTEMPTS_MAX_DEFAULT
    """So often a delivery is tried before it becomes a dead letter."""


class RouteChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be different; fields that are left out stay, and null removes a filter or a mapping."""

    EXAMPLE: ClassVar[dict[str, Any]] = {"filter": "data.priority in ['P1', 'P2']"}

    name: Name | UnsetType = UNSET
    sites: Sites | UnsetType = UNSET
    """All of them; empty for all sites."""
    pattern: Pattern | UnsetType = UNSET
    filter: Filter | UnsetType | None = UNSET
    mapping: Mapping | UnsetType | None = UNSET
    endpoint_id: Slug | UnsetType = UNSET
    """Only a draft can be given another one."""
    attempts_max: Attempts | UnsetType = UNSET


class RollbackRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The version whose content a route is to have again."""

    EXAMPLE: ClassVar[dict[str, Any]] = {"version": 2}

    version: Annotated[int, Meta(ge=1, le=2**31 - 1)]


class UnsavedRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A route that need not be finished, let alone saved."""

    sites: Sites = ()
    pattern: Pattern = ("*",)
    filter: Filter | None = None
    mapping: Mapping | None = None
    endpoint_id: Slug | None = None


class DryRunRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A route and an event: give one of `route_id` and `rule`, and one of `event_id` and `event`."""

    EXAMPLE: ClassVar[dict[str, Any]] = {
        "route_id": "outages-to-desk",
        "event_id": "01a2061a-3862-7f9e-8fe6-83c04fdc56fd",
    }

    route_id: Slug | None = None
    rule: UnsavedRule | None = None
    event_id: UUID | None = None
    """A stored event."""
    event: Annotated[dict[str, Any], Meta(max_length=100)] | None = None
    """A CloudEvent."""


class BackTestRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A stored route, an unsaved rule, or both: then the rule is what the route might become."""

    EXAMPLE: ClassVar[dict[str, Any]] = {
        "route_id": "outages-to-desk",
        "rule": {"pattern": ["PM_TICKET_*"], "filter": "data.priority in ['P1', 'P2']"},
        "events": 500,
    }

    route_id: Slug | None = None
    rule: UnsavedRule | None = None
    events: Annotated[int, Meta(ge=1, le=EVENTS_MAX)] = EVENTS
    """So many of the latest events are tried."""


@get("/routes", opt=_READ)
async def list_routes(
    ctx: RequestContext,
    route_state: Annotated[State | None, QueryParameter(name="state")] = None,
    endpoint: Annotated[str | None, QueryParameter(name="endpoint", max_length=40, pattern=SLUG)] = None,
    site: Annotated[str | None, QueryParameter(name="site", max_length=40, pattern=SLUG)] = None,
    limit: LimitParameter = 50,
    cursor: CursorParameter = None,
    sort: SortParameter = None,
) -> Page[RouteView]:
    """List the routes of the caller's sites. Can be sorted by route_id, name, state, endpoint_id, updated_at."""
    wanted = RouteFilter(state=route_state, endpoint_id=endpoint, site=site)
    return await queries.list_routes(ctx, wanted, limit=limit, cursor=cursor, sort=sort)


@post("/routes", opt=_WRITE)
async def create_route(ctx: RequestContext, data: JSONBody[NewRoute]) -> Response[RouteView]:
    """Make a route as a draft. Every fault of pattern, filter and mapping is named at once."""
    definition = RouteDefinition(
        name=data.name,
        sites=data.sites,
        pattern=data.pattern,
        filter=data.filter,
        mapping=data.mapping,
        endpoint_id=data.endpoint_id,
        attempts_max=data.attempts_max,
    )
    route_id = await commands.create_route(ctx, definition, route_id=data.route_id)
    return await _answer(ctx, route_id, status_code=201)


@get("/routes/{route_id:str}", opt=_READ)
async def get_route(ctx: RequestContext, route_id: RouteId) -> Response[RouteView]:
    """Read one route."""
    return await _answer(ctx, route_id)


@patch("/routes/{route_id:str}", opt=_WRITE)
async def change_route(
    ctx: RequestContext, route_id: RouteId, data: JSONBody[RouteChange], if_match: IfMatchHeader = None
) -> Response[RouteView]:
    """Change a route; if it is published, from the next event on."""
    changes = RouteChanges(**msgspec.structs.asdict(data))
    await commands.change_route(ctx, route_id, changes, expected=parse_if_match(if_match, required=False))
    return await _answer(ctx, route_id)


@delete("/routes/{route_id:str}", opt=_WRITE)
async def delete_route(ctx: RequestContext, route_id: RouteId, if_match: IfMatchHeader = None) -> None:
    """Switch a route off. It is kept with all its versions, and can be published again."""
    await commands.switch_off_route(ctx, route_id, expected=parse_if_match(if_match, required=False))


@post("/routes/{route_id:str}/publish", opt=_WRITE, status_code=200)
async def publish_route(ctx: RequestContext, route_id: RouteId, if_match: IfMatchHeader = None) -> Response[RouteView]:
    """Let a route handle events from now on."""
    await commands.publish_route(ctx, route_id, expected=parse_if_match(if_match, required=False))
    return await _answer(ctx, route_id)


@post("/routes/{route_id:str}/off", opt=_WRITE, status_code=200)
async def switch_off_route(
    ctx: RequestContext, route_id: RouteId, if_match: IfMatchHeader = None
) -> Response[RouteView]:
    """Let a route handle no further event; what it has made already is still delivered."""
    await commands.switch_off_route(ctx, route_id, expected=parse_if_match(if_match, required=False))
    return await _answer(ctx, route_id)


@post("/routes/{route_id:str}/rollback", opt=_WRITE, status_code=200)
async def roll_back_route(
    ctx: RequestContext, route_id: RouteId, data: JSONBody[RollbackRequest], if_match: IfMatchHeader = None
) -> Response[RouteView]:
    """Let a route say again what it said at an earlier version, as a new version. Its state stays."""
    expected = parse_if_match(if_match, required=False)
    await commands.roll_back_route(ctx, route_id, version=data.version, expected=expected)
    return await _answer(ctx, route_id)


@get("/routes/{route_id:str}/versions", opt=_READ)
async def list_versions(
    ctx: RequestContext,
    route_id: RouteId,
    limit: LimitParameter = 50,
    cursor: CursorParameter = None,
    sort: SortParameter = None,
) -> Page[VersionSummary]:
    """List a route's versions, newest first. Can be sorted by version."""
    return await queries.list_versions(ctx, route_id, limit=limit, cursor=cursor, sort=sort)


@get("/routes/{route_id:str}/versions/{version:int}", opt=_READ)
async def get_version(ctx: RequestContext, route_id: RouteId, version: VersionNumber) -> VersionView:
    """Read what a route said at a version, and how that differs from the version before."""
    return await queries.get_version(ctx, route_id, version)


@post("/routes/dry-run", opt=_READ, status_code=200)
async def dry_run_route(ctx: RequestContext, data: JSONBody[DryRunRequest]) -> Rehearsal:
    """Show, step by step, what a route would do with an event. Calls no one and writes nothing."""
    _exactly_one(data, "route_id", "rule")
    event = _exactly_one(data, "event_id", "event")
    if data.route_id is not None:
        route = await queries.get_route(ctx, data.route_id)
        return await rehearse(ctx, route.rule, event, endpoint_id=route.endpoint_id, modules=DIRECTORY)
    assert data.rule is not None
    return await rehearse(ctx, _rule_of(data.rule), event, endpoint_id=data.rule.endpoint_id, modules=DIRECTORY)


@post("/routes/back-test", opt=_READ, status_code=200)
async def back_test_route(ctx: RequestContext, data: JSONBody[BackTestRequest]) -> BackTest:
    """Show what a rule would have done with the latest events, and what would be different from the stored route.

    Calls no one and writes nothing.
    """
    route = None if data.route_id is None else await queries.get_route(ctx, data.route_id)
    if data.rule is not None:
        endpoint_id = data.rule.endpoint_id or (route.endpoint_id if route else None)
        beside = route.rule if route else None
        return await back_test(ctx, _rule_of(data.rule), beside=beside, endpoint_id=endpoint_id, events=data.events)
    if route is None:
        error = FieldError(field="rule", message="Give a rule, a route_id, or both.")
        raise InvalidPayload("There is nothing to try.", errors=[error])
    return await back_test(ctx, route.rule, beside=None, endpoint_id=route.endpoint_id, events=data.events)


def _rule_of(unsaved: UnsavedRule) -> RouteRule:
    pattern = EventPattern(types=unsaved.pattern, sites=unsaved.sites)
    return RouteRule(pattern=pattern, filter=unsaved.filter, mapping=unsaved.mapping)


def _exactly_one(data: DryRunRequest, one: str, other: str) -> Any:
    given = [value for value in (getattr(data, one), getattr(data, other)) if value is not None]
    if len(given) != 1:
        message = f"Give either {one} or {other}."
        raise InvalidPayload(f"Not accepted: {one}, {other}.", errors=[FieldError(field=one, message=message)])
    return given[0]


async def _answer(ctx: Context, route_id: str, *, status_code: int = 200) -> Response[RouteView]:
    route = await queries.get_route(ctx, route_id)
    return versioned(route, route.version, status_code=status_code)


ROUTES = (
    list_routes,
    create_route,
    get_route,
    change_route,
    delete_route,
    publish_route,
    switch_off_route,
    roll_back_route,
    list_versions,
    get_version,
    dry_run_route,
    back_test_route,
)
