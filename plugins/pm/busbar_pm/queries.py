"""Reading assets, their history, and incidents, limited to the actor's sites at which plant maintenance is enabled."""

from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from busbar.sdk import (
    Context,
    NotFound,
    Page,
    SortColumn,
    Where,
    columns_of,
    fetch,
    fetch_page,
    fetchrow,
    module_scope,
    page_request,
)
from busbar_pm.events import CURRENCY


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
    cost_center_id: str | None
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
    cost: Decimal
    """All that it cost, material from stock included."""
    currency: str = CURRENCY
    labour_hours: Decimal


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
    object_part: str
    damage: str
    cause: str
    detection: str
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
INCIDENT_SORT = {
    "started_at": SortColumn(sql="started_at", type=datetime),
    "created_at": SortColumn(sql="created_at", type=datetime),
    "customers_affected": SortColumn(sql="customers_affected", type=int),
    "severity": SortColumn(sql="severity", type=str),
    "incident_id": SortColumn(sql="incident_id", type=UUID),
}


_ASSET = columns_of(AssetView)
_INCIDENT = columns_of(IncidentView, leave_out=["steps"])


def _asset(row: Any) -> AssetView:
    return AssetView(**{**row, "attributes": msgspec.json.decode(row["attributes"])})


async def get_asset(ctx: Context, asset_id: str) -> AssetView:
    """One asset.

    Raises:
        NotFound: there is no such asset at the actor's sites.
    """
    row = await fetchrow(
        f"select {_ASSET} from pm.asset where asset_id = $1 and site_id = any($2)",
        asset_id,
        await module_scope(ctx, "pm"),
    )
    if row is None:
        raise NotFound(f"There is no asset {asset_id}.")
    return _asset(row)


async def get_incident(ctx: Context, incident_id: UUID) -> IncidentView:
    """One incident, with the steps of its restoration.

    Raises:
        NotFound: there is no such incident at the actor's sites.
    """
    row = await fetchrow(
        f"select {_INCIDENT} from pm.incident where incident_id = $1 and site_id = any($2)",
        incident_id,
        await module_scope(ctx, "pm"),
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
        f"select {columns_of(HistoryEntry, leave_out=['currency'])} from pm.asset_history where asset_id = $1 "
        "order by at desc, id desc limit 200",
        asset_id,
    )
    return tuple(HistoryEntry(**row) for row in rows)


async def at_sites(ctx: Context, site: str | None) -> Where:
    """The condition to begin a list with: what is at the actor's sites, or at this one of them."""
    return Where("site_id = any($1)", await module_scope(ctx, "pm", site))


async def list_assets(where: Where, *, limit: int, cursor: str | None, sort: str | None) -> Page[AssetView]:
    """A page of assets, by id unless `sort` says otherwise."""
    asked = page_request(limit=limit, cursor=cursor, sort=sort, columns=ASSET_SORT, default="asset_id", key="asset_id")
    return await fetch_page(asked, where, columns=_ASSET, source="pm.asset", to_item=_asset)


async def list_incidents(where: Where, *, limit: int, cursor: str | None, sort: str | None) -> Page[IncidentView]:
    """A page of incidents, the latest first unless `sort` says otherwise."""
    asked = page_request(
        limit=limit, cursor=cursor, sort=sort, columns=INCIDENT_SORT, default="-started_at", key="incident_id"
    )
    return await fetch_page(
        asked, where, columns=_INCIDENT, source="pm.incident", to_item=lambda row: IncidentView(**row)
    )
