"""Reading assets, orders and incidents, limited to the actor's sites at which plant maintenance is enabled."""

from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import Any, TypeVar
from uuid import UUID

import msgspec

from busbar.sdk import (
    Context,
    NotFound,
    Page,
    SortColumn,
    count_sql,
    fetch,
    fetchrow,
    fetchval,
    module_scope,
    page_request,
)

View = TypeVar("View")


class AssetView(msgspec.Struct, frozen=True, kw_only=True):
    """An asset."""

    asset_id: str
    asset_type: str
    name: str
    location: str
    latitude: float | None
    longitude: float | None
    installation_date: date | None
    status: str
    parent_id: str | None
    customers_served: int
    """Customers who are supplied through the asset."""
    voltage_kv: float | None
    attributes: dict[str, Any]
    site: str
    version: int
    created_at: datetime
    updated_at: datetime


class HistoryEntry(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was done to an asset."""

    at: datetime
    kind: str
    ticket_id: str
    object_id: str
    summary: str
    recorded_by: str


class OrderView(msgspec.Struct, frozen=True, kw_only=True):
    """A maintenance order."""

    order_id: UUID
    ticket_id: str
    asset_id: str
    order_type: str
    description: str
    scheduled_date: date
    status: str
    completed_at: datetime | None
    completion_notes: str | None
    site: str
    version: int
    created_at: datetime
    updated_at: datetime


class StepView(msgspec.Struct, frozen=True, kw_only=True):
    """A step of restoration."""

    step: int
    restored_at: datetime
    customers_restored: int
    note: str | None


class IncidentView(msgspec.Struct, frozen=True, kw_only=True):
    """An incident; `steps` is filled where one incident is read, and empty in lists."""

    incident_id: UUID
    ticket_id: str
    asset_id: str
    fault_type: str
    severity: str
    description: str
    started_at: datetime
    restored_at: datetime | None
    customers_affected: int
    site: str
    source_ref: str | None
    version: int
    created_at: datetime
    updated_at: datetime
    steps: tuple[StepView, ...] = ()


ASSET_SORT = {
    "asset_id": SortColumn(sql="asset_id", type=str),
    "name": SortColumn(sql="name", type=str),
    "asset_type": SortColumn(sql="asset_type", type=str),
    "status": SortColumn(sql="status", type=str),
    "customers_served": SortColumn(sql="customers_served", type=int),
    "created_at": SortColumn(sql="created_at", type=datetime),
}
ORDER_SORT = {
    "scheduled_date": SortColumn(sql="scheduled_date", type=date),
    "created_at": SortColumn(sql="created_at", type=datetime),
    "status": SortColumn(sql="status", type=str),
    "order_id": SortColumn(sql="order_id", type=UUID),
}
INCIDENT_SORT = {
    "started_at": SortColumn(sql="started_at", type=datetime),
    "created_at": SortColumn(sql="created_at", type=datetime),
    "customers_affected": SortColumn(sql="customers_affected", type=int),
    "severity": SortColumn(sql="severity", type=str),
    "incident_id": SortColumn(sql="incident_id", type=UUID),
}


def _columns(view: type[msgspec.Struct], *, leave_out: Sequence[str] = ()) -> str:
    names = [name for name in view.__struct_fields__ if name not in leave_out]
    return ", ".join("site_id as site" if name == "site" else name for name in names)


_ASSET = _columns(AssetView)
_ORDER = _columns(OrderView)
_INCIDENT = _columns(IncidentView, leave_out=["steps"])


def _asset(row: Any) -> AssetView:
    return AssetView(**{**row, "attributes": msgspec.json.decode(row["attributes"])})


async def get_asset(ctx: Context, asset_id: str) -> AssetView:
    """One asset.

    Raises:
        NotFound: there is no such asset at the actor's sites.
    """
    row = await fetchrow(
        f"select {_ASSET} from pm.asset where asset_id = $1 and site_id = any($2)", asset_id, module_scope(ctx, "pm")
    )
    if row is None:
        raise NotFound(f"There is no asset {asset_id}.")
    return _asset(row)


async def get_order(ctx: Context, order_id: UUID) -> OrderView:
    """One maintenance order.

    Raises:
        NotFound: there is no such order at the actor's sites.
    """
    row = await fetchrow(
        f"select {_ORDER} from pm.maintenance_order where order_id = $1 and site_id = any($2)",
        order_id,
        module_scope(ctx, "pm"),
    )
    if row is None:
        raise NotFound(f"There is no maintenance order {order_id}.")
    return OrderView(**row)


async def get_incident(ctx: Context, incident_id: UUID) -> IncidentView:
    """One incident, with the steps of its restoration.

    Raises:
        NotFound: there is no such incident at the actor's sites.
    """
    row = await fetchrow(
        f"select {_INCIDENT} from pm.incident where incident_id = $1 and site_id = any($2)",
        incident_id,
        module_scope(ctx, "pm"),
    )
    if row is None:
        raise NotFound(f"There is no incident {incident_id}.")
    steps = await fetch(
        "select step, restored_at, customers_restored, note from pm.restoration_step where incident_id = $1 "
        "order by step",
        incident_id,
    )
    return IncidentView(**row, steps=tuple(StepView(**step) for step in steps))


async def history_of(ctx: Context, asset_id: str) -> tuple[HistoryEntry, ...]:
    """What was done to an asset, newest first; the latest 200 entries.

    Raises:
        NotFound: there is no such asset at the actor's sites.
    """
    await get_asset(ctx, asset_id)
    rows = await fetch(
        "select at, kind, ticket_id, object_id, summary, recorded_by from pm.asset_history where asset_id = $1 "
        "order by at desc, id desc limit 200",
        asset_id,
    )
    return tuple(HistoryEntry(**row) for row in rows)


class Query:
    """Conditions of a list, with their values as parameters."""

    def __init__(self, ctx: Context, site: str | None) -> None:
        sites = module_scope(ctx, "pm", site)
        self.values: list[Any] = [sites]
        self.where = "site_id = any($1)"

    def add(self, condition: str, value: Any) -> None:
        """Narrow the list by `condition`, in which `{}` stands for the value, unless that is None."""
        if value is not None:
            self.values.append(value)
            self.where += " and " + condition.format(f"${len(self.values)}")


async def _list(
    table: str,
    columns: str,
    query: Query,
    to_item: Callable[[Any], View],
    *,
    sorts: dict[str, SortColumn],
    default: str,
    key: str,
    limit: int,
    cursor: str | None,
    sort: str | None,
) -> Page[View]:
    asked = page_request(limit=limit, cursor=cursor, sort=sort, columns=sorts, default=default, key=key)
    after, after_values = asked.after(first_parameter=len(query.values) + 1)
    rows = await fetch(
        f"select {columns} from {table} where {query.where} and {after} "
        f"order by {asked.order_by} limit {asked.fetch_count}",
        *query.values,
        *after_values,
    )
    counted = await fetchval(count_sql(f"{table} where {query.where}"), *query.values)
    return asked.page(rows, to_item=to_item, counted=counted)


async def list_assets(query: Query, *, limit: int, cursor: str | None, sort: str | None) -> Page[AssetView]:
    """A page of assets, by id unless `sort` says otherwise."""
    return await _list(
        "pm.asset", _ASSET, query, _asset,
        sorts=ASSET_SORT, default="asset_id", key="asset_id", limit=limit, cursor=cursor, sort=sort,
    )  # fmt: skip


async def list_orders(query: Query, *, limit: int, cursor: str | None, sort: str | None) -> Page[OrderView]:
    """A page of maintenance orders, the next due first unless `sort` says otherwise."""
    return await _list(
        "pm.maintenance_order", _ORDER, query, lambda row: OrderView(**row),
        sorts=ORDER_SORT, default="scheduled_date", key="order_id", limit=limit, cursor=cursor, sort=sort,
    )  # fmt: skip


async def list_incidents(query: Query, *, limit: int, cursor: str | None, sort: str | None) -> Page[IncidentView]:
    """A page of incidents, the latest first unless `sort` says otherwise."""
    return await _list(
        "pm.incident", _INCIDENT, query, lambda row: IncidentView(**row),
        sorts=INCIDENT_SORT, default="-started_at", key="incident_id", limit=limit, cursor=cursor, sort=sort,
    )  # fmt: skip
