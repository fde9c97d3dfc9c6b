"""Materials: what is kept in store, with its reorder level, its place and its price (SPEC R3.1)."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import asyncpg
import msgspec

from busbar.sdk import (
    ANY_VERSION,
    Conflict,
    Context,
    FieldError,
    IfMatch,
    InvalidPayload,
    NotFound,
    RuleViolated,
    execute,
    fetchrow,
    fetchval,
    module_scope,
    record,
    transaction,
)
from busbar_mm import reorder, stock
from busbar_mm.books import QUANTITY_MAX, Book, Posting
from busbar_mm.locations import ensure_location

LOCATION_DEFAULT = "MAIN"
OPENING_BALANCE = "Opening balance"


class MaterialFields(msgspec.Struct, frozen=True, kw_only=True):
    """What can be said of a material. `None` means unknown."""

    description: str
    unit_of_measure: str
    reorder_level: Decimal = Decimal(0)
    reorder_buffer: Decimal = Decimal(0)
    """How much more than up to its level a reorder asks for."""
    storage_location: str = LOCATION_DEFAULT
    """Where it is posted when no location is named."""
    cost_center_id: str | None = None
    unit_price: Decimal | None = None
    """What a unit is expected to cost; what the stock is worth follows from the receipts."""
    currency: str = "EUR"


FIELDS = MaterialFields.__struct_fields__
COLUMN_TYPES = {"reorder_level": "numeric", "reorder_buffer": "numeric", "unit_price": "numeric"}

_INSERT = f"""
insert into mm.material (material_id, site_id, created_at, updated_at, {", ".join(FIELDS)})
values ($1, $2, $3, $3, {", ".join(f"${n}" for n, _ in enumerate(FIELDS, 4))})
"""


async def create(
    ctx: Context, material_id: str, *, site_id: str, fields: MaterialFields, quantity: Decimal = Decimal(0)
) -> None:
    """Add a material; what is there of it already becomes the first entry of its ledger, a receipt.

    A material that starts below its reorder level is reordered at once.

    Raises:
        NotFound: the site is not the actor's, or lacks materials management.
        Conflict: the id is taken.
        InvalidPayload: level and buffer together are too large.
        RuleViolated: the stock would be worth more than can be counted.
    """
    ctx.require("mm.write")
    await module_scope(ctx, "mm", site_id)
    check_levels(fields.reorder_level, fields.reorder_buffer)
    async with transaction():
        try:
            async with transaction():
                await execute(_INSERT, material_id, site_id, ctx.clock(), *(getattr(fields, name) for name in FIELDS))
        except asyncpg.UniqueViolationError:
            raise Conflict(f"There is a material {material_id} already.") from None
        await ensure_location(ctx, site_id, fields.storage_location)
        await record(ctx, action="material.create", object_kind="material", object_id=material_id, site_id=site_id)
        if quantity > 0:
            opening = Posting(
                material_id=material_id,
                transaction_type="receipt",
                quantity_change=quantity,
                unit_price=fields.unit_price,
                note=OPENING_BALANCE,
            )
            await stock.post(ctx, opening)
        else:
            await reorder.look_at_ids(ctx, [material_id])


async def change(ctx: Context, material_id: str, changes: Mapping[str, Any], *, expected: IfMatch = ANY_VERSION) -> int:
    """Change some fields of a material; returns its new version. Its quantity is changed by postings only.

    Raises:
        NotFound: there is no such material at the actor's sites.
        StaleVersion: somebody else changed it meanwhile.
        InvalidPayload: level and buffer together are too large.
        RuleViolated: the unit or the currency would change what the ledger says.
    """
    async with transaction():
        material = await lock(ctx, material_id, expected=expected)
        if not changes:
            return int(material["version"])
        merged = dict(material) | dict(changes)
        check_levels(merged["reorder_level"], merged["reorder_buffer"])
        frozen = [name for name in ("unit_of_measure", "currency") if merged[name] != material[name]]
        used = "select exists(select from mm.stock_transaction where material_id = $1)"
        if frozen and await fetchval(used, material_id):
            raise RuleViolated(
                f"The {frozen[0]} of {material_id} stays, for its ledger is written in it; add a new material instead."
            )
        await execute(
            f"update mm.material set {', '.join(f'{name} = ${n}' for n, name in enumerate(changes, start=3))}, "
            "updated_at = $2, version = version + 1 where material_id = $1",
            material_id,
            ctx.clock(),
            *changes.values(),
        )
        await ensure_location(ctx, material["site_id"], merged["storage_location"])
        await record(
            ctx,
            action="material.change",
            object_kind="material",
            object_id=material_id,
            site_id=material["site_id"],
            details=changes,
        )
        if merged["reorder_level"] > material["reorder_level"]:
            await reorder.look_at([(ctx, Book(merged, {}))])
    return int(material["version"]) + 1


async def remove(ctx: Context, material_id: str, *, expected: IfMatch = ANY_VERSION) -> None:
    """Delete a material that nothing refers to: no ledger, no requisition, no count, no reservation.

    Raises:
        NotFound: there is no such material at the actor's sites.
        StaleVersion: somebody else changed it meanwhile.
        RuleViolated: something refers to it.
    """
    async with transaction():
        material = await lock(ctx, material_id, expected=expected)
        try:
            async with transaction():
                await execute("delete from mm.material where material_id = $1", material_id)
        except asyncpg.ForeignKeyViolationError:
            raise RuleViolated(
                f"The material {material_id} has a ledger, requisitions, counts or reservations, and stays on record."
            ) from None
        await record(
            ctx, action="material.delete", object_kind="material", object_id=material_id, site_id=material["site_id"]
        )


async def lock(ctx: Context, material_id: str, *, expected: IfMatch = ANY_VERSION) -> asyncpg.Record:
    """The material's row, locked for the transaction.

    Raises:
        NotFound: there is no such material at the actor's sites.
        StaleVersion: it is not at the expected version.
    """
    ctx.require("mm.write")
    row = await fetchrow(
        "select * from mm.material where material_id = $1 and site_id = any($2) for update",
        material_id,
        await module_scope(ctx, "mm"),
    )
    if row is None:
        raise NotFound(f"There is no material {material_id}.")
    expected.require(row["version"])
    return row


def check_levels(reorder_level: Decimal, reorder_buffer: Decimal) -> None:
    """Refuse a level and a buffer that would lead to a quantity that cannot be written.

    Raises:
        InvalidPayload: naming the buffer.
    """
    if reorder_level + reorder_buffer > QUANTITY_MAX:
        error = FieldError(field="reorder_buffer", message=f"must not be above {QUANTITY_MAX - reorder_level}")
        raise InvalidPayload("Reorder level and buffer together are too large.", errors=[error])
