"""The HTTP side of materials and stock, under /api/v1/mm."""

from decimal import Decimal
from typing import Annotated, Any, ClassVar
from uuid import UUID

import msgspec
from litestar import Response, delete, get, patch, post
from litestar.params import FromQuery, JSONBody, QueryParameter

from busbar.sdk import (
    CursorParameter,
    Identifier,
    IfMatchHeader,
    LimitParameter,
    Name,
    Page,
    Quantity,
    RequestContext,
    SearchParameter,
    ShortText,
    SignedQuantity,
    Slug,
    SortParameter,
    UnitPrice,
    module_site,
    needs,
    parse_if_match,
    versioned,
)
from busbar_mm import locations, materials, queries, receipts, stock
from busbar_mm.books import Posting
from busbar_mm.events import TransactionType
from busbar_mm.fields import (
    Currency,
    LocationFilter,
    MaterialFilter,
    MaterialId,
    SiteFilter,
    TicketFilter,
    Unit,
)
from busbar_mm.materials import LOCATION_DEFAULT, MaterialFields
from busbar_mm.queries import LocationView, MaterialView, ReservationView, StockView, TransactionView
from busbar_mm.stock import Posted

_READ = needs("mm.read")
_WRITE = needs("mm.write")


class MaterialBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A material to be added. What is there of it already becomes the first entry of its ledger."""

    EXAMPLE: ClassVar[dict[str, Any]] = {
        "material_id": "FUSE-HH-63",
        "description": "HV fuse link 10/24 kV 63 A",
        "quantity": "24",
        "unit_of_measure": "EA",
        "reorder_level": "12",
        "reorder_buffer": "6",
        "storage_location": "RACK-A1",
        "cost_center_id": "CC-4100",
        "unit_price": "86.40",
        "site": "depot-north",
    }

    material_id: Identifier
    description: ShortText
    unit_of_measure: Unit
    quantity: Quantity = Decimal(0)
    reorder_level: Quantity = Decimal(0)
    reorder_buffer: Quantity = Decimal(0)
    """How much more than up to its level a reorder asks for."""
    storage_location: Name = LOCATION_DEFAULT
    """Where it is posted when no location is named; it is made if the site does not have it."""
    cost_center_id: Identifier | None = None
    """Who bears an issue that names neither a ticket nor a cost center."""
    unit_price: UnitPrice | None = None
    """What a unit is expected to cost."""
    currency: Currency = "EUR"
    site: Slug | None = None
    """May be left out by who works for one site only."""


class MaterialPatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be different; fields that are left out stay. The quantity is changed by stock transactions only."""

    EXAMPLE: ClassVar[dict[str, Any]] = {"reorder_level": "20"}

    description: ShortText | msgspec.UnsetType = msgspec.UNSET
    unit_of_measure: Unit | msgspec.UnsetType = msgspec.UNSET
    reorder_level: Quantity | msgspec.UnsetType = msgspec.UNSET
    reorder_buffer: Quantity | msgspec.UnsetType = msgspec.UNSET
    storage_location: Name | msgspec.UnsetType = msgspec.UNSET
    cost_center_id: Identifier | msgspec.UnsetType | None = msgspec.UNSET
    unit_price: UnitPrice | msgspec.UnsetType | None = msgspec.UNSET
    currency: Currency | msgspec.UnsetType = msgspec.UNSET


class PostingBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A change of stock: a receipt (above 0), an issue (below 0), an adjustment, or a transfer of so much (above 0)."""

    EXAMPLE: ClassVar[dict[str, Any]] = {
        "material_id": "FUSE-HH-63",
        "quantity_change": "-3",
        "transaction_type": "issue",
        "cost_center_id": "CC-4100",
        "note": "Ring main unit 11A",
    }

    material_id: Identifier
    quantity_change: SignedQuantity
    transaction_type: TransactionType
    storage_location: Name | None = None
    """By default the material's own; of a transfer, where it comes from."""
    to_storage_location: Name | None = None
    """Where a transfer leads."""
    unit_price: UnitPrice | None = None
    """What a unit of a receipt cost; by default what it is worth now."""
    ticket_id: Identifier | None = None
    """The ticket of the work that it is issued to."""
    cost_center_id: Identifier | None = None
    """Who bears an issue."""
    requisition_id: UUID | None = None
    """The purchase requisition that a receipt is for."""
    note: ShortText = ""
    """The reason of an adjustment, or what else is to be remembered."""


class LocationBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A storage location to be added."""

    EXAMPLE: ClassVar[dict[str, Any]] = {"storage_location": "RACK-A1", "title": "Hall A, first rack"}

    storage_location: Name
    title: ShortText = ""
    site: Slug | None = None
    """May be left out by who works for one site only."""


@get("/materials", opt=_READ)
async def list_materials(
    ctx: RequestContext,
    site: SiteFilter = None,
    storage_location: LocationFilter = None,
    below_level: Annotated[bool, QueryParameter(name="below_level", description="Only those to be reordered.")] = False,
    text: SearchParameter = None,
    limit: LimitParameter = 50,
    cursor: CursorParameter = None,
    sort: SortParameter = None,
) -> Page[MaterialView]:
    """List materials. Can be sorted by material_id, description, quantity, stock_value, created_at."""
    where = await queries.at_sites(ctx, site)
    where.add("storage_location = {}", storage_location)
    where.add("(quantity < reorder_level) = {}", True if below_level else None)
    where.add("to_tsvector('simple', description) @@ plainto_tsquery('simple', {})", text)
    return await queries.list_materials(where, limit=limit, cursor=cursor, sort=sort)


@post("/materials", opt=_WRITE)
async def create_material(ctx: RequestContext, data: JSONBody[MaterialBody]) -> Response[MaterialView]:
    """Add a material."""
    given = msgspec.structs.asdict(data)
    site, material_id, quantity = given.pop("site"), given.pop("material_id"), given.pop("quantity")
    await materials.create(
        ctx,
        material_id,
        site_id=await module_site(ctx, "mm", site, thing="material"),
        fields=MaterialFields(**given),
        quantity=quantity,
    )
    material = await queries.get_material(ctx, material_id)
    return versioned(material, material.version, status_code=201)


@get("/materials/{material_id:str}", opt=_READ)
async def get_material(ctx: RequestContext, material_id: MaterialId) -> Response[MaterialView]:
    """Read one material."""
    material = await queries.get_material(ctx, material_id)
    return versioned(material, material.version)


@patch("/materials/{material_id:str}", opt=_WRITE)
async def change_material(
    ctx: RequestContext, material_id: MaterialId, data: JSONBody[MaterialPatch], if_match: IfMatchHeader = None
) -> Response[MaterialView]:
    """Change a material. A higher reorder level may lead to a reorder."""
    changes = {name: value for name, value in msgspec.structs.asdict(data).items() if value is not msgspec.UNSET}
    await materials.change(ctx, material_id, changes, expected=parse_if_match(if_match, required=False))
    material = await queries.get_material(ctx, material_id)
    return versioned(material, material.version)


@delete("/materials/{material_id:str}", opt=_WRITE, status_code=204)
async def delete_material(ctx: RequestContext, material_id: MaterialId, if_match: IfMatchHeader = None) -> None:
    """Delete a material that nothing refers to; one with a ledger stays on record."""
    await materials.remove(ctx, material_id, expected=parse_if_match(if_match, required=False))


@get("/materials/{material_id:str}/transactions", opt=_READ)
async def list_material_transactions(
    ctx: RequestContext, material_id: MaterialId, limit: LimitParameter = 50, cursor: CursorParameter = None
) -> Page[TransactionView]:
    """List the ledger of a material, oldest first."""
    await queries.get_material(ctx, material_id)
    where = await queries.at_sites(ctx, None)
    where.add("material_id = {}", material_id)
    return await queries.list_transactions(where, limit=limit, cursor=cursor, sort=None)


@get("/materials/{material_id:str}/stock", opt=_READ)
async def get_stock(ctx: RequestContext, material_id: MaterialId) -> tuple[StockView, ...]:
    """Read how much of a material is at which location."""
    return tuple(await queries.stock_of(ctx, material_id))


@get("/materials/{material_id:str}/reservations", opt=_READ)
async def get_reservations(ctx: RequestContext, material_id: MaterialId) -> tuple[ReservationView, ...]:
    """Read what maintenance orders plan to use of a material."""
    return tuple(await queries.reservations_of(ctx, material_id))


@get("/stock-transactions", opt=_READ)
async def list_transactions(
    ctx: RequestContext,
    site: SiteFilter = None,
    material_id: MaterialFilter = None,
    transaction_type: FromQuery[TransactionType | None] = None,
    storage_location: LocationFilter = None,
    ticket_id: TicketFilter = None,
    limit: LimitParameter = 50,
    cursor: CursorParameter = None,
    sort: SortParameter = None,
) -> Page[TransactionView]:
    """List the stock ledger, oldest first. Can be sorted by entry."""
    where = await queries.at_sites(ctx, site)
    where.add("material_id = {}", material_id)
    where.add("transaction_type = {}", transaction_type)
    where.add("storage_location = {}", storage_location)
    where.add("ticket_id = {}", ticket_id)
    return await queries.list_transactions(where, limit=limit, cursor=cursor, sort=sort)


@post("/stock-transactions", opt=_WRITE)
async def post_transaction(ctx: RequestContext, data: JSONBody[PostingBody]) -> Posted:
    """Post a change of stock. 201 means that stock, ledger and event are stored for good; nothing is posted halfway."""
    posting = Posting(**msgspec.structs.asdict(data))
    if data.requisition_id is not None:
        return await receipts.receive(ctx, data.requisition_id, posting)
    return await stock.post(ctx, posting)


@get("/storage-locations", opt=_READ)
async def list_locations(
    ctx: RequestContext,
    site: SiteFilter = None,
    limit: LimitParameter = 50,
    cursor: CursorParameter = None,
    sort: SortParameter = None,
) -> Page[LocationView]:
    """List storage locations. Can be sorted by storage_location, id."""
    return await queries.list_locations(await queries.at_sites(ctx, site), limit=limit, cursor=cursor, sort=sort)


@post("/storage-locations", opt=_WRITE, status_code=204)
async def add_location(ctx: RequestContext, data: JSONBody[LocationBody]) -> None:
    """Add a storage location."""
    await locations.add_location(
        ctx,
        site_id=await module_site(ctx, "mm", data.site, thing="storage location"),
        storage_location=data.storage_location,
        title=data.title,
    )


ROUTES = (
    list_materials,
    create_material,
    get_material,
    change_material,
    delete_material,
    list_material_transactions,
    get_stock,
    get_reservations,
    list_transactions,
    post_transaction,
    list_locations,
    add_location,
)
