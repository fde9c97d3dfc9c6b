"""The HTTP side of maintenance orders."""

from datetime import date
from typing import Annotated, Any, ClassVar
from uuid import UUID

import msgspec
from litestar import Response, delete, get, patch, post, put
from litestar.params import FromPath, FromQuery, JSONBody, Parameter, QueryParameter

from busbar.sdk import (
    Context,
    CursorParameter,
    Identifier,
    IfMatchHeader,
    LimitParameter,
    LongText,
    Page,
    RequestContext,
    ShortText,
    Slug,
    SortParameter,
    Text,
    parse_if_match,
    versioned,
)
from busbar_pm import order_completion, order_queries, orders, queries
from busbar_pm.events import CostType, OrderType
from busbar_pm.failure_codes import CODE_GROUPS
from busbar_pm.order_completion import Actuals
from busbar_pm.order_queries import OrderView
from busbar_pm.order_work import Checklist, Components, LabourPlan
from busbar_pm.orders import NewOrder, PlannedOrder
from busbar_pm.route_parameters import READ, WRITE, AssetFilter, SiteFilter


class OrderBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Work that is to be done on an asset."""

    EXAMPLE: ClassVar[dict[str, Any]] = {
        "asset_id": "TRF-1042",
        "order_type": "preventive",
        "description": "Oil sample and visual check",
        "scheduled_date": "2027-03-01",
        "cost_center_id": "CC-4100",
        "checklist": [{"text": "Earthing in place"}, {"text": "Photograph the nameplate", "mandatory": False}],
        "labour": [{"description": "Fitter", "hours": "4", "hourly_rate": "62.50"}],
        "components": [{"material_id": "OIL-INHIBITED", "quantity": "20"}],
    }

    order_type: OrderType
    description: LongText
    scheduled_date: date
    asset_id: Identifier | None = None
    """Needed, unless `incident_id` is given: then it is the incident's."""
    incident_id: UUID | None = None
    """The incident that the work mends."""
    cost_center_id: Identifier | None = None
    """By default the asset's."""
    cost_type: CostType = "OPEX"
    checklist: Checklist = ()
    labour: LabourPlan = ()
    """Planned hours; what was worked is noted with `actuals`."""
    components: Components = ()
    """Material planned to be taken from stock."""


class OrderPatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be different in a planned order; fields that are left out stay, lists are replaced as a whole."""

    EXAMPLE: ClassVar[dict[str, Any]] = {"scheduled_date": "2027-03-15"}

    description: LongText | None = None
    scheduled_date: date | None = None
    cost_center_id: Identifier | None = None
    cost_type: CostType | None = None
    object_part: Slug | None = None
    """The four failure codes are in `GET /pm/failure-codes`; `unknown` is one of each group."""
    damage: Slug | None = None
    cause: Slug | None = None
    detection: Slug | None = None
    checklist: Checklist | None = None
    labour: LabourPlan | None = None
    components: Components | None = None


class Tick(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An item of the checklist is done, or not after all."""

    EXAMPLE: ClassVar[dict[str, Any]] = {"done": True, "note": "0.4 ohm"}

    done: bool = True
    note: ShortText | None = None


class Completion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The report of the work done; `actuals` are added to those noted before."""

    EXAMPLE: ClassVar[dict[str, Any]] = {
        "notes": "Joint replaced, tested at 2 U0",
        "actuals": Actuals.EXAMPLE,
    }

    notes: Text = "Done."
    actuals: Actuals | None = None
    object_part: Slug | None = None
    """What had failed, for corrective and emergency orders."""
    damage: Slug | None = None
    cause: Slug | None = None
    detection: Slug | None = None


@get("/maintenance-orders", opt=READ)
async def list_orders(
    ctx: RequestContext,
    site: SiteFilter = None,
    asset_id: AssetFilter = None,
    order_type: FromQuery[OrderType | None] = None,
    status: Annotated[str | None, Parameter(max_length=20, pattern="^[a-z]*$")] = None,
    plan_id: Annotated[
        UUID | None, QueryParameter(name="plan_id", description="Only those this plan called for.")
    ] = None,
    incident_id: Annotated[
        UUID | None, QueryParameter(name="incident_id", description="Only those that mend it.")
    ] = None,
    limit: LimitParameter = 50,
    cursor: CursorParameter = None,
    sort: SortParameter = None,
) -> Page[OrderView]:
    """List maintenance orders. Can be sorted by scheduled_date, created_at, status, order_id."""
    where = await queries.at_sites(ctx, site)
    where.add("asset_id = {}", asset_id)
    where.add("order_type = {}", order_type)
    where.add("status = {}", status)
    where.add("plan_id = {}", plan_id)
    where.add("incident_id = {}", incident_id)
    return await order_queries.list_orders(where, limit=limit, cursor=cursor, sort=sort)


@post("/maintenance-orders", opt=WRITE)
async def plan_order(ctx: RequestContext, data: JSONBody[OrderBody]) -> PlannedOrder:
    """Plan maintenance of an asset; opens a Maintenance ticket."""
    return await orders.plan(ctx, NewOrder(**msgspec.structs.asdict(data)))


@get("/maintenance-orders/{order_id:uuid}", opt=READ)
async def get_order(ctx: RequestContext, order_id: FromPath[UUID]) -> Response[OrderView]:
    """Read one maintenance order, with its checklist, and planned and actual labour, material and cost."""
    return await _order(ctx, order_id)


@patch("/maintenance-orders/{order_id:uuid}", opt=WRITE)
async def change_order(
    ctx: RequestContext, order_id: FromPath[UUID], data: JSONBody[OrderPatch], if_match: IfMatchHeader = None
) -> Response[OrderView]:
    """Change a planned order."""
    expected = parse_if_match(if_match, required=False)
    changes = {name: value for name, value in msgspec.structs.asdict(data).items() if value is not None}
    await orders.change(ctx, order_id, changes, expected=expected)
    return await _order(ctx, order_id)


@delete("/maintenance-orders/{order_id:uuid}", opt=WRITE, status_code=204)
async def call_off_order(ctx: RequestContext, order_id: FromPath[UUID], if_match: IfMatchHeader = None) -> None:
    """Call off a planned order; it stays on record as cancelled, with its ticket."""
    expected = parse_if_match(if_match, required=False)
    await orders.call_off(ctx, order_id, reason="The order was called off.", expected=expected)


@put("/maintenance-orders/{order_id:uuid}/checklist/{position:int}", opt=WRITE)
async def tick_item(
    ctx: RequestContext,
    order_id: FromPath[UUID],
    position: Annotated[int, Parameter(ge=1, le=1_000)],
    data: JSONBody[Tick],
    if_match: IfMatchHeader = None,
) -> Response[OrderView]:
    """Tick an item of a planned order's checklist, by its position from 1, or take the tick away."""
    expected = parse_if_match(if_match, required=False)
    await orders.tick(ctx, order_id, position, done=data.done, note=data.note, expected=expected)
    return await _order(ctx, order_id)


@post("/maintenance-orders/{order_id:uuid}/actuals", opt=WRITE, status_code=200)
async def add_actuals(
    ctx: RequestContext, order_id: FromPath[UUID], data: JSONBody[Actuals], if_match: IfMatchHeader = None
) -> Response[OrderView]:
    """Note hours worked and bills; material issued from stock comes by itself from materials management."""
    await order_completion.add_actuals(ctx, order_id, data, expected=parse_if_match(if_match, required=False))
    return await _order(ctx, order_id)


@delete("/maintenance-orders/{order_id:uuid}/actuals/{entry_id:uuid}", opt=WRITE, status_code=204)
async def remove_actual(
    ctx: RequestContext, order_id: FromPath[UUID], entry_id: FromPath[UUID], if_match: IfMatchHeader = None
) -> None:
    """Take back a line of cost that was noted by mistake; the trail keeps it."""
    expected = parse_if_match(if_match, required=False)
    await order_completion.remove_actual(ctx, order_id, entry_id, expected=expected)


@post("/maintenance-orders/{order_id:uuid}/complete", opt=WRITE, status_code=200)
async def complete_order(
    ctx: RequestContext,
    order_id: FromPath[UUID],
    data: JSONBody[Completion | None] = None,
    if_match: IfMatchHeader = None,
) -> Response[OrderView]:
    """Report that the work is done: closes the ticket and writes the asset's history, with cost and hours."""
    data = data or Completion()
    await order_completion.complete(
        ctx,
        order_id,
        notes=data.notes,
        actuals=data.actuals,
        codes={group: code for group in CODE_GROUPS if (code := getattr(data, group)) is not None},
        expected=parse_if_match(if_match, required=False),
    )
    return await _order(ctx, order_id)


async def _order(ctx: Context, order_id: UUID) -> Response[OrderView]:
    order = await order_queries.get_order(ctx, order_id)
    return versioned(order, order.version)


ROUTES = (
    list_orders,
    plan_order,
    get_order,
    change_order,
    call_off_order,
    tick_item,
    add_actuals,
    remove_actual,
    complete_order,
)
