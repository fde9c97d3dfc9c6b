"""The HTTP side of assets."""

from datetime import date
from typing import Annotated, Any, ClassVar

import msgspec
from litestar import Response, delete, get, patch, post
from litestar.params import FromQuery, JSONBody, Parameter

from busbar.sdk import (
    CursorParameter,
    Identifier,
    IfMatchHeader,
    Latitude,
    LimitParameter,
    Longitude,
    Name,
    Page,
    RequestContext,
    SearchParameter,
    ShortText,
    Slug,
    SortParameter,
    WholeNumber,
    module_site,
    parse_if_match,
    versioned,
)
from busbar_pm import assets, queries
from busbar_pm.assets import AssetFields, AssetStatus
from busbar_pm.queries import AssetView, HistoryEntry
from busbar_pm.route_parameters import READ, WRITE, AssetId, AssetTypeFilter, SiteFilter


class AssetBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An asset to be added. Without `asset_id` it gets one."""

    EXAMPLE: ClassVar[dict[str, Any]] = {
        "asset_id": "TRF-1042",
        "asset_type": "transformer",
        "name": "Transformer Mill Lane",
        "site": "depot-north",
        "location": "Mill Lane 4",
        "latitude": 53.551086,
        "longitude": 9.993682,
        "installation_date": "1998-05-14",
        "customers_served": 148,
        "voltage_kv": 20.0,
        "attributes": {"rated_kva": 630},
    }

    asset_type: Slug
    name: Name
    site: Slug | None = None
    """May be left out by who works for one site only."""
    asset_id: Identifier | None = None
    location: ShortText = ""
    latitude: Latitude | None = None
    longitude: Longitude | None = None
    installation_date: date | None = None
    status: AssetStatus = "in_service"
    parent_id: Identifier | None = None
    customers_served: WholeNumber = 0
    voltage_kv: Annotated[float, msgspec.Meta(ge=0, le=2000)] | None = None
    cost_center_id: Identifier | None = None
    """Where the cost of work on it goes, unless the order says otherwise."""
    attributes: Annotated[dict[str, ShortText | int | float | bool | None], msgspec.Meta(max_length=50)] = {}


class AssetPatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be different; fields that are left out stay, null clears one that may be unknown."""

    EXAMPLE: ClassVar[dict[str, Any]] = {"status": "out_of_service"}

    asset_type: Slug | msgspec.UnsetType = msgspec.UNSET
    name: Name | msgspec.UnsetType = msgspec.UNSET
    location: ShortText | msgspec.UnsetType = msgspec.UNSET
    latitude: Latitude | msgspec.UnsetType | None = msgspec.UNSET
    longitude: Longitude | msgspec.UnsetType | None = msgspec.UNSET
    installation_date: date | msgspec.UnsetType | None = msgspec.UNSET
    status: AssetStatus | msgspec.UnsetType = msgspec.UNSET
    parent_id: Identifier | msgspec.UnsetType | None = msgspec.UNSET
    customers_served: WholeNumber | msgspec.UnsetType = msgspec.UNSET
    voltage_kv: Annotated[float, msgspec.Meta(ge=0, le=2000)] | msgspec.UnsetType | None = msgspec.UNSET
    cost_center_id: Identifier | msgspec.UnsetType | None = msgspec.UNSET
    attributes: (
        Annotated[dict[str, ShortText | int | float | bool | None], msgspec.Meta(max_length=50)] | msgspec.UnsetType
    ) = msgspec.UNSET


@get("/assets", opt=READ)
async def list_assets(
    ctx: RequestContext,
    site: SiteFilter = None,
    asset_type: AssetTypeFilter = None,
    status: FromQuery[AssetStatus | None] = None,
    parent_id: Annotated[str | None, Parameter(max_length=60, pattern=r"^[^\x00-\x1f\x7f]*$")] = None,
    text: SearchParameter = None,
    limit: LimitParameter = 50,
    cursor: CursorParameter = None,
    sort: SortParameter = None,
) -> Page[AssetView]:
    """List assets. Can be sorted by asset_id, name, asset_type, status, customers_served, created_at."""
    where = await queries.at_sites(ctx, site)
    where.add("asset_type = {}", asset_type)
    where.add("status = {}", status)
    where.add("parent_id = {}", parent_id)
    where.add("to_tsvector('simple', name || ' ' || location) @@ plainto_tsquery('simple', {})", text)
    return await queries.list_assets(where, limit=limit, cursor=cursor, sort=sort)


@post("/assets", opt=WRITE)
async def create_asset(ctx: RequestContext, data: JSONBody[AssetBody]) -> Response[AssetView]:
    """Add an asset."""
    given = msgspec.structs.asdict(data)
    site, asset_id = given.pop("site"), given.pop("asset_id")
    created = await assets.create(
        ctx, asset_id=asset_id, site_id=await module_site(ctx, "pm", site, thing="asset"), fields=AssetFields(**given)
    )
    asset = await queries.get_asset(ctx, created)
    return versioned(asset, asset.version, status_code=201)


@get("/assets/{asset_id:str}", opt=READ)
async def get_asset(ctx: RequestContext, asset_id: AssetId) -> Response[AssetView]:
    """Read one asset."""
    asset = await queries.get_asset(ctx, asset_id)
    return versioned(asset, asset.version)


@patch("/assets/{asset_id:str}", opt=WRITE)
async def change_asset(
    ctx: RequestContext, asset_id: AssetId, data: JSONBody[AssetPatch], if_match: IfMatchHeader = None
) -> Response[AssetView]:
    """Change an asset."""
    changes = {name: value for name, value in msgspec.structs.asdict(data).items() if value is not msgspec.UNSET}
    await assets.change(ctx, asset_id, changes, expected=parse_if_match(if_match, required=False))
    asset = await queries.get_asset(ctx, asset_id)
    return versioned(asset, asset.version)


@delete("/assets/{asset_id:str}", opt=WRITE, status_code=204)
async def delete_asset(ctx: RequestContext, asset_id: AssetId, if_match: IfMatchHeader = None) -> None:
    """Delete an asset that nothing refers to; otherwise set its status to retired."""
    await assets.remove(ctx, asset_id, expected=parse_if_match(if_match, required=False))


@get("/assets/{asset_id:str}/history", opt=READ)
async def get_history(ctx: RequestContext, asset_id: AssetId) -> tuple[HistoryEntry, ...]:
    """Read what was done to an asset, newest first."""
    return await queries.history_of(ctx, asset_id)


ROUTES = (list_assets, create_asset, get_asset, change_asset, delete_asset, get_history)
