"""Reading routes and their versions, limited to those of the actor's sites."""

from datetime import datetime
from typing import Any

import asyncpg
import msgspec

from busbar.auth.actor import Context
from busbar.db import fetchrow
from busbar.errors import NotFound
from busbar.routing.commands import definition_of
from busbar.routing.definition import Difference, RouteDefinition, State, differences
from busbar.web.conditions import Where
from busbar.web.pagination import Page, SortColumn, fetch_page, page_request


class RouteView(RouteDefinition, frozen=True, kw_only=True):
    """A route as it is now."""

    route_id: str
    state: State
    """`draft` and `off` handle no event; `published` does."""
    version: int
    """Rises with every act; deliveries name the version that made them."""
    created_at: datetime
    updated_at: datetime


class VersionSummary(msgspec.Struct, frozen=True, kw_only=True):
    """Who made a version of a route, when, and by which act."""

    version: int
    action: str
    """`create`, `change`, `publish`, `off` or `rollback`."""
    state: State
    """The route's state since then."""
    changed_by: str
    """The name by which they sign in."""
    changed_at: datetime


class VersionView(VersionSummary, frozen=True, kw_only=True):
    """What a route said at one version, and how that differs from the version before."""

    route_id: str
    definition: RouteDefinition
    previous_state: State | None
    """Null at the first version."""
    differences: tuple[Difference, ...]
    """Empty where only the state changed; at the first version, all that was given."""


class RouteFilter(msgspec.Struct, frozen=True, kw_only=True):
    """What a list of routes is narrowed to; None leaves it open."""

    state: State | None = None
    endpoint_id: str | None = None
    site: str | None = None
    """Routes that take events of this site, those of all sites among them."""


_ROUTE_SORT = {
    "route_id": SortColumn(sql="route_id", type=str),
    "name": SortColumn(sql="name", type=str),
    "state": SortColumn(sql="state", type=str),
    "endpoint_id": SortColumn(sql="endpoint_id", type=str),
    "updated_at": SortColumn(sql="updated_at", type=datetime),
}
_VERSION_SORT = {"version": SortColumn(sql="version", type=int)}
_MINE = "($1::text[] is null or cardinality(sites) = 0 or sites && $1)"
_VERSION = """
select v.*, p.rule as previous_rule, p.state as previous_state
from core.route_version v left join core.route_version p on p.route_id = v.route_id and p.version = v.version - 1
where v.route_id = $1 and v.version = $2
"""


async def get_route(ctx: Context, route_id: str) -> RouteView:
    """One route.

    Raises:
        NotFound: there is no such route, or the actor works for none of its sites.
    """
    row = await fetchrow(f"select * from core.route where {_MINE} and route_id = $2", ctx.actor.site_filter, route_id)
    if row is None:
        raise NotFound(f"There is no route {route_id}.")
    return _view(row)


async def list_routes(
    ctx: Context, wanted: RouteFilter, *, limit: int, cursor: str | None, sort: str | None
) -> Page[RouteView]:
    """A page of the routes of the actor's sites."""
    asked = page_request(limit=limit, cursor=cursor, sort=sort, columns=_ROUTE_SORT, default="route_id", key="route_id")
    where = Where(_MINE, ctx.actor.site_filter)
    where.add("state = {}", wanted.state)
    where.add("endpoint_id = {}", wanted.endpoint_id)
    where.add("(cardinality(sites) = 0 or {} = any(sites))", wanted.site)
    return await fetch_page(asked, where, columns="*", source="core.route", to_item=_view)


async def list_versions(
    ctx: Context, route_id: str, *, limit: int, cursor: str | None, sort: str | None
) -> Page[VersionSummary]:
    """A page of a route's versions.

    Raises:
        NotFound: as with `get_route`.
    """
    await get_route(ctx, route_id)
    asked = page_request(
        limit=limit, cursor=cursor, sort=sort, columns=_VERSION_SORT, default="-version", key="version"
    )
    return await fetch_page(
        asked,
        Where("route_id = $1", route_id),
        columns="version, action, state, changed_by, changed_at",
        source="core.route_version",
        to_item=lambda row: VersionSummary(**row),
    )


async def get_version(ctx: Context, route_id: str, version: int) -> VersionView:
    """What a route said at a version, and how that differs from the version before.

    Raises:
        NotFound: there is no such route or version, or the actor works for none of the route's sites.
    """
    await get_route(ctx, route_id)
    row = await fetchrow(_VERSION, route_id, version)
    if row is None:
        raise NotFound(f"The route {route_id} has no version {version}.")
    rule: dict[str, Any] = msgspec.json.decode(row["rule"])
    before: dict[str, Any] = {} if row["previous_rule"] is None else msgspec.json.decode(row["previous_rule"])
    return VersionView(
        route_id=route_id,
        version=row["version"],
        action=row["action"],
        state=row["state"],
        changed_by=row["changed_by"],
        changed_at=row["changed_at"],
        definition=msgspec.convert(rule, RouteDefinition),
        previous_state=row["previous_state"],
        differences=differences(before, rule),
    )


def _view(row: asyncpg.Record) -> RouteView:
    return RouteView(
        **msgspec.structs.asdict(definition_of(row)),
        route_id=row["route_id"],
        state=row["state"],
        version=row["version"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
