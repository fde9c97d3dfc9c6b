"""The HTTP side of stock counts, under /api/v1/mm."""

from typing import Annotated, Any, ClassVar
from uuid import UUID

import msgspec
from litestar import Response, delete, get, patch, post
from litestar.params import FromPath, JSONBody

from busbar.sdk import (
    Context,
    CursorParameter,
    Identifier,
    IfMatchHeader,
    LimitParameter,
    Name,
    Page,
    Quantity,
    RequestContext,
    ShortText,
    Slug,
    SortParameter,
    module_site,
    needs,
    parse_if_match,
    versioned,
)
from busbar_mm import count_queries, counts, queries
from busbar_mm.count_queries import CountView
from busbar_mm.counts import Counted
from busbar_mm.fields import LocationFilter, SiteFilter, StatusFilter

_READ = needs("mm.read")
_WRITE = needs("mm.write")


class CountBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A count to be begun."""

    EXAMPLE: ClassVar[dict[str, Any]] = {"storage_location": "RACK-A1", "description": "Quarterly count"}

    storage_location: Name
    material_ids: Annotated[tuple[Identifier, ...], msgspec.Meta(max_length=counts.MATERIALS_MAX)] = ()
    """What is to be counted; left out, all that the books have at the location."""
    description: ShortText = ""
    site: Slug | None = None
    """May be left out by who works for one site only."""


class CountedBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was found of a material."""

    material_id: Identifier
    counted_quantity: Quantity


class CountPatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was found."""

    EXAMPLE: ClassVar[dict[str, Any]] = {"lines": [{"material_id": "FUSE-HH-63", "counted_quantity": "23"}]}

    lines: Annotated[tuple[CountedBody, ...], msgspec.Meta(min_length=1, max_length=counts.MATERIALS_MAX)]


class PostCountBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why the differences are posted."""

    EXAMPLE: ClassVar[dict[str, Any]] = {"reason": "Quarterly count"}

    reason: ShortText = "Stock count"


@get("/stock-counts", opt=_READ)
async def list_counts(
    ctx: RequestContext,
    site: SiteFilter = None,
    status: StatusFilter = None,
    storage_location: LocationFilter = None,
    limit: LimitParameter = 50,
    cursor: CursorParameter = None,
    sort: SortParameter = None,
) -> Page[CountView]:
    """List stock counts, without their lines. Can be sorted by created_at, status, count_id."""
    where = await queries.at_sites(ctx, site)
    where.add("status = {}", status)
    where.add("storage_location = {}", storage_location)
    return await count_queries.list_counts(where, limit=limit, cursor=cursor, sort=sort)


@post("/stock-counts", opt=_WRITE)
async def begin_count(ctx: RequestContext, data: JSONBody[CountBody]) -> Response[CountView]:
    """Begin a count; it keeps what the books have now."""
    count_id = await counts.begin(
        ctx,
        site_id=await module_site(ctx, "mm", data.site, thing="count"),
        storage_location=data.storage_location,
        material_ids=data.material_ids,
        description=data.description,
    )
    return await _count(ctx, count_id, status_code=201)


@get("/stock-counts/{count_id:uuid}", opt=_READ)
async def get_count(ctx: RequestContext, count_id: FromPath[UUID]) -> Response[CountView]:
    """Read one stock count, with its lines."""
    return await _count(ctx, count_id)


@patch("/stock-counts/{count_id:uuid}", opt=_WRITE)
async def enter_count(
    ctx: RequestContext, count_id: FromPath[UUID], data: JSONBody[CountPatch], if_match: IfMatchHeader = None
) -> Response[CountView]:
    """Enter what was found; a material may be entered again until the count is posted."""
    lines = [Counted(**msgspec.structs.asdict(line)) for line in data.lines]
    await counts.enter(ctx, count_id, lines, expected=parse_if_match(if_match, required=False))
    return await _count(ctx, count_id)


@post("/stock-counts/{count_id:uuid}/recount", opt=_WRITE, status_code=200)
async def recount(ctx: RequestContext, count_id: FromPath[UUID], if_match: IfMatchHeader = None) -> Response[CountView]:
    """Take the books anew where the stock has changed since the count began; that is to be counted again."""
    await counts.recount(ctx, count_id, expected=parse_if_match(if_match, required=False))
    return await _count(ctx, count_id)


@post("/stock-counts/{count_id:uuid}/post", opt=_WRITE, status_code=200)
async def post_count(
    ctx: RequestContext,
    count_id: FromPath[UUID],
    data: JSONBody[PostCountBody | None] = None,
    if_match: IfMatchHeader = None,
) -> Response[CountView]:
    """Post the differences as adjustments, and finish the count."""
    reason = (data or PostCountBody()).reason
    await counts.post(ctx, count_id, reason=reason, expected=parse_if_match(if_match, required=False))
    return await _count(ctx, count_id)


@delete("/stock-counts/{count_id:uuid}", opt=_WRITE, status_code=204)
async def call_off_count(ctx: RequestContext, count_id: FromPath[UUID], if_match: IfMatchHeader = None) -> None:
    """End an open count without posting anything; it stays on record as cancelled."""
    await counts.call_off(ctx, count_id, expected=parse_if_match(if_match, required=False))


async def _count(ctx: Context, count_id: UUID, *, status_code: int = 200) -> Response[CountView]:
    count = await count_queries.get_count(ctx, count_id)
    return versioned(count, count.version, status_code=status_code)


COUNT_ROUTES = (list_counts, begin_count, get_count, enter_count, recount, post_count, call_off_count)
