"""Reading sites, limited to those that the actor works for."""

from datetime import datetime

import msgspec

from busbar.auth.actor import Context
from busbar.db import fetchrow
from busbar.errors import NotFound
from busbar.web.conditions import Where
from busbar.web.pagination import Page, SortColumn, fetch_page, page_request


class SiteView(msgspec.Struct, frozen=True, kw_only=True):
    """A site and the modules that are enabled at it."""

    site_id: str
    name: str
    timezone: str
    modules: tuple[str, ...]
    version: int
    created_at: datetime


SORT_COLUMNS = {
    "site_id": SortColumn(sql="s.site_id", type=str),
    "name": SortColumn(sql="s.name", type=str),
    "created_at": SortColumn(sql="s.created_at", type=datetime),
}

_COLUMNS = """
s.site_id, s.name, s.timezone, array(
    select m.module from core.site_module m where m.site_id = s.site_id and m.enabled order by m.module) as modules,
    s.version, s.created_at
"""
_MINE = "($1::text[] is null or s.site_id = any($1))"


async def get_site(ctx: Context, site_id: str) -> SiteView:
    """One site.

    Raises:
        NotFound: there is no such site, or the actor does not work for it.
    """
    row = await fetchrow(
        f"select {_COLUMNS} from core.site s where {_MINE} and s.site_id = $2", ctx.actor.site_filter, site_id
    )
    if row is None:
        raise NotFound(f"There is no site {site_id}.")
    return SiteView(**row)


async def list_sites(ctx: Context, *, limit: int, cursor: str | None, sort: str | None) -> Page[SiteView]:
    """A page of the actor's sites."""
    asked = page_request(limit=limit, cursor=cursor, sort=sort, columns=SORT_COLUMNS, default="site_id", key="site_id")
    where = Where(_MINE, ctx.actor.site_filter)
    return await fetch_page(asked, where, columns=_COLUMNS, source="core.site s", to_item=lambda row: SiteView(**row))
