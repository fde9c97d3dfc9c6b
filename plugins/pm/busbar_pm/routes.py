"""The HTTP side of plant maintenance, under /api/v1/pm."""

from datetime import date
from typing import Annotated, Any, ClassVar
from uuid import UUID

import msgspec
from litestar import Response, delete, get, patch, post
from litestar.params import FromPath, FromQuery, JSONBody, Parameter, QueryParameter

from busbar.sdk import (
    Context,
    CursorParameter,
    Identifier,
    IfMatchHeader,
    Latitude,
    LimitParameter,
    Longitude,
    LongText,
    Moment,
    Name,
    Page,
    PositiveNumber,
    RequestContext,
    SearchParameter,
    ShortText,
    Slug,
    SortParameter,
    Text,
    WholeNumber,
    needs,
    parse_if_match,
    versioned,
)
from busbar_pm import assets, incident_changes, incidents, orders, queries
from busbar_pm.assets import AssetFields, AssetStatus
from busbar_pm.events import FaultType, OrderType, Severity
from busbar_pm.incident_changes import RestorationStep
from busbar_pm.incidents import NewIncident, ReportedIncident
from busbar_pm.indices_routes import INDEX_ROUTES
from busbar_pm.orders import NewOrder, PlannedOrder
from busbar_pm.queries import AssetView, HistoryEntry, IncidentView, OrderView

_READ = needs("pm.read")
_WRITE = needs("pm.write")

SiteFilter = Annotated[
    str | None, QueryParameter(name="site", max_length=40, pattern="^[a-z][a-z0-9_-]*$", description="Only this site.")
]
AssetFilter = Annotated[str | None, QueryParameter(name="asset_id", max_length=60, pattern=r"^[^\x00-\x1f\x7f]*$")]
AssetId = Annotated[str, Parameter(max_length=60, pattern=r"^[^\x00-\x1f\x7f]*$")]


class AssetBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An asset to be added. Without `asset_id` it gets one."""

    EXAMPLE: ClassVar[dict[str, Any]] = {
        "asset_id": "TRF-1042",
        "asset_type": "transformer",
        "name": "Transformer Mill Lane",
        "site": "depot-north",
        "location": "Mill Lane 4",
        "latitude": 53.551086,
        "longitude": 9.993682,
        "installation_date": "1998-05-14",
        "customers_served": 148,
        "voltage_kv": 20.0,
        "attributes": {"rated_kva": 630},
    }

    asset_type: Slug
    name: Name
    site: Slug | None = None
    """May be left out by who works for one site only."""
    asset_id: Identifier | None = None
    location: ShortText = ""
    latitude: Latitude | None = None
    longitude: Longitude | None = None
    installation_date: date | None = None
    status: AssetStatus = "in_service"
    parent_id: Identifier | None = None
    customers_served: WholeNumber = 0
    voltage_kv: Annotated[float, msgspec.Meta(ge=0, le=2000)] | None = None
    attributes: Annotated[dict[str, ShortText | int | float | bool | None], msgspec.Meta(max_length=50)] = {}


class AssetPatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be different; fields that are left out stay, null clears one that may be unknown."""

    EXAMPLE: ClassVar[dict[str, Any]] = {"status": "out_of_service"}

    asset_type: Slug | msgspec.UnsetType = msgspec.UNSET
    name: Name | msgspec.UnsetType = msgspec.UNSET
    location: ShortText | msgspec.UnsetType = msgspec.UNSET
    latitude: Latitude | msgspec.UnsetType | None = msgspec.UNSET
    longitude: Longitude | msgspec.UnsetType | None = msgspec.UNSET
    installation_date: date | msgspec.UnsetType | None = msgspec.UNSET
    status: AssetStatus | msgspec.UnsetType = msgspec.UNSET
    parent_id: Identifier | msgspec.UnsetType | None = msgspec.UNSET
    customers_served: WholeNumber | msgspec.UnsetType = msgspec.UNSET
    voltage_kv: Annotated[float, msgspec.Meta(ge=0, le=2000)] | msgspec.UnsetType | None = msgspec.UNSET
    attributes: (
        Annotated[dict[str, ShortText | int | float | bool | None], msgspec.Meta(max_length=50)] | msgspec.UnsetType
    ) = msgspec.UNSET


class OrderBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Work that is to be done on an asset."""

    EXAMPLE: ClassVar[dict[str, Any]] = {
        "asset_id": "TRF-1042",
        "order_type": "preventive",
        "description": "Oil sample and visual check",
        "scheduled_date": "2027-03-01",
    }

    asset_id: Identifier
    order_type: OrderType
    description: LongText
    scheduled_date: date


class OrderPatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be different in a planned order."""

    EXAMPLE: ClassVar[dict[str, Any]] = {"scheduled_date": "2027-03-15"}

    description: LongText | None = None
    scheduled_date: date | None = None


class Completion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The report of the work done."""

    EXAMPLE: ClassVar[dict[str, Any]] = {"notes": "Oil sample taken, no leaks"}

    notes: Text = "Done."


class IncidentBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A report that something is wrong with an asset."""

    EXAMPLE: ClassVar[dict[str, Any]] = {
        "asset_id": "TRF-1042",
        "fault_type": "outage",
        "severity": "P2",
        "description": "Cable fault behind the transformer",
        "customers_affected": 148,
    }

    asset_id: Identifier
    fault_type: FaultType
    severity: Severity
    description: LongText
    started_at: Moment | None = None
    """When it began; now if left out."""
    customers_affected: WholeNumber | None = None
    """For an outage, by default all customers served through the asset."""
    source_ref: Identifier | None = None
    """The report's own id where it came from; the same one is not taken twice at a site."""


class StepBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """So many customers have supply again from this moment on."""

    restored_at: Moment
    customers_restored: PositiveNumber
    note: ShortText | None = None


class IncidentPatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is known better now; fields that are left out stay. `steps` are added to those there are."""

    EXAMPLE: ClassVar[dict[str, Any]] = {
        "steps": [{"restored_at": "2026-11-23T14:30:00Z", "customers_restored": 120, "note": "Fed from the neighbour"}]
    }

    description: LongText | None = None
    severity: Severity | None = None
    customers_affected: WholeNumber | None = None
    steps: Annotated[tuple[StepBody, ...], msgspec.Meta(max_length=100)] = ()


@get("/assets", opt=_READ)
async def list_assets(
    ctx: RequestContext,
    site: SiteFilter = None,
    asset_type: Annotated[str | None, Parameter(max_length=40, pattern="^[a-z][a-z0-9_-]*$")] = None,
    status: FromQuery[AssetStatus | None] = None,
    parent_id: Annotated[str | None, Parameter(max_length=60, pattern=r"^[^\x00-\x1f\x7f]*$")] = None,
    text: SearchParameter = None,
    limit: LimitParameter = 50,
    cursor: CursorParameter = None,
    sort: SortParameter = None,
) -> Page[AssetView]:
    """List assets. Can be sorted by asset_id, name, asset_type, status, customers_served, created_at."""
    where = queries.at_sites(ctx, site)
    where.add("asset_type = {}", asset_type)
    where.add("status = {}", status)
    where.add("parent_id = {}", parent_id)
    where.add("to_tsvector('simple', name || ' ' || location) @@ plainto_tsquery('simple', {})", text)
    return await queries.list_assets(where, limit=limit, cursor=cursor, sort=sort)


@post("/assets", opt=_WRITE)
async def create_asset(ctx: RequestContext, data: JSONBody[AssetBody]) -> Response[AssetView]:
    """Add an asset."""
    given = msgspec.structs.asdict(data)
    site, asset_id = given.pop("site"), given.pop("asset_id")
    created = await assets.create(
        ctx, asset_id=asset_id, site_id=assets.site_for(ctx, site), fields=AssetFields(**given)
    )
    asset = await queries.get_asset(ctx, created)
    return versioned(asset, asset.version, status_code=201)


@get("/assets/{asset_id:str}", opt=_READ)
async def get_asset(ctx: RequestContext, asset_id: AssetId) -> Response[AssetView]:
    """Read one asset."""
    asset = await queries.get_asset(ctx, asset_id)
    return versioned(asset, asset.version)


@patch("/assets/{asset_id:str}", opt=_WRITE)
async def change_asset(
    ctx: RequestContext, asset_id: AssetId, data: JSONBody[AssetPatch], if_match: IfMatchHeader = None
) -> Response[AssetView]:
    """Change an asset."""
    changes = {name: value for name, value in msgspec.structs.asdict(data).items() if value is not msgspec.UNSET}
    await assets.change(ctx, asset_id, changes, expected=parse_if_match(if_match, required=False))
    asset = await queries.get_asset(ctx, asset_id)
    return versioned(asset, asset.version)


@delete("/assets/{asset_id:str}", opt=_WRITE, status_code=204)
async def delete_asset(ctx: RequestContext, asset_id: AssetId, if_match: IfMatchHeader = None) -> None:
    """Delete an asset that nothing refers to; otherwise set its status to retired."""
    await assets.remove(ctx, asset_id, expected=parse_if_match(if_match, required=False))


@get("/assets/{asset_id:str}/history", opt=_READ)
async def get_history(ctx: RequestContext, asset_id: AssetId) -> tuple[HistoryEntry, ...]:
    """Read what was done to an asset, newest first."""
    return await queries.history_of(ctx, asset_id)


@get("/maintenance-orders", opt=_READ)
async def list_orders(
    ctx: RequestContext,
    site: SiteFilter = None,
    asset_id: AssetFilter = None,
    order_type: FromQuery[OrderType | None] = None,
    status: Annotated[str | None, Parameter(max_length=20, pattern="^[a-z]*$")] = None,
    limit: LimitParameter = 50,
    cursor: CursorParameter = None,
    sort: SortParameter = None,
) -> Page[OrderView]:
    """List maintenance orders. Can be sorted by scheduled_date, created_at, status, order_id."""
    where = queries.at_sites(ctx, site)
    where.add("asset_id = {}", asset_id)
    where.add("order_type = {}", order_type)
    where.add("status = {}", status)
    return await queries.list_orders(where, limit=limit, cursor=cursor, sort=sort)


@post("/maintenance-orders", opt=_WRITE)
async def plan_order(ctx: RequestContext, data: JSONBody[OrderBody]) -> PlannedOrder:
    """Plan maintenance of an asset; opens a Maintenance ticket."""
    return await orders.plan(ctx, NewOrder(**msgspec.structs.asdict(data)))


@get("/maintenance-orders/{order_id:uuid}", opt=_READ)
async def get_order(ctx: RequestContext, order_id: FromPath[UUID]) -> Response[OrderView]:
    """Read one maintenance order."""
    return await _order(ctx, order_id)


@patch("/maintenance-orders/{order_id:uuid}", opt=_WRITE)
async def change_order(
    ctx: RequestContext, order_id: FromPath[UUID], data: JSONBody[OrderPatch], if_match: IfMatchHeader = None
) -> Response[OrderView]:
    """Change a planned order."""
    expected = parse_if_match(if_match, required=False)
    await orders.change(
        ctx, order_id, description=data.description, scheduled_date=data.scheduled_date, expected=expected
    )
    return await _order(ctx, order_id)


@delete("/maintenance-orders/{order_id:uuid}", opt=_WRITE, status_code=204)
async def call_off_order(ctx: RequestContext, order_id: FromPath[UUID], if_match: IfMatchHeader = None) -> None:
    """Call off a planned order; it stays on record as cancelled, with its ticket."""
    expected = parse_if_match(if_match, required=False)
    await orders.call_off(ctx, order_id, reason="The order was called off.", expected=expected)


@post("/maintenance-orders/{order_id:uuid}/complete", opt=_WRITE, status_code=200)
async def complete_order(
    ctx: RequestContext,
    order_id: FromPath[UUID],
    data: JSONBody[Completion | None] = None,
    if_match: IfMatchHeader = None,
) -> Response[OrderView]:
    """Report that the work is done: closes the ticket and writes the asset's history."""
    expected = parse_if_match(if_match, required=False)
    await orders.complete(ctx, order_id, notes=(data or Completion()).notes, expected=expected)
    return await _order(ctx, order_id)


@get("/incidents", opt=_READ)
async def list_incidents(
    ctx: RequestContext,
    site: SiteFilter = None,
    asset_id: AssetFilter = None,
    fault_type: FromQuery[FaultType | None] = None,
    severity: FromQuery[Severity | None] = None,
    open_only: Annotated[bool, QueryParameter(name="open", description="Only those not yet restored.")] = False,
    limit: LimitParameter = 50,
    cursor: CursorParameter = None,
    sort: SortParameter = None,
) -> Page[IncidentView]:
    """List incidents. Can be sorted by started_at, created_at, customers_affected, severity, incident_id."""
    where = queries.at_sites(ctx, site)
    where.add("asset_id = {}", asset_id)
    where.add("fault_type = {}", fault_type)
    where.add("severity = {}", severity)
    where.add("(restored_at is null) = {}", True if open_only else None)
    return await queries.list_incidents(where, limit=limit, cursor=cursor, sort=sort)


@post("/incidents", opt=_WRITE)
async def report_incident(ctx: RequestContext, data: JSONBody[IncidentBody]) -> ReportedIncident:
    """Report an incident; opens an Incident ticket. 201 means that both, and their event, are stored for good."""
    return await incidents.report(ctx, NewIncident(**msgspec.structs.asdict(data)))


@get("/incidents/{incident_id:uuid}", opt=_READ)
async def get_incident(ctx: RequestContext, incident_id: FromPath[UUID]) -> Response[IncidentView]:
    """Read one incident, with the steps of its restoration."""
    return await _incident(ctx, incident_id)


@patch("/incidents/{incident_id:uuid}", opt=_WRITE)
async def change_incident(
    ctx: RequestContext,
    incident_id: FromPath[UUID],
    data: JSONBody[IncidentPatch],
    if_match: IfMatchHeader = None,
) -> Response[IncidentView]:
    """Change what is known of an incident, and note which customers have supply again."""
    await incident_changes.change(
        ctx,
        incident_id,
        description=data.description,
        severity=data.severity,
        customers_affected=data.customers_affected,
        steps=[RestorationStep(**msgspec.structs.asdict(step)) for step in data.steps],
        expected=parse_if_match(if_match, required=False),
    )
    return await _incident(ctx, incident_id)


async def _order(ctx: Context, order_id: UUID) -> Response[OrderView]:
    order = await queries.get_order(ctx, order_id)
    return versioned(order, order.version)


async def _incident(ctx: Context, incident_id: UUID) -> Response[IncidentView]:
    incident = await queries.get_incident(ctx, incident_id)
    return versioned(incident, incident.version)


ROUTES = (
    list_assets,
    create_asset,
    get_asset,
    change_asset,
    delete_asset,
    get_history,
    list_orders,
    plan_order,
    get_order,
    change_order,
    call_off_order,
    complete_order,
    list_incidents,
    report_incident,
    get_incident,
    change_incident,
    *INDEX_ROUTES,
)
