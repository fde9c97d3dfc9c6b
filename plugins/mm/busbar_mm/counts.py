"""Cycle counting: what lies at a location is counted, compared with the books, and the difference is posted.

When a count begins it keeps what the books have. If they have changed by the time it is posted, nobody knows whether
the goods were counted before or after; such a material is counted again.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec

from busbar.sdk import (
    ANY_VERSION,
    Context,
    FieldError,
    IfMatch,
    InvalidPayload,
    NotFound,
    RuleViolated,
    execute,
    fetch,
    fetchrow,
    module_scope,
    record,
    transaction,
    uuid7,
)
from busbar_mm import stock
from busbar_mm.books import Posting
from busbar_mm.ledger import open_books
from busbar_mm.locations import ensure_location

MATERIALS_MAX: Final = 1_000
"""Of one count."""

_LINES: Final = """
insert into mm.stock_count_line (count_id, material_id, book_quantity)
select $1, m.material_id, coalesce(s.quantity, 0)
from mm.material m left join mm.stock s on s.material_id = m.material_id and s.storage_location = $3
where m.site_id = $2 and (m.material_id = any($4::text[]) or $4 is null and s.quantity > 0)
order by m.material_id limit $5
returning material_id
"""
_SHOWN_MAX: Final = 10


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """What was found of a material."""

    material_id: str
    counted_quantity: Decimal


async def begin(
    ctx: Context, *, site_id: str, storage_location: str, material_ids: Sequence[str], description: str = ""
) -> UUID:
    """Begin a count of these materials at a location, without any named of all that the books have there.

    Raises:
        NotFound: the site is not the actor's, or lacks materials management.
        InvalidPayload: a material is not one of the site.
        RuleViolated: there is nothing to count, or more than `MATERIALS_MAX` materials.
    """
    ctx.require("mm.write")
    await module_scope(ctx, "mm", site_id)
    count_id, now = uuid7(), ctx.clock()
    async with transaction():
        await ensure_location(ctx, site_id, storage_location)
        await execute(
            "insert into mm.stock_count (count_id, storage_location, description, site_id, created_by, created_at, "
            "updated_at) values ($1, $2, $3, $4, $5, $6, $6)",
            count_id,
            storage_location,
            description,
            site_id,
            ctx.actor.username,
            now,
        )
        asked = list(dict.fromkeys(material_ids)) or None
        rows = await fetch(_LINES, count_id, site_id, storage_location, asked, MATERIALS_MAX + 1)
        there = {row["material_id"] for row in rows}
        errors = [
            FieldError(field=f"material_ids[{n}]", message=f"{material_id} is no material of this site")
            for n, material_id in enumerate(material_ids)
            if material_id not in there and len(there) <= MATERIALS_MAX
        ]
        if errors:
            raise InvalidPayload("Some materials cannot be counted here.", errors=errors)
        if not 1 <= len(there) <= MATERIALS_MAX:
            raise RuleViolated(f"A count has 1 to {MATERIALS_MAX} materials; at {storage_location} it would not.")
        await _note(ctx, site_id, count_id, "count.begin", {"materials": len(there)})
    return count_id


async def enter(ctx: Context, count_id: UUID, lines: Sequence[Counted], *, expected: IfMatch = ANY_VERSION) -> int:
    """Note what was found; a material may be entered again until the count is posted. Returns the new version.

    Raises:
        NotFound: there is no such count at the actor's sites.
        StaleVersion: somebody else changed it meanwhile.
        InvalidPayload: a material is not part of the count.
        RuleViolated: the count is posted or cancelled.
    """
    async with transaction():
        count = await _lock_open(ctx, count_id, expected)
        found = {line.material_id: line.counted_quantity for line in lines}
        rows = await fetch(
            "update mm.stock_count_line l set counted_quantity = a.quantity, counted_by = $4, counted_at = $5 "
            "from unnest($2::text[], $3::numeric[]) as a (material_id, quantity) "
            "where l.count_id = $1 and l.material_id = a.material_id returning l.material_id",
            count_id,
            list(found),
            list(found.values()),
            ctx.actor.username,
            ctx.clock(),
        )
        there = {row["material_id"] for row in rows}
        errors = [
            FieldError(field=f"lines[{n}].material_id", message=f"{line.material_id} is not part of this count")
            for n, line in enumerate(lines)
            if line.material_id not in there
        ]
        if errors:
            raise InvalidPayload("Some materials are not part of this count.", errors=errors)
        await _touch(ctx, count, "count.enter", {"materials": sorted(there)})
    return int(count["version"]) + 1


async def recount(ctx: Context, count_id: UUID, *, expected: IfMatch = ANY_VERSION) -> int:
    """Take the books anew for the materials whose stock has changed since; they are to be counted again.

    Raises:
        NotFound, StaleVersion, RuleViolated: as with `enter`.
    """
    async with transaction():
        count = await _lock_open(ctx, count_id, expected)
        lines, books = await _lines_and_books(count)
        changed = [line for line in lines if line["book_quantity"] != books[line["material_id"]]]
        await execute(
            "update mm.stock_count_line l set book_quantity = a.quantity, counted_quantity = null, counted_by = null, "
            "counted_at = null from unnest($2::text[], $3::numeric[]) as a (material_id, quantity) "
            "where l.count_id = $1 and l.material_id = a.material_id",
            count_id,
            [line["material_id"] for line in changed],
            [books[line["material_id"]] for line in changed],
        )
        await _touch(ctx, count, "count.recount", {"materials": [line["material_id"] for line in changed]})
    return int(count["version"]) + 1


async def post(ctx: Context, count_id: UUID, *, reason: str, expected: IfMatch = ANY_VERSION) -> int:
    """Post the differences as adjustments, all or none, and finish the count; returns its new version.

    Raises:
        NotFound, StaleVersion: as with `enter`.
        RuleViolated: something is not counted yet, or its stock has changed since the count began; nothing was posted.
    """
    async with transaction():
        count = await _lock_open(ctx, count_id, expected)
        lines, books = await _lines_and_books(count)
        _refuse([line["material_id"] for line in lines if line["counted_quantity"] is None], "are not counted yet")
        _refuse(
            [line["material_id"] for line in lines if line["book_quantity"] != books[line["material_id"]]],
            "have changed since the count began; recount them",
        )
        different = [line for line in lines if line["counted_quantity"] != line["book_quantity"]]
        posted = await stock.post_many(
            ctx,
            [
                Posting(
                    material_id=line["material_id"],
                    transaction_type="adjustment",
                    quantity_change=line["counted_quantity"] - line["book_quantity"],
                    storage_location=count["storage_location"],
                    note=reason,
                )
                for line in different
            ],
        )
        await execute(
            "update mm.stock_count_line l set transaction_id = a.id from unnest($2::text[], $3::uuid[]) as a "
            "(material_id, id) where l.count_id = $1 and l.material_id = a.material_id",
            count_id,
            [line["material_id"] for line in different],
            [each.transaction_id for each in posted],
        )
        await execute(
            "update mm.stock_count set status = 'posted', posted_by = $2, posted_at = $3 where count_id = $1",
            count_id,
            ctx.actor.username,
            ctx.clock(),
        )
        await _touch(ctx, count, "count.post", {"differences": len(different), "reason": reason})
    return int(count["version"]) + 1


async def call_off(ctx: Context, count_id: UUID, *, expected: IfMatch = ANY_VERSION) -> int:
    """End an open count without posting; it stays on record. Returns its new version.

    Raises:
        NotFound, StaleVersion, RuleViolated: as with `enter`.
    """
    async with transaction():
        count = await _lock_open(ctx, count_id, expected)
        await execute("update mm.stock_count set status = 'cancelled' where count_id = $1", count_id)
        await _touch(ctx, count, "count.cancel", {})
    return int(count["version"]) + 1


async def _lines_and_books(count: asyncpg.Record) -> tuple[list[asyncpg.Record], dict[str, Decimal]]:
    """The lines, and what the books of their materials, locked now, have at the count's location."""
    lines = await fetch("select * from mm.stock_count_line where count_id = $1 order by material_id", count["count_id"])
    books = await open_books(line["material_id"] for line in lines)
    place = count["storage_location"]
    return lines, {material_id: book.stock.get(place, Decimal(0)) for material_id, book in books.items()}


def _refuse(material_ids: list[str], because: str) -> None:
    if material_ids:
        more = "" if len(material_ids) <= _SHOWN_MAX else f" and {len(material_ids) - _SHOWN_MAX} more"
        raise RuleViolated(f"{', '.join(material_ids[:_SHOWN_MAX])}{more} {because}.")


async def _lock_open(ctx: Context, count_id: UUID, expected: IfMatch) -> asyncpg.Record:
    ctx.require("mm.write")
    row = await fetchrow(
        "select * from mm.stock_count where count_id = $1 and site_id = any($2) for update",
        count_id,
        await module_scope(ctx, "mm"),
    )
    if row is None:
        raise NotFound(f"There is no count {count_id}.")
    expected.require(row["version"])
    if row["status"] != "open":
        raise RuleViolated(f"The count is {row['status']} already.")
    return row


async def _touch(ctx: Context, count: asyncpg.Record, action: str, details: dict[str, Any]) -> None:
    await execute(
        "update mm.stock_count set version = version + 1, updated_at = $2 where count_id = $1",
        count["count_id"],
        ctx.clock(),
    )
    await _note(ctx, count["site_id"], count["count_id"], action, details)


async def _note(ctx: Context, site_id: str, count_id: UUID, action: str, details: dict[str, Any]) -> None:
    await record(
        ctx, action=action, object_kind="stock_count", object_id=str(count_id), site_id=site_id, details=details
    )
