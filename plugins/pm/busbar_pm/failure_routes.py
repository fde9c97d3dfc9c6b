"""The HTTP side of failure codes, and of what they and the times of failures say."""

from typing import Any, ClassVar

import msgspec
from litestar import get, put
from litestar.params import FromQuery, JSONBody

from busbar.sdk import Name, RequestContext, Slug
from busbar_pm import failure_codes, queries, reliability_queries
from busbar_pm.failure_codes import CodeGroup, FailureCode, FailureStatistics
from busbar_pm.reliability_queries import AssetReliability, FleetReliability, period_of
from busbar_pm.route_parameters import (
    READ,
    WRITE,
    AssetFilter,
    AssetId,
    AssetTypeFilter,
    PeriodFrom,
    PeriodTo,
    SiteFilter,
)


class CodeBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A code of the catalogue, which all sites share."""

    EXAMPLE: ClassVar[dict[str, Any]] = {"code_group": "cause", "code": "wildfire", "title": "Wildfire"}

    code_group: CodeGroup
    code: Slug
    title: Name
    active: bool = True
    """Whether it may be given from now on; where it was given, it stays."""


@get("/failure-codes", opt=READ)
async def list_codes(
    ctx: RequestContext, code_group: FromQuery[CodeGroup | None] = None, active: FromQuery[bool | None] = None
) -> tuple[FailureCode, ...]:
    """Read the catalogue: object parts, damages, causes and ways of detection."""
    return await failure_codes.list_codes(ctx, code_group=code_group, active=active)


@put("/failure-codes", opt=WRITE)
async def put_code(ctx: RequestContext, data: JSONBody[CodeBody]) -> FailureCode:
    """Add a code to the catalogue, or change one; by somebody who works for all sites."""
    return await failure_codes.put_code(ctx, FailureCode(**msgspec.structs.asdict(data)))


@get("/failure-statistics", opt=READ)
async def get_statistics(
    ctx: RequestContext,
    site: SiteFilter = None,
    code_group: FromQuery[CodeGroup] = "cause",
    asset_type: AssetTypeFilter = None,
    asset_id: AssetFilter = None,
    period_from: PeriodFrom = None,
    period_to: PeriodTo = None,
) -> FailureStatistics:
    """Count what the failures of a period were coded with, by cause unless another group is asked for."""
    period = period_of(ctx, period_from, period_to)
    where = await queries.at_sites(ctx, site)
    where.add("asset_type = {}", asset_type)
    where.add("asset_id = {}", asset_id)
    return await failure_codes.statistics(where, code_group=code_group, period_from=period.begin, period_to=period.end)


@get("/assets/{asset_id:str}/reliability", opt=READ)
async def get_reliability(
    ctx: RequestContext, asset_id: AssetId, period_from: PeriodFrom = None, period_to: PeriodTo = None
) -> AssetReliability:
    """Read how reliable an asset was: MTBF, MTTR and availability, from its faults and outages."""
    return await reliability_queries.reliability_of(ctx, asset_id, period_of(ctx, period_from, period_to))


@get("/reliability", opt=READ)
async def list_reliability(
    ctx: RequestContext,
    site: SiteFilter = None,
    asset_type: AssetTypeFilter = None,
    period_from: PeriodFrom = None,
    period_to: PeriodTo = None,
) -> FleetReliability:
    """Read how reliable the assets of each type were, taken together."""
    period = period_of(ctx, period_from, period_to)
    return await reliability_queries.reliability_by_type(ctx, period, site=site, asset_type=asset_type)


ROUTES = (list_codes, put_code, get_statistics, get_reliability, list_reliability)
