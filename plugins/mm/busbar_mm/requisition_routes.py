"""The HTTP side of purchase requisitions, under /api/v1/mm."""

from typing import Any, ClassVar
from uuid import UUID

import msgspec
from litestar import Response, delete, get, patch, post
from litestar.params import FromPath, FromQuery, JSONBody

from busbar.sdk import (
    Context,
    CursorParameter,
    Identifier,
    IfMatchHeader,
    LimitParameter,
    LongText,
    Name,
    Page,
    PositiveQuantity,
    RequestContext,
    SortParameter,
    needs,
    parse_if_match,
    versioned,
)
from busbar_mm import queries, requisitions
from busbar_mm.events import RequisitionOrigin, RequisitionStatus
from busbar_mm.fields import MaterialFilter, SiteFilter
from busbar_mm.queries import RequisitionView

_READ = needs("mm.read")
_WRITE = needs("mm.write")


class RequisitionBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A purchase that is wanted."""

    EXAMPLE: ClassVar[dict[str, Any]] = {
        "material_id": "FUSE-HH-63",
        "quantity": "24",
        "cost_center_id": "CC-4100",
        "justification": "Three ring main units are to be refitted in May",
    }

    material_id: Identifier
    quantity: PositiveQuantity
    cost_center_id: Identifier | None = None
    """By default the material's."""
    justification: LongText = ""
    storage_location: Name | None = None
    """Where it is to be received; by default the material's."""


class RequisitionPatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be different in a requisition that nobody has approved yet."""

    EXAMPLE: ClassVar[dict[str, Any]] = {"quantity": "18"}

    quantity: PositiveQuantity | msgspec.UnsetType = msgspec.UNSET
    cost_center_id: Identifier | msgspec.UnsetType | None = msgspec.UNSET
    justification: LongText | msgspec.UnsetType = msgspec.UNSET


class OrderBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """That a requisition was ordered."""

    EXAMPLE: ClassVar[dict[str, Any]] = {"external_number": "4500001234"}

    external_number: Identifier | None = None
    """The number of the order in the purchasing system."""


class RequestedPurchase(msgspec.Struct, frozen=True, kw_only=True):
    """What was opened."""

    requisition_id: UUID
    ticket_id: str


@get("/purchase-requisitions", opt=_READ)
async def list_requisitions(
    ctx: RequestContext,
    site: SiteFilter = None,
    material_id: MaterialFilter = None,
    status: FromQuery[RequisitionStatus | None] = None,
    origin: FromQuery[RequisitionOrigin | None] = None,
    limit: LimitParameter = 50,
    cursor: CursorParameter = None,
    sort: SortParameter = None,
) -> Page[RequisitionView]:
    """List purchase requisitions. Can be sorted by created_at, amount, status, requisition_id."""
    where = await queries.at_sites(ctx, site)
    where.add("material_id = {}", material_id)
    where.add("status = {}", status)
    where.add("origin = {}", origin)
    return await queries.list_requisitions(where, limit=limit, cursor=cursor, sort=sort)


@post("/purchase-requisitions", opt=_WRITE)
async def create_requisition(ctx: RequestContext, data: JSONBody[RequisitionBody]) -> RequestedPurchase:
    """Request a purchase; opens a Procurement ticket, and finance decides."""
    opened = await requisitions.create(
        ctx,
        data.material_id,
        quantity=data.quantity,
        cost_center_id=data.cost_center_id,
        justification=data.justification,
        storage_location=data.storage_location,
    )
    return RequestedPurchase(requisition_id=opened.requisition_id, ticket_id=opened.ticket_id)


@get("/purchase-requisitions/{requisition_id:uuid}", opt=_READ)
async def get_requisition(ctx: RequestContext, requisition_id: FromPath[UUID]) -> Response[RequisitionView]:
    """Read one purchase requisition."""
    return await _requisition(ctx, requisition_id)


@patch("/purchase-requisitions/{requisition_id:uuid}", opt=_WRITE)
async def change_requisition(
    ctx: RequestContext,
    requisition_id: FromPath[UUID],
    data: JSONBody[RequisitionPatch],
    if_match: IfMatchHeader = None,
) -> Response[RequisitionView]:
    """Change a purchase requisition that nobody has approved yet."""
    changes = {name: value for name, value in msgspec.structs.asdict(data).items() if value is not msgspec.UNSET}
    await requisitions.change(ctx, requisition_id, changes, expected=parse_if_match(if_match, required=False))
    return await _requisition(ctx, requisition_id)


@post("/purchase-requisitions/{requisition_id:uuid}/order", opt=_WRITE, status_code=200)
async def place_order(
    ctx: RequestContext,
    requisition_id: FromPath[UUID],
    data: JSONBody[OrderBody | None] = None,
    if_match: IfMatchHeader = None,
) -> Response[RequisitionView]:
    """Note that an approved requisition was ordered."""
    await requisitions.place_order(
        ctx,
        requisition_id,
        external_number=(data or OrderBody()).external_number,
        expected=parse_if_match(if_match, required=False),
    )
    return await _requisition(ctx, requisition_id)


@delete("/purchase-requisitions/{requisition_id:uuid}", opt=_WRITE, status_code=204)
async def call_off_requisition(
    ctx: RequestContext, requisition_id: FromPath[UUID], if_match: IfMatchHeader = None
) -> None:
    """Call off a purchase requisition; it stays on record as cancelled, with its ticket."""
    expected = parse_if_match(if_match, required=False)
    await requisitions.call_off(ctx, requisition_id, reason="The requisition was called off.", expected=expected)


async def _requisition(ctx: Context, requisition_id: UUID) -> Response[RequisitionView]:
    requisition = await queries.get_requisition(ctx, requisition_id)
    return versioned(requisition, requisition.version)


REQUISITION_ROUTES = (
    list_requisitions,
    create_requisition,
    get_requisition,
    change_requisition,
    place_order,
    call_off_requisition,
)
