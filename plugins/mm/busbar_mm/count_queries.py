"""Reading stock counts, at the actor's sites at which materials management is enabled."""

from datetime import datetime
from decimal import Decimal
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


class CountLineView(msgspec.Struct, frozen=True, kw_only=True):
    """What a count says of one material."""

    material_id: str
    book_quantity: Decimal
    """What the books had when it was begun, or recounted."""
    counted_quantity: Decimal | None
    counted_by: str | None
    counted_at: datetime | None
    is_stale: bool
    """Whether the stock of an open count has changed since, so that it has to be recounted."""
    transaction_id: UUID | None
    """The adjustment that was posted, if there was a difference."""


class CountView(msgspec.Struct, frozen=True, kw_only=True):
    """A stock count; `lines` is filled where one count is read, and empty in lists."""

    count_id: UUID
    storage_location: str
    description: str
    status: str
    site: str
    created_by: str
    posted_by: str | None
    posted_at: datetime | None
    version: int
    created_at: datetime
    updated_at: datetime
    lines: tuple[CountLineView, ...] = ()


_COUNT = """count_id, storage_location, description, status, site_id as site, created_by, posted_by, posted_at, version,
    created_at, updated_at"""
_LINES = """
select l.material_id, l.book_quantity, l.counted_quantity, l.counted_by, l.counted_at, l.transaction_id,
    c.status = 'open' and l.book_quantity <> coalesce(s.quantity, 0) as is_stale
from mm.stock_count_line l join mm.stock_count c using (count_id)
left join mm.stock s on s.material_id = l.material_id and s.storage_location = c.storage_location
where l.count_id = $1 order by l.material_id
"""
_SORT = {
    "created_at": SortColumn(sql="created_at", type=datetime),
    "status": SortColumn(sql="status", type=str),
    "count_id": SortColumn(sql="count_id", type=UUID),
}


async def get_count(ctx: Context, count_id: UUID) -> CountView:
    """One stock count with its lines.

    Raises:
        NotFound: there is no such count at the actor's sites.
    """
    row = await fetchrow(
        f"select {_COUNT} from mm.stock_count where count_id = $1 and site_id = any($2)",
        count_id,
        await module_scope(ctx, "mm"),
    )
    if row is None:
        raise NotFound(f"There is no count {count_id}.")
    lines = tuple(CountLineView(**line) for line in await fetch(_LINES, count_id))
    return CountView(**row, lines=lines)


async def list_counts(where: Where, *, limit: int, cursor: str | None, sort: str | None) -> Page[CountView]:
    """A page of stock counts, the latest first unless `sort` says otherwise."""
    asked = page_request(limit=limit, cursor=cursor, sort=sort, columns=_SORT, default="-created_at", key="count_id")
    return await fetch_page(asked, where, columns=_COUNT, source="mm.stock_count", to_item=lambda row: CountView(**row))
