"""The HTTP side of maintenance plans, and of the measurements that some of them wait for."""

from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID

import msgspec
from litestar import Response, delete, get, patch, post
from litestar.params import FromPath, FromQuery, JSONBody, Parameter

from busbar.sdk import (
    Context,
    CursorParameter,
    Identifier,
    IfMatchHeader,
    LimitParameter,
    Moment,
    Name,
    Page,
    RequestContext,
    ShortText,
    SignedQuantity,
    Slug,
    SortParameter,
    Where,
    parse_if_match,
    versioned,
)
from busbar_pm import measurements, plan_queries, plans, queries
from busbar_pm.measurements import MeasurementView, NewMeasurement, PostedMeasurement
from busbar_pm.plan_queries import CallView, PlanView
from busbar_pm.plan_triggers import Trigger
from busbar_pm.plans import LEAD_DAYS_MAX, OrderTemplate, PlanFields
from busbar_pm.route_parameters import READ, WRITE, AssetFilter, AssetId, SiteFilter

_LeadDays = Annotated[int, msgspec.Meta(ge=0, le=LEAD_DAYS_MAX)]


class PlanBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A plan for an asset; or, where incidents are awaited, for all assets of a type at a site."""

    EXAMPLE: ClassVar[dict[str, Any]] = {
        "name": "Oil sample",
        "asset_id": "TRF-1042",
        "trigger": {"kind": "calendar", "every": 12, "unit": "months", "first_due": "2027-03-01"},
        "template": {
            "order_type": "preventive",
            "description": "Oil sample and dissolved gas analysis",
            "checklist": [{"text": "Earthing in place"}],
            "labour": [{"description": "Fitter", "hours": "2", "hourly_rate": "62.50"}],
        },
        "lead_days": 14,
    }

    name: Name
    trigger: Trigger
    template: OrderTemplate
    asset_id: Identifier | None = None
    asset_type: Slug | None = None
    site: Slug | None = None
    """With `asset_type`; may be left out by who works for one site only."""
    lead_days: _LeadDays = 0
    """A calendar's order is opened so many days before it is due; others are scheduled for so many days later."""
    active: bool = True


class PlanPatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be different; fields that are left out stay. A new trigger, of the same kind, begins anew."""

    EXAMPLE: ClassVar[dict[str, Any]] = {"lead_days": 30}

    name: Name | None = None
    trigger: Trigger | None = None
    template: OrderTemplate | None = None
    lead_days: _LeadDays | None = None


class MeasurementBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A reading of a counter or gauge."""

    EXAMPLE: ClassVar[dict[str, Any]] = {"name": "oil_temperature", "value": "78.5", "unit": "°C"}

    name: Slug
    value: SignedQuantity
    unit: ShortText = ""
    taken_at: Moment | None = None
    """Now if left out."""
    source_ref: Identifier | None = None
    """The reading's own id where it came from; the same one is not taken twice of an asset."""


@get("/maintenance-plans", opt=READ)
async def list_plans(
    ctx: RequestContext,
    site: SiteFilter = None,
    asset_id: AssetFilter = None,
    kind: FromQuery[Literal["calendar", "meter", "condition", "incident"] | None] = None,
    active: FromQuery[bool | None] = None,
    limit: LimitParameter = 50,
    cursor: CursorParameter = None,
    sort: SortParameter = None,
) -> Page[PlanView]:
    """List maintenance plans. Can be sorted by name, created_at, next_due, plan_id."""
    where = await queries.at_sites(ctx, site)
    where.add("asset_id = {}", asset_id)
    where.add("kind = {}", kind)
    where.add("active = {}", active)
    return await plan_queries.list_plans(where, limit=limit, cursor=cursor, sort=sort)


@post("/maintenance-plans", opt=WRITE)
async def create_plan(ctx: RequestContext, data: JSONBody[PlanBody]) -> Response[PlanView]:
    """Add a maintenance plan."""
    given = msgspec.structs.asdict(data)
    site = given.pop("site")
    plan_id = await plans.create(ctx, PlanFields(**given), site_id=site)
    plan = await plan_queries.get_plan(ctx, plan_id)
    return versioned(plan, plan.version, status_code=201)


@get("/maintenance-plans/{plan_id:uuid}", opt=READ)
async def get_plan(ctx: RequestContext, plan_id: FromPath[UUID]) -> Response[PlanView]:
    """Read one maintenance plan."""
    return await _plan(ctx, plan_id)


@patch("/maintenance-plans/{plan_id:uuid}", opt=WRITE)
async def change_plan(
    ctx: RequestContext, plan_id: FromPath[UUID], data: JSONBody[PlanPatch], if_match: IfMatchHeader = None
) -> Response[PlanView]:
    """Change a maintenance plan; orders that it called for stay as they are."""
    changes = {name: value for name, value in msgspec.structs.asdict(data).items() if value is not None}
    await plans.change(ctx, plan_id, changes, expected=parse_if_match(if_match, required=False))
    return await _plan(ctx, plan_id)


@delete("/maintenance-plans/{plan_id:uuid}", opt=WRITE, status_code=204)
async def delete_plan(ctx: RequestContext, plan_id: FromPath[UUID], if_match: IfMatchHeader = None) -> None:
    """Delete a plan that never called for an order; otherwise deactivate it."""
    await plans.remove(ctx, plan_id, expected=parse_if_match(if_match, required=False))


@post("/maintenance-plans/{plan_id:uuid}/activate", opt=WRITE, status_code=200)
async def activate_plan(
    ctx: RequestContext, plan_id: FromPath[UUID], if_match: IfMatchHeader = None
) -> Response[PlanView]:
    """Let a plan call for orders again, from now on; what was due meanwhile is not made up for."""
    await plans.set_active(ctx, plan_id, active=True, expected=parse_if_match(if_match, required=False))
    return await _plan(ctx, plan_id)


@post("/maintenance-plans/{plan_id:uuid}/deactivate", opt=WRITE, status_code=200)
async def deactivate_plan(
    ctx: RequestContext, plan_id: FromPath[UUID], if_match: IfMatchHeader = None
) -> Response[PlanView]:
    """Let a plan rest; orders that it called for stay as they are."""
    await plans.set_active(ctx, plan_id, active=False, expected=parse_if_match(if_match, required=False))
    return await _plan(ctx, plan_id)


@get("/maintenance-plans/{plan_id:uuid}/calls", opt=READ)
async def list_calls(
    ctx: RequestContext,
    plan_id: FromPath[UUID],
    limit: LimitParameter = 50,
    cursor: CursorParameter = None,
    sort: SortParameter = None,
) -> Page[CallView]:
    """List the calls of a plan, each with its order. Can be sorted by number."""
    return await plan_queries.list_calls(ctx, plan_id, limit=limit, cursor=cursor, sort=sort)


@post("/assets/{asset_id:str}/measurements", opt=WRITE)
async def post_measurement(
    ctx: RequestContext, asset_id: AssetId, data: JSONBody[MeasurementBody]
) -> PostedMeasurement:
    """Keep a reading, and open the orders that it makes due."""
    return await measurements.post(ctx, asset_id, NewMeasurement(**msgspec.structs.asdict(data)))


@get("/assets/{asset_id:str}/measurements", opt=READ)
async def list_measurements(
    ctx: RequestContext,
    asset_id: AssetId,
    name: Annotated[str | None, Parameter(max_length=40, pattern="^[a-z][a-z0-9_-]*$")] = None,
    limit: LimitParameter = 50,
    cursor: CursorParameter = None,
    sort: SortParameter = None,
) -> Page[MeasurementView]:
    """List an asset's readings. Can be sorted by taken_at, measurement_id."""
    await queries.get_asset(ctx, asset_id)
    where = Where("asset_id = $1", asset_id)
    where.add("name = {}", name)
    return await measurements.list_measurements(where, limit=limit, cursor=cursor, sort=sort)


async def _plan(ctx: Context, plan_id: UUID) -> Response[PlanView]:
    plan = await plan_queries.get_plan(ctx, plan_id)
    return versioned(plan, plan.version)


ROUTES = (
    list_plans,
    create_plan,
    get_plan,
    change_plan,
    delete_plan,
    activate_plan,
    deactivate_plan,
    list_calls,
    post_measurement,
    list_measurements,
)
