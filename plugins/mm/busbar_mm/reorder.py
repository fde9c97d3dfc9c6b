"""The reorder rule: stock below its level leads to one purchase requisition, net of what is on its way (SPEC R3.2).

Who looks holds the lock of the material, so two never look at once; a unique index on open reorders says it again. A
reorder that was rejected or cancelled is not repeated at once, which would go on for ever, but at the next posting.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Final

from busbar.sdk import Context, fetch, publish, record
from busbar_mm.books import Book
from busbar_mm.events import ReorderTriggered
from busbar_mm.ledger import open_books
from busbar_mm.procurement import OPEN_STATUSES, NewRequisition, open_requisition

_OPEN: Final = """
select material_id, bool_or(origin = 'reorder') as has_reorder,
    sum(greatest(quantity - received_quantity, 0)) as quantity
from mm.purchase_requisition where material_id = any($1) and status = any($2) group by material_id
"""
_BELOW: Final = "select material_id from mm.material where material_id = any($1) and quantity < reorder_level"


async def look_at(books: Sequence[tuple[Context, Book]]) -> None:
    """Open a requisition for each material that needs one; of several contexts of a material, the first one acts.

    The materials are locked in this transaction. Those are passed over that are not below their level, have an open
    reorder, or will be above it with what other requisitions bring.
    """
    below: dict[str, tuple[Context, Book]] = {}
    for ctx, book in books:
        if book.is_below_level:
            below.setdefault(book.material_id, (ctx, book))
    if not below:
        return
    on_their_way = {row["material_id"]: row for row in await fetch(_OPEN, list(below), list(OPEN_STATUSES))}
    for material_id, (ctx, book) in below.items():
        row = on_their_way.get(material_id)
        if row is not None and row["has_reorder"]:
            continue
        await _reorder(ctx, book, open_quantity=Decimal(0) if row is None else row["quantity"])


async def look_at_ids(ctx: Context, material_ids: Sequence[str]) -> None:
    """The same for materials that may have been changed: locks those that are below their level."""
    below = [row["material_id"] for row in await fetch(_BELOW, material_ids)]
    books = await open_books(below)
    await look_at([(ctx, book) for book in books.values()])


async def _reorder(ctx: Context, book: Book, *, open_quantity: Decimal) -> None:
    suggested = book.reorder_level - book.quantity + book.reorder_buffer - open_quantity
    if suggested <= 0:
        return
    opened = await open_requisition(
        ctx,
        book,
        NewRequisition(
            quantity=suggested,
            origin="reorder",
            justification=f"{book.quantity.normalize():f} {book.unit_of_measure} are left, less than the reorder "
            f"level of {book.reorder_level.normalize():f}.",
        ),
    )
    await record(
        ctx,
        action="stock.reorder",
        object_kind="material",
        object_id=book.material_id,
        site_id=book.site_id,
        details={"ticket_id": opened.ticket_id, "suggested_quantity": suggested},
    )
    await publish(
        ctx,
        "MM_REORDER_TRIGGERED",
        subject=opened.ticket_id,
        site_id=book.site_id,
        data=ReorderTriggered(
            ticket_id=opened.ticket_id,
            requisition=opened.facts,
            quantity_before=book.quantity,
            reorder_level=book.reorder_level,
            buffer=book.reorder_buffer,
            open_quantity=open_quantity,
            suggested_quantity=suggested,
        ),
    )
