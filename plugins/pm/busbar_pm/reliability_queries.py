"""Reading how reliable assets were: the failures of a period become the figures of an asset, or of each type."""

from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

import msgspec

from busbar.sdk import Context, FieldError, InvalidPayload, Where, fetch, fetchrow, module_scope
from busbar_pm.queries import get_asset
from busbar_pm.reliability import Failure, Observation, Reliability, observe, summarize

PERIOD_DEFAULT: Final = timedelta(days=365)
PERIOD_MAX: Final = timedelta(days=20 * 366)


class Period(msgspec.Struct, frozen=True, kw_only=True):
    """From a moment to another, which is not part of it."""

    begin: datetime
    end: datetime


def period_of(ctx: Context, begin: datetime | None, end: datetime | None) -> Period:
    """The period that a caller asks for: by default the 365 days up to now.

    An end that lies ahead is brought back to now, for nothing was observed there yet.

    Raises:
        InvalidPayload: it begins when it ends or later, is longer than `PERIOD_MAX`, or a time lacks its offset.
    """
    errors = [
        FieldError(field=name, message="Must have an offset, such as Z or +01:00.")
        for name, moment in (("from", begin), ("to", end))
        if moment is not None and moment.tzinfo is None
    ]
    if errors:
        raise InvalidPayload("A time lacks its offset.", errors=errors)
    now = ctx.clock()
    until = min(end or now, now)
    since = begin or max(until, datetime.min.replace(tzinfo=UTC) + PERIOD_DEFAULT) - PERIOD_DEFAULT
    message = None
    if since >= until:
        message = "Must lie before the end of the period, and before now."
    elif until - since > PERIOD_MAX:
        message = f"Makes a period of more than {PERIOD_MAX.days} days."
    if message is not None:
        raise InvalidPayload("That is no period.", errors=[FieldError(field="from", message=message)])
    return Period(begin=since.astimezone(UTC), end=until.astimezone(UTC))


class AssetReliability(msgspec.Struct, frozen=True, kw_only=True):
    """How reliable an asset was."""

    asset_id: str
    period_from: datetime = msgspec.field(name="from")
    period_to: datetime = msgspec.field(name="to")
    figures: Reliability
    degradations: int
    """Reported in the period; the function was still there."""


class TypeReliability(msgspec.Struct, frozen=True, kw_only=True):
    """How reliable the assets of a type were, taken together."""

    asset_type: str
    assets: int
    figures: Reliability


class FleetReliability(msgspec.Struct, frozen=True, kw_only=True):
    """How reliable the assets were, by type."""

    period_from: datetime = msgspec.field(name="from")
    period_to: datetime = msgspec.field(name="to")
    types: tuple[TypeReliability, ...]


# An incident whose ticket was cancelled was none. The ticket's end counts where its handler has not run yet.
_FAILURES: Final = """
select i.asset_id, i.started_at, coalesce(i.restored_at, t.closed_at) as restored_at
from pm.incident i join core.ticket t using (ticket_id)
where i.fault_type <> 'degradation' and t.status <> 'Cancelled' and i.started_at < $2
    and coalesce(i.restored_at, t.closed_at, $2) > $1
"""


async def reliability_of(ctx: Context, asset_id: str, period: Period) -> AssetReliability:
    """How reliable one asset was.

    Raises:
        NotFound: there is no such asset at the actor's sites.
    """
    asset = await get_asset(ctx, asset_id)
    rows = await fetch(f"{_FAILURES} and i.asset_id = $3", period.begin, period.end, asset_id)
    counted = await fetchrow(
        "select count(*) as degradations from pm.incident i join core.ticket t using (ticket_id) "
        "where i.asset_id = $1 and i.fault_type = 'degradation' and t.status <> 'Cancelled' "
        "and i.started_at >= $2 and i.started_at < $3",
        asset_id,
        period.begin,
        period.end,
    )
    assert counted is not None, "a count is there always"
    return AssetReliability(
        asset_id=asset_id,
        period_from=period.begin,
        period_to=period.end,
        figures=summarize([_observe([_failure(row) for row in rows], asset.installation_date, period)]),
        degradations=counted["degradations"],
    )


async def reliability_by_type(
    ctx: Context, period: Period, *, site: str | None = None, asset_type: str | None = None
) -> FleetReliability:
    """How reliable the assets that are or were in service are, by type; those without a failure count as well."""
    where = Where("site_id = any($1)", await module_scope(ctx, "pm", site))
    where.add("asset_type = {}", asset_type)
    where.add_plain("status <> 'planned'")
    failures: dict[str, list[Failure]] = defaultdict(list)
    for row in await fetch(f"{_FAILURES} and i.site_id = any($3)", period.begin, period.end, where.values[0]):
        failures[row["asset_id"]].append(_failure(row))
    seen: dict[str, list[Observation]] = defaultdict(list)
    rows = await fetch(
        f"select asset_id, asset_type, installation_date from pm.asset where {where.sql} order by asset_type",
        *where.values,
    )
    for row in rows:
        seen[row["asset_type"]].append(_observe(failures[row["asset_id"]], row["installation_date"], period))
    return FleetReliability(
        period_from=period.begin,
        period_to=period.end,
        types=tuple(
            TypeReliability(asset_type=kind, assets=len(each), figures=summarize(each)) for kind, each in seen.items()
        ),
    )


def _failure(row: Mapping[str, Any]) -> Failure:
    restored = row["restored_at"]
    # A reporter's clock may be ahead of ours by minutes, and the ticket be closed before its incident began.
    return Failure(
        started_at=row["started_at"], restored_at=None if restored is None else max(restored, row["started_at"])
    )


def _observe(failures: list[Failure], installed: date | None, period: Period) -> Observation:
    installed_at = None if installed is None else datetime.combine(installed, time(), tzinfo=UTC)
    return observe(failures, period_from=period.begin, period_to=period.end, installed_at=installed_at)
