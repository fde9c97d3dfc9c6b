"""The HTTP side of service levels: explanations, targets, weather events."""

from typing import Annotated, Any, ClassVar
from uuid import UUID

import msgspec
from litestar import Response, get, patch, post, put
from litestar.params import FromPath, JSONBody, Parameter, QueryParameter
from msgspec import Meta

from busbar.auth.guards import RequestContext
from busbar.tickets import sla_targets, weather_events
from busbar.tickets.routes import Reason, TicketId
from busbar.tickets.sla_explained import SlaView, explain_ticket
from busbar.tickets.sla_targets import Percent, TargetSetting, TargetsView
from busbar.tickets.sla_terms import TERMS
from busbar.tickets.weather_events import WeatherEventView
from busbar.web.access import needs
from busbar.web.conditional import IfMatchHeader, parse_if_match, versioned
from busbar.web.pagination import CursorParameter, LimitParameter, Page, SortParameter
from busbar.web.text import SLUG, Moment, Name, Slug

_READ = needs("sla.read")
_WRITE = needs("sla.write")
_DECLARE = needs("sla.declare")

SiteId = Annotated[str, Parameter(max_length=40, pattern=SLUG)]
SiteFilter = Annotated[str | None, QueryParameter(name="site", max_length=40, pattern=SLUG)]


class TargetSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The targets that are set here, all of them: what is left out goes."""

    EXAMPLE: ClassVar[dict[str, Any]] = {"targets": [TargetSetting.EXAMPLE], "warn_percent": 75}

    targets: Annotated[tuple[TargetSetting, ...], Meta(max_length=8)]
    warn_percent: Percent | None = None
    """A warning is told when so much of a target is used up."""


class NewWeatherEvent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A time of bad weather at a site, which may be over already."""

    EXAMPLE: ClassVar[dict[str, Any]] = {
        "site": "depot-north",
        "name": "Storm Zeynep",
        "starts_at": "2026-11-23T06:00:00Z",
        "ends_at": "2026-11-24T12:00:00Z",
    }

    site: Slug
    name: Name
    starts_at: Moment
    ends_at: Moment | None = None
    """Exclusive; left out while it goes on."""


class WeatherEventChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be different; fields that are left out stay. `ends_at` ends it."""

    EXAMPLE: ClassVar[dict[str, Any]] = {"ends_at": "2026-11-24T18:00:00Z"}

    name: Name | None = None
    starts_at: Moment | None = None
    ends_at: Moment | None = None


@get("/tickets/{ticket_id:str}/sla", opt=needs("tickets.read"))
async def explain(ctx: RequestContext, ticket_id: TicketId) -> SlaView:
    """Explain a ticket's deadlines as segments of time that add up to the second."""
    return await explain_ticket(ctx, ticket_id)


@get("/sla/targets", opt=_READ)
async def get_targets(ctx: RequestContext) -> Response[TargetsView]:
    """Read the targets of every site that has none of its own."""
    targets = await sla_targets.get_targets(ctx, None)
    return versioned(targets, targets.version)


@put("/sla/targets", opt=_WRITE)
async def set_targets(
    ctx: RequestContext, data: JSONBody[TargetSettings], if_match: IfMatchHeader = None
) -> Response[TargetsView]:
    """Set the targets of every site that has none of its own; open tickets keep what they were promised."""
    return await _set_targets(ctx, None, data, if_match)


@get("/sites/{site_id:str}/sla-targets", opt=_READ)
async def get_targets_of_site(ctx: RequestContext, site_id: SiteId) -> Response[TargetsView]:
    """Read the targets of a site, and where each was set."""
    targets = await sla_targets.get_targets(ctx, site_id)
    return versioned(targets, targets.version)


@put("/sites/{site_id:str}/sla-targets", opt=_WRITE)
async def set_targets_of_site(
    ctx: RequestContext, site_id: SiteId, data: JSONBody[TargetSettings], if_match: IfMatchHeader = None
) -> Response[TargetsView]:
    """Set the targets in which a site differs from the others; open tickets keep what they were promised."""
    return await _set_targets(ctx, site_id, data, if_match)


@get("/sla/weather-events", opt=_READ)
async def list_weather_events(
    ctx: RequestContext,
    site: SiteFilter = None,
    limit: LimitParameter = 50,
    cursor: CursorParameter = None,
    sort: SortParameter = None,
) -> Page[WeatherEventView]:
    """List the weather events of the caller's sites. Can be sorted by created_at, starts_at, weather_event_id."""
    return await weather_events.list_weather_events(ctx, site=site, limit=limit, cursor=cursor, sort=sort)


@post("/sla/weather-events", opt=_DECLARE)
async def declare(ctx: RequestContext, data: JSONBody[NewWeatherEvent]) -> Response[WeatherEventView]:
    """Declare a weather event, also afterwards: incidents of its period get the targets of the class `storm`."""
    declared = await weather_events.declare(
        ctx, site_id=data.site, name=data.name, starts_at=data.starts_at, ends_at=data.ends_at
    )
    event = await weather_events.get_weather_event(ctx, declared)
    return versioned(event, event.version, status_code=201)


@get("/sla/weather-events/{weather_event_id:uuid}", opt=_READ)
async def get_weather_event(ctx: RequestContext, weather_event_id: FromPath[UUID]) -> Response[WeatherEventView]:
    """Read one weather event."""
    event = await weather_events.get_weather_event(ctx, weather_event_id)
    return versioned(event, event.version)


@patch("/sla/weather-events/{weather_event_id:uuid}", opt=_DECLARE)
async def change_weather_event(
    ctx: RequestContext,
    weather_event_id: FromPath[UUID],
    data: JSONBody[WeatherEventChange],
    if_match: IfMatchHeader = None,
) -> Response[WeatherEventView]:
    """Change or end a weather event; incidents outside of its period go back to their former targets."""
    await weather_events.change(
        ctx,
        weather_event_id,
        name=data.name,
        starts_at=data.starts_at,
        ends_at=data.ends_at,
        expected=parse_if_match(if_match, required=False),
    )
    event = await weather_events.get_weather_event(ctx, weather_event_id)
    return versioned(event, event.version)


@post("/sla/weather-events/{weather_event_id:uuid}/withdraw", opt=_DECLARE, status_code=200)
async def withdraw(
    ctx: RequestContext, weather_event_id: FromPath[UUID], data: JSONBody[Reason], if_match: IfMatchHeader = None
) -> Response[WeatherEventView]:
    """Take a weather event back: its incidents get their former targets again."""
    expected = parse_if_match(if_match, required=False)
    await weather_events.withdraw(ctx, weather_event_id, reason=data.reason, expected=expected)
    event = await weather_events.get_weather_event(ctx, weather_event_id)
    return versioned(event, event.version)


async def _set_targets(
    ctx: RequestContext, site_id: str | None, data: TargetSettings, if_match: str | None
) -> Response[TargetsView]:
    expected = parse_if_match(if_match, required=False)
    await sla_targets.set_targets(ctx, site_id, targets=data.targets, warn_percent=data.warn_percent, expected=expected)
    await TERMS.refresh(ctx.clock)  # the caller's next ticket may come before the notice of the change
    targets = await sla_targets.get_targets(ctx, site_id)
    return versioned(targets, targets.version)


SLA_ROUTES = (
    explain,
    get_targets,
    set_targets,
    get_targets_of_site,
    set_targets_of_site,
    list_weather_events,
    declare,
    get_weather_event,
    change_weather_event,
    withdraw,
)
