"""Reads the books of locked materials, and writes what postings changed by one statement."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from busbar.sdk import Context, execute, fetch, on_commit, uuid7, wake_relay
from busbar_mm.books import Book, Line, Posting
from busbar_mm.events import STOCK_CHANGED, StockChanged


class Movement(msgspec.Struct, frozen=True, kw_only=True):
    """A posting that passed, and what it does."""

    ctx: Context
    transaction_id: UUID
    posting: Posting
    lines: tuple[Line, ...]
    posted_at: datetime


_LOCK: Final = "select * from mm.material where material_id = any($1) order by material_id for update"
_STOCK: Final = "select material_id, storage_location, quantity from mm.stock where material_id = any($1)"

_MATERIAL = (
    ("m_material_id", "text"), ("m_quantity", "numeric"), ("m_value", "numeric"), ("m_average", "numeric"),
    ("m_posted_at", "timestamptz"),
)  # fmt: skip
_PLACE = (
    ("p_material_id", "text"), ("p_location", "text"), ("p_quantity", "numeric"), ("p_site_id", "text"),
    ("p_posted_at", "timestamptz"),
)  # fmt: skip
_LINE = (
    ("transaction_id", "uuid"), ("line", "int"), ("material_id", "text"), ("transaction_type", "text"),
    ("quantity_change", "numeric"), ("new_quantity", "numeric"), ("storage_location", "text"),
    ("quantity_at_location", "numeric"), ("value_change", "numeric"), ("currency", "text"), ("ticket_id", "text"),
    ("cost_center_id", "text"), ("requisition_id", "uuid"), ("note", "text"), ("posted_at", "timestamptz"),
    ("posted_by", "text"), ("correlation_id", "text"), ("site_id", "text"),
)  # fmt: skip
_FACT = (
    ("event_id", "uuid"), ("material_id", "text"), ("site_id", "text"), ("at", "timestamptz"), ("action", "text"),
    ("details", "text"), ("data", "text"), ("actor_id", "text"), ("actor_name", "text"), ("correlation_id", "text"),
    ("traceparent", "text"), ("origin", "text"),
)  # fmt: skip


def _rows(columns: Sequence[tuple[str, str]], *, first: int) -> str:
    """A set of rows that comes as one array for each column, numbered by `n`."""
    arrays = ", ".join(f"${n}::{kind}[]" for n, (_, kind) in enumerate(columns, start=first))
    return f"unnest({arrays}) with ordinality as a ({', '.join(name for name, _ in columns)}, n)"


_FIRST_PLACE = 1 + len(_MATERIAL)
_FIRST_LINE = _FIRST_PLACE + len(_PLACE)
_FIRST_FACT = _FIRST_LINE + len(_LINE)
_VERSION_PARAMETER = _FIRST_FACT + len(_FACT)
_LINE_NAMES = ", ".join(name for name, _ in _LINE)

_WRITE: Final = f"""
with material as (
    update mm.material set quantity = m_quantity, stock_value = m_value, moving_average = m_average,
        posted_at = m_posted_at
    from {_rows(_MATERIAL, first=1)} where material_id = m_material_id
), place as (
    select * from {_rows(_PLACE, first=_FIRST_PLACE)}
), location as (
    insert into mm.storage_location (site_id, storage_location, created_at)
    select distinct on (p_site_id, p_location) p_site_id, p_location, p_posted_at from place
    where not exists (select from mm.storage_location l where l.site_id = p_site_id and l.storage_location = p_location)
    on conflict do nothing
), stock as (
    insert into mm.stock (material_id, storage_location, quantity)
    select p_material_id, p_location, p_quantity from place
    on conflict (material_id, storage_location) do update set quantity = excluded.quantity
), ledger as (
    insert into mm.stock_transaction ({_LINE_NAMES})
    select {_LINE_NAMES} from {_rows(_LINE, first=_FIRST_LINE)} order by n
), fact as (
    select * from {_rows(_FACT, first=_FIRST_FACT)}
), trail as (
    insert into core.audit (at, actor_id, actor_name, action, object_kind, object_id, site_id, details, correlation_id)
    select at, actor_id, actor_name, action, 'material', material_id, site_id, details::jsonb, correlation_id
    from fact order by n
)
insert into core.event (event_id, event_type, module, site_id, subject, time, data, schema_version, correlation_id,
    traceparent, actor_id, origin)
select event_id, 'MM_STOCK_CHANGED', 'mm', site_id, material_id, at, data::jsonb, ${_VERSION_PARAMETER}, correlation_id,
    traceparent, actor_id, origin
from fact order by n
"""


async def open_books(material_ids: Iterable[str]) -> dict[str, Book]:
    """Lock the materials that there are, in the order of their ids, and read what is where; by material id.

    The lock of a material's row is what keeps all about it in order: stock, reorders, requisitions, counts.
    """
    wanted = sorted(set(material_ids))
    materials = await fetch(_LOCK, wanted)
    # A second statement, for it must see what those have written who held the locks before.
    stock: dict[str, dict[str, Any]] = {row["material_id"]: {} for row in materials}
    for row in await fetch(_STOCK, list(stock)):
        stock[row["material_id"]][row["storage_location"]] = row["quantity"]
    return {row["material_id"]: Book(row, stock[row["material_id"]]) for row in materials}


async def write(books: dict[str, Book], movements: Sequence[Movement]) -> None:
    """Write what the movements did to their materials, which `open_books` has locked in this transaction."""
    moved = [books[material_id] for material_id in {move.posting.material_id: None for move in movements}]
    places = [(book, location) for book in moved for location in sorted(book.touched)]
    await execute(
        _WRITE,
        *_columns([(b.material_id, b.quantity, b.value, b.moving_average, b.posted_at) for b in moved]),
        *_columns([(b.material_id, place, b.stock[place], b.site_id, b.posted_at) for b, place in places]),
        *_columns([row for move in movements for row in _ledger_rows(books[move.posting.material_id], move)]),
        *_columns([_fact_row(books[move.posting.material_id], move) for move in movements]),
        STOCK_CHANGED.version,
    )
    on_commit(wake_relay)


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _ledger_rows(book: Book, move: Movement) -> list[tuple[Any, ...]]:
    posting = move.posting
    return [
        (
            move.transaction_id,
            number,
            posting.material_id,
            posting.transaction_type,
            line.quantity_change,
            line.new_quantity,
            line.storage_location,
            line.quantity_at_location,
            line.value_change,
            book.currency,
            posting.ticket_id,
            _cost_center(book, posting),
            posting.requisition_id,
            posting.note,
            move.posted_at,
            move.ctx.actor.username,
            move.ctx.correlation_id,
            book.site_id,
        )
        for number, line in enumerate(move.lines, start=1)
    ]


def _fact_row(book: Book, move: Movement) -> tuple[Any, ...]:
    ctx, posting, line = move.ctx, move.posting, move.lines[0]
    details = {
        "transaction_id": move.transaction_id,
        "quantity_change": posting.quantity_change,
        "new_quantity": move.lines[-1].new_quantity,
        "storage_location": line.storage_location,
    }
    told = StockChanged(
        transaction_id=str(move.transaction_id),
        material_id=book.material_id,
        description=book.description,
        unit_of_measure=book.unit_of_measure,
        quantity_change=posting.quantity_change,
        new_quantity=move.lines[-1].new_quantity,
        transaction_type=posting.transaction_type,
        storage_location=line.storage_location,
        to_storage_location=posting.to_storage_location,
        quantity_at_location=line.quantity_at_location,
        ticket_id=posting.ticket_id,
        cost_center_id=_cost_center(book, posting),
        requisition_id=None if posting.requisition_id is None else str(posting.requisition_id),
        value=abs(line.value_change),
        currency=book.currency,
        posted_at=move.posted_at,
        posted_by=ctx.actor.username,
        note=posting.note,
    )
    return (
        uuid7(),
        book.material_id,
        book.site_id,
        move.posted_at,
        f"stock.{posting.transaction_type}",
        msgspec.json.encode(details).decode(),
        msgspec.json.encode(told).decode(),
        ctx.actor.user_id,
        ctx.actor.username,
        ctx.correlation_id,
        ctx.traceparent,
        ctx.origin,
    )


def _cost_center(book: Book, posting: Posting) -> str | None:
    """Who bears an issue, as far as it is known here: who was named, or for work that has no ticket, the material's.

    What is issued to a ticket is borne by the order's cost center, which finance knows.
    """
    if posting.transaction_type != "issue" or posting.cost_center_id is not None or posting.ticket_id is not None:
        return posting.cost_center_id
    return book.cost_center_id
