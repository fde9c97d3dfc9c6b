"""Reading materials, stock, ledger and requisitions, at the actor's sites at which materials management is enabled."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from busbar.sdk import (
    Context,
    NotFound,
    Page,
    SortColumn,
    Where,
    fetch,
    fetch_page,
    fetchrow,
    module_scope,
    page_request,
)
from busbar_mm.reservations import OPEN_QUANTITY


class MaterialView(msgspec.Struct, frozen=True, kw_only=True):
    """A material. Quantities and amounts are decimals, written as text."""

    material_id: str
    description: str
    unit_of_measure: str
    quantity: Decimal
    """At all its locations together."""
    reserved_quantity: Decimal
    """What maintenance orders plan to use and have not drawn yet."""
    available_quantity: Decimal
    """Quantity less what is reserved; below 0 when more is planned than there is."""
    reorder_level: Decimal
    reorder_buffer: Decimal
    storage_location: str
    cost_center_id: str | None
    unit_price: Decimal | None
    """What a unit is expected to cost, as it was given."""
    moving_average: Decimal | None
    """What a unit is worth: stock value divided by quantity; of an empty store, the last one."""
    stock_value: Decimal
    currency: str
    site: str
    version: int
    created_at: datetime
    updated_at: datetime


class StockView(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a material is at a location."""

    material_id: str
    storage_location: str
    quantity: Decimal


class ReservationView(msgspec.Struct, frozen=True, kw_only=True):
    """What a maintenance order plans to use of a material."""

    ticket_id: str
    quantity: Decimal
    open_quantity: Decimal
    """What was not issued to the ticket yet; 0 once it is released."""
    released_at: datetime | None


class TransactionView(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the ledger. A transfer has two with one transaction_id."""

    entry: int
    """Rises with each line."""
    transaction_id: UUID
    line: int
    material_id: str
    transaction_type: str
    quantity_change: Decimal
    new_quantity: Decimal
    """Of the material after this line."""
    storage_location: str
    quantity_at_location: Decimal
    value_change: Decimal
    currency: str
    ticket_id: str | None
    cost_center_id: str | None
    requisition_id: UUID | None
    note: str
    posted_at: datetime
    posted_by: str
    site: str


class RequisitionView(msgspec.Struct, frozen=True, kw_only=True):
    """A purchase requisition."""

    requisition_id: UUID
    ticket_id: str
    material_id: str
    quantity: Decimal
    received_quantity: Decimal
    unit_price: Decimal | None
    amount: Decimal
    currency: str
    cost_center_id: str | None
    justification: str
    origin: str
    requested_by: str
    storage_location: str
    status: str
    external_number: str | None
    decided_by: str | None
    decided_at: datetime | None
    comment: str | None
    site: str
    version: int
    created_at: datetime
    updated_at: datetime


class LocationView(msgspec.Struct, frozen=True, kw_only=True):
    """A storage location."""

    storage_location: str
    title: str
    site: str
    created_at: datetime


_RESERVED = f"""coalesce((select sum({OPEN_QUANTITY}) from mm.reservation r
    where r.material_id = material.material_id and r.released_at is null), 0)"""
_MATERIAL = f"""material_id, description, unit_of_measure, quantity, {_RESERVED} as reserved_quantity,
    quantity - {_RESERVED} as available_quantity, reorder_level, reorder_buffer, storage_location, cost_center_id,
    unit_price, moving_average, stock_value, currency, site_id as site, version, created_at, updated_at"""
_TRANSACTION = """entry, transaction_id, line, material_id, transaction_type, quantity_change, new_quantity,
    storage_location, quantity_at_location, value_change, currency, ticket_id, cost_center_id, requisition_id, note,
    posted_at, posted_by, site_id as site"""
_REQUISITION = """requisition_id, ticket_id, material_id, quantity, received_quantity, unit_price, amount, currency,
    cost_center_id, justification, origin, requested_by, storage_location, status, external_number, decided_by,
    decided_at, comment, site_id as site, version, created_at, updated_at"""

_MATERIAL_SORT = {
    "material_id": SortColumn(sql="material_id", type=str),
    "description": SortColumn(sql="description", type=str),
    "quantity": SortColumn(sql="quantity", type=Decimal),
    "stock_value": SortColumn(sql="stock_value", type=Decimal),
    "created_at": SortColumn(sql="created_at", type=datetime),
}
_TRANSACTION_SORT = {"entry": SortColumn(sql="entry", type=int)}
_REQUISITION_SORT = {
    "created_at": SortColumn(sql="created_at", type=datetime),
    "amount": SortColumn(sql="amount", type=Decimal),
    "status": SortColumn(sql="status", type=str),
    "requisition_id": SortColumn(sql="requisition_id", type=UUID),
}
_LOCATION_SORT = {
    "storage_location": SortColumn(sql="storage_location", type=str),
    "id": SortColumn(sql="id", type=int),
}


async def at_sites(ctx: Context, site: str | None) -> Where:
    """The condition that limits a list to the actor's sites, or to one of them.

    Raises:
        NotFound: the site is not the actor's, or materials management is enabled nowhere.
    """
    return Where("site_id = any($1)", await module_scope(ctx, "mm", site))


async def get_material(ctx: Context, material_id: str) -> MaterialView:
    """One material, with what is reserved of it.

    Raises:
        NotFound: there is no such material at the actor's sites.
    """
    row = await fetchrow(
        f"select {_MATERIAL} from mm.material where material_id = $1 and site_id = any($2)",
        material_id,
        await module_scope(ctx, "mm"),
    )
    if row is None:
        raise NotFound(f"There is no material {material_id}.")
    return MaterialView(**row)


async def stock_of(ctx: Context, material_id: str) -> Sequence[StockView]:
    """How much of a material is at each location that it was ever at.

    Raises:
        NotFound: as with `get_material`.
    """
    await get_material(ctx, material_id)
    sql = "select material_id, storage_location, quantity from mm.stock where material_id = $1 order by 2"
    return tuple(StockView(**row) for row in await fetch(sql, material_id))


async def reservations_of(ctx: Context, material_id: str) -> Sequence[ReservationView]:
    """What maintenance orders plan to use of a material, the oldest first.

    Raises:
        NotFound: as with `get_material`.
    """
    await get_material(ctx, material_id)
    rows = await fetch(
        f"select ticket_id, quantity, case when released_at is null then {OPEN_QUANTITY} else 0 end as open_quantity, "
        "released_at from mm.reservation r where material_id = $1 order by created_at, ticket_id limit 1000",
        material_id,
    )
    return tuple(ReservationView(**row) for row in rows)


async def get_requisition(ctx: Context, requisition_id: UUID) -> RequisitionView:
    """One purchase requisition.

    Raises:
        NotFound: there is no such requisition at the actor's sites.
    """
    row = await fetchrow(
        f"select {_REQUISITION} from mm.purchase_requisition where requisition_id = $1 and site_id = any($2)",
        requisition_id,
        await module_scope(ctx, "mm"),
    )
    if row is None:
        raise NotFound(f"There is no purchase requisition {requisition_id}.")
    return RequisitionView(**row)


async def list_materials(where: Where, *, limit: int, cursor: str | None, sort: str | None) -> Page[MaterialView]:
    """A page of materials."""
    return await _page(
        where,
        (limit, cursor, sort),
        _MATERIAL_SORT,
        "material_id",
        "material_id",
        _MATERIAL,
        "mm.material",
        MaterialView,
    )


async def list_transactions(where: Where, *, limit: int, cursor: str | None, sort: str | None) -> Page[TransactionView]:
    """A page of the ledger, the oldest line first (SPEC R3.5)."""
    source = "mm.stock_transaction"
    return await _page(
        where, (limit, cursor, sort), _TRANSACTION_SORT, "entry", "entry", _TRANSACTION, source, TransactionView
    )


async def list_requisitions(where: Where, *, limit: int, cursor: str | None, sort: str | None) -> Page[RequisitionView]:
    """A page of purchase requisitions, the latest first unless `sort` says otherwise."""
    return await _page(
        where,
        (limit, cursor, sort),
        _REQUISITION_SORT,
        "-created_at",
        "requisition_id",
        _REQUISITION,
        "mm.purchase_requisition",
        RequisitionView,
    )


async def list_locations(where: Where, *, limit: int, cursor: str | None, sort: str | None) -> Page[LocationView]:
    """A page of storage locations."""
    columns = "id, storage_location, title, site_id as site, created_at"
    asked = page_request(
        limit=limit, cursor=cursor, sort=sort, columns=_LOCATION_SORT, default="storage_location", key="id"
    )
    return await fetch_page(
        asked,
        where,
        columns=columns,
        source="mm.storage_location",
        to_item=lambda row: LocationView(**{name: row[name] for name in LocationView.__struct_fields__}),
    )


async def _page(
    where: Where,
    asked: tuple[int, str | None, str | None],
    sorts: dict[str, SortColumn],
    default: str,
    key: str,
    columns: str,
    source: str,
    view: Any,
) -> Page[Any]:
    limit, cursor, sort = asked
    request = page_request(limit=limit, cursor=cursor, sort=sort, columns=sorts, default=default, key=key)
    return await fetch_page(request, where, columns=columns, source=source, to_item=lambda row: view(**row))
