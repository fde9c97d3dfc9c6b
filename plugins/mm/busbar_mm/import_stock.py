"""Imports of stock: what is where, as an opening balance or from a count; only differences are posted."""

import asyncio
from collections.abc import Sequence
from typing import Final

import msgspec

from busbar.sdk import (
    ALL_OR_NOTHING,
    CellError,
    Identifier,
    ImportReport,
    ImportRun,
    Name,
    Quantity,
    ReportBuilder,
    RowConverter,
    ShortText,
    UnitPrice,
    convert_rows,
    execute,
    fetch,
    iterate_in_thread,
    open_source,
    suggest_mapping,
    transaction,
)
from busbar_mm import stock
from busbar_mm.books import ZERO, Book, Posting
from busbar_mm.ledger import open_books
from busbar_mm.materials import OPENING_BALANCE


class StockRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One row of a table of stock: so much of a material is at a location."""

    material_id: Identifier
    quantity: Quantity
    """What is there, not a change."""
    storage_location: Name | None = None
    """By default the material's own."""
    unit_price: UnitPrice | None = None
    """What a unit cost; for what is received."""
    note: ShortText = ""


class _Row(msgspec.Struct, frozen=True):
    line: int
    value: StockRecord


_BATCH_ROWS: Final = 500
# All are locked before the first is posted: a reorder takes the counter of tickets, and nobody who has that may wait
# for a material.
_LOCK: Final = """
select material_id, storage_location from mm.material where material_id = any($1) and site_id = $2
order by material_id for update
"""


async def import_stock(run: ImportRun) -> ImportReport:
    """Load a CSV, XLSX or XLS table of stock; see `StockRecord`.

    At a location where a material never was, what is there is received as its opening balance; elsewhere the difference
    to the books is an adjustment. So a file that is loaded again posts nothing.

    Raises:
        UnreadableFile: the file is not a table within the limits.
        InvalidPayload: the mapping does not fit the columns.
    """
    source = await asyncio.to_thread(open_source, run.path)
    mapping = run.mapping or suggest_mapping(StockRecord, source.columns)
    converter = RowConverter(StockRecord, mapping, source.columns)
    report = ReportBuilder()
    rows: list[_Row] = []
    async for batch in iterate_in_thread(convert_rows(source, converter, report)):
        rows += [_Row(row.line, row.value) for row in batch]
        run.progress(len(batch))
    async with transaction():
        await execute("set local statement_timeout = '10min'")
        await execute("set local idle_in_transaction_session_timeout = '10min'")
        rows = await _check(run, rows, report)
        if report.rows_rejected and run.mode == ALL_OR_NOTHING:
            return report.report({"withheld": report.rows_accepted})
        posted = [await _post(run, rows[n : n + _BATCH_ROWS]) for n in range(0, len(rows), _BATCH_ROWS)]
    changed = sum(posted)
    return report.report({"created": 0, "updated": changed, "unchanged": report.rows_accepted - changed})


async def _check(run: ImportRun, rows: Sequence[_Row], report: ReportBuilder) -> list[_Row]:
    """The rows that can be posted; materials of other sites are as unknown as those that do not exist."""
    wanted = list({row.value.material_id for row in rows})
    own = {row["material_id"]: row["storage_location"] for row in await fetch(_LOCK, wanted, run.site_id)}
    seen: set[tuple[str, str]] = set()
    good: list[_Row] = []
    for row in rows:
        material_id = row.value.material_id
        if material_id not in own:
            error = CellError(field="material_id", value=material_id, message="is no material of this site")
            report.revoke(row.line, [error])
            continue
        place = (material_id, row.value.storage_location or own[material_id])
        if place in seen:
            error = CellError(field="material_id", value=material_id, message=f"is there twice for {place[1]}")
            report.revoke(row.line, [error])
            continue
        seen.add(place)
        good.append(row)
    return good


async def _post(run: ImportRun, rows: Sequence[_Row]) -> int:
    """Post the differences of some rows; returns how many there are."""
    books = await open_books(row.value.material_id for row in rows)
    postings = [
        posting for row in rows if (posting := _difference(books[row.value.material_id], row.value)) is not None
    ]
    if postings:
        await stock.post_many(run.ctx, postings)
    return len(postings)


def _difference(book: Book, row: StockRecord) -> Posting | None:
    location = row.storage_location or book.storage_location
    change = row.quantity - book.stock.get(location, ZERO)
    if change == 0:
        return None
    is_opening = location not in book.stock
    return Posting(
        material_id=row.material_id,
        transaction_type="receipt" if is_opening else "adjustment",
        quantity_change=change,
        storage_location=location,
        unit_price=row.unit_price if is_opening else None,
        note=row.note or (OPENING_BALANCE if is_opening else "Counted"),
    )
