"""Reading what reliability indices are made of: outages with what each counts for, added up by the database.

An outage's customers come back in steps: a step ends the interruption of its customers, and whoever no step names has
supply again when the outage is over (`restored_at`), or is still out. Outages whose ticket was cancelled never were.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec

from busbar.sdk import NotFound, Page, SortColumn, Where, fetch, fetch_page, fetchrow, fetchval, page_request
from busbar_pm.indices import SUSTAINED_ABOVE, Period, Tally


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """Whose outages are looked at, and when."""

    site_id: str
    timezone: str
    """The site's; its days begin by it."""
    as_of: datetime
    """Until when open outages have lasted."""

    @property
    def today(self) -> date:
        """The day that it is at the site."""
        return self.as_of.astimezone(ZoneInfo(self.timezone)).date()

    def begin_of(self, day: date) -> datetime:
        """The moment at which a day begins at the site."""
        return datetime.combine(day, time(), ZoneInfo(self.timezone)).astimezone(UTC)

    def values(self, days: Period) -> tuple[Any, ...]:
        """The parameters $1 to $6 of `OUTAGES`."""
        first, end = (self.begin_of(day) for day in days)
        return self.site_id, self.timezone, first, end, self.as_of, SUSTAINED_ABOVE


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """What indices are of: a feeder, or what is not told apart by feeders."""

    feeder_id: str | None = None
    feeder_name: str | None = None
    customers_served: int
    """0 when it is not known."""


class OutageView(msgspec.Struct, frozen=True, kw_only=True):
    """An outage, and what it counts for in the indices."""

    incident_id: UUID
    ticket_id: str
    asset_id: str
    feeder_id: str | None
    """The asset itself, or the nearest feeder above it; null where there is none."""
    day: date
    """The day that it counts for: on which it started, in the site's time zone."""
    started_at: datetime
    restored_at: datetime | None
    customers_affected: int
    customer_interruptions: int
    """Customers without supply for longer than five minutes."""
    customer_minutes: float
    """Their minutes without supply, of those who have it again."""
    momentary_interruptions: int
    """Customers who had supply again within five minutes."""
    open_customers: int
    """Customers still without supply."""
    open_customer_minutes: float
    """Their minutes without supply until now; not part of `customer_minutes`."""


OUTAGES = """
select incident_id, ticket_id, asset_id, started_at, restored_at, customers_affected,
    (started_at at time zone $2::text)::date as day,
    stepped_sustained + case when rest_lasted > $6::interval then rest else 0 end as interruptions,
    stepped_seconds + case when restored_at is not null and rest_lasted > $6
        then rest * extract(epoch from rest_lasted) else 0 end as customer_seconds,
    stepped - stepped_sustained + case when restored_at is not null and rest_lasted <= $6 then rest else 0 end
        as momentary,
    case when restored_at is null then rest else 0 end as open_customers,
    case when restored_at is null then rest * greatest(extract(epoch from rest_lasted), 0) else 0 end as open_seconds
from (
    select i.*, s.*, i.customers_affected - s.stepped as rest,
        coalesce(i.restored_at, $5::timestamptz) - i.started_at as rest_lasted
    from pm.incident i cross join lateral (
        select coalesce(sum(customers_restored), 0) as stepped,
            coalesce(sum(customers_restored) filter (where lasted > $6), 0) as stepped_sustained,
            coalesce(sum(customers_restored * extract(epoch from lasted)) filter (where lasted > $6), 0)
                as stepped_seconds
        from (select customers_restored, restored_at - i.started_at as lasted
            from pm.restoration_step where incident_id = i.incident_id) steps) s
    where i.site_id = $1::text and i.fault_type = 'outage' and i.started_at >= $3::timestamptz and i.started_at < $4
        and not exists (select from core.ticket t where t.ticket_id = i.ticket_id and t.status = 'Cancelled')) outage
"""
"""One row for each outage that counts, with what it counts for. Parameters: site, time zone, first moment, moment
after the last, until when open ones have lasted, how long a momentary interruption may be."""

_TALLY = """
count(*) filter (where interruptions > 0) as outages, sum(interruptions)::int8 as interruptions,
sum(customer_seconds) as customer_seconds, sum(momentary)::int8 as momentary,
count(*) filter (where open_customers > 0) as open_outages, sum(open_customers)::int8 as open_customers,
sum(open_seconds) as open_seconds
"""

_BELOW = """
with recursive below (asset_id, feeder_id) as (
    select asset_id, asset_id from pm.asset where site_id = $1 and asset_type = 'feeder' {only}
    union all
    select a.asset_id, b.feeder_id from below b join pm.asset a on a.parent_id = b.asset_id
    where a.asset_type <> 'feeder')
"""
"""Every asset of a feeder with its feeder: from each feeder down to where the next one begins."""

_FEEDER_ABOVE = """(
    with recursive above (asset_id, asset_type, parent_id) as (
        select asset_id, asset_type, parent_id from pm.asset a where a.asset_id = outage.asset_id
        union all
        select a.asset_id, a.asset_type, a.parent_id from above u join pm.asset a on a.asset_id = u.parent_id
        where u.asset_type <> 'feeder')
    select asset_id from above where asset_type = 'feeder')
"""
"""The way up ends at the first feeder, so that there is one at most."""

_OUTAGE_VIEW = f"""incident_id, ticket_id, asset_id, {_FEEDER_ABOVE} as feeder_id, day, started_at, restored_at,
    customers_affected, interruptions as customer_interruptions, customer_minutes,
    momentary as momentary_interruptions, open_customers, (open_seconds / 60)::float8 as open_customer_minutes"""

OUTAGE_SORT = {
    "started_at": SortColumn(sql="started_at", type=datetime),
    "customer_minutes": SortColumn(sql="customer_minutes", type=float),
    "customers_affected": SortColumn(sql="customers_affected", type=int),
    "incident_id": SortColumn(sql="incident_id", type=UUID),
}


async def timezone_of(site_id: str) -> str:
    """The time zone of a site, as an IANA name."""
    return str(await fetchval("select timezone from core.site where site_id = $1", site_id))


async def customers_of_site(site_id: str) -> int:
    """Customers served: those of the assets at the top of the hierarchy, unless these are planned or retired."""
    return int(
        await fetchval(
            "select coalesce(sum(customers_served), 0) from pm.asset "
            "where site_id = $1 and parent_id is null and status not in ('planned', 'retired')",
            site_id,
        )
    )


_FEEDER = """
select asset_id as feeder_id, name as feeder_name, customers_served from pm.asset
where site_id = $1 and asset_type = 'feeder'
"""


async def feeders_of(site_id: str) -> list[Part]:
    """The feeders of a site, by id."""
    return [Part(**row) for row in await fetch(f"{_FEEDER} order by asset_id", site_id)]


async def feeder_of(site_id: str, asset_id: str) -> Part:
    """One feeder.

    Raises:
        NotFound: the site has no such asset, or it is no feeder.
    """
    row = await fetchrow(f"{_FEEDER} and asset_id = $2", site_id, asset_id)
    if row is None:
        raise NotFound(f"There is no feeder {asset_id} at the site {site_id}.")
    return Part(**row)


async def tallies_by_day(scope: Scope, days: Period) -> dict[date, Tally]:
    """What the outages of each day add up to; days without any are not in it."""
    rows = await fetch(f"select day, {_TALLY} from ({OUTAGES}) counted group by day", *scope.values(days))
    return {row["day"]: _tally(row) for row in rows}


async def tallies_by_feeder(
    scope: Scope, cut: Sequence[Period], *, feeder_id: str | None, major: Sequence[date]
) -> dict[tuple[str | None, int, bool], Tally]:
    """What outages add up to by feeder, place of the period in `cut`, and whether the day is one of `major`.

    With a `feeder_id` its own only; else of all feeders, and under None what happened at no feeder.
    """
    below = _BELOW.format(only="" if feeder_id is None else "and asset_id = $9::text")
    rows = await fetch(
        f"""{below} select feeder_id, width_bucket(day, $7::date[]) - 1 as period, day = any($8::date[]) as is_major,
            {_TALLY}
        from ({OUTAGES}) counted {"left" if feeder_id is None else ""} join below using (asset_id) group by 1, 2, 3""",
        *scope.values((cut[0][0], cut[-1][1])),
        [begins for begins, _ in cut],
        list(major),
        *([] if feeder_id is None else [feeder_id]),
    )
    return {(row["feeder_id"], row["period"], row["is_major"]): _tally(row) for row in rows}


def outages_in(scope: Scope, days: Period) -> Where:
    """The condition to begin a list of outages with: those that count for anything in these days."""
    return Where("interruptions + momentary + open_customers > 0", *scope.values(days))


def only_feeder(where: Where, feeder_id: str) -> None:
    """Leave the outages of one feeder."""
    below = _BELOW.format(only="and asset_id = {}")
    where.add(f"asset_id in ({below} select asset_id from below)", feeder_id)


def only_outside_feeders(where: Where) -> None:
    """Leave the outages of assets that are no feeder's."""
    where.add_plain(f"asset_id not in ({_BELOW.format(only='')} select asset_id from below)")


async def list_outages(where: Where, *, limit: int, cursor: str | None, sort: str | None) -> Page[OutageView]:
    """A page of outages, those with the most customer minutes first unless `sort` says otherwise."""
    asked = page_request(
        limit=limit, cursor=cursor, sort=sort, columns=OUTAGE_SORT, default="-customer_minutes", key="incident_id"
    )
    source = f"(select *, (customer_seconds / 60)::float8 as customer_minutes from ({OUTAGES}) counted) outage"
    return await fetch_page(asked, where, columns=_OUTAGE_VIEW, source=source, to_item=lambda row: OutageView(**row))


def _tally(row: Any) -> Tally:
    return Tally(
        outages=row["outages"],
        interruptions=row["interruptions"],
        customer_us=int(row["customer_seconds"] * 1_000_000),
        momentary=row["momentary"],
        open_outages=row["open_outages"],
        open_customers=row["open_customers"],
        open_customer_us=int(row["open_seconds"] * 1_000_000),
    )
