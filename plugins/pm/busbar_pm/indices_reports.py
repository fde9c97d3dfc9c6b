"""The answers about reliability: indices by period and feeder, major event days, and the outages behind both."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Final

import msgspec

from busbar.sdk import Context, FieldError, InvalidPayload, Page, module_scope
from busbar_pm import indices_queries as queries
from busbar_pm.indices import (
    MICROSECONDS_PER_MINUTE,
    NOTHING,
    Grouping,
    Indices,
    Period,
    Tally,
    history_of,
    indices,
    periods,
    threshold_for,
)
from busbar_pm.indices_queries import OutageView, Part, Scope

CELLS_MAX: Final = 10_000
YEARS_MAX: Final = 10
YEAR_MIN, YEAR_MAX = 1950, 2200

Daily = Mapping[date, Tally]
_MICROSECOND: Final = timedelta(microseconds=1)


class OpenOutages(msgspec.Struct, frozen=True, kw_only=True):
    """Outages that are not over: what they have cost until the moment of the answer."""

    outages: int
    customers: int
    """Still without supply."""
    customer_minutes: float
    """Until the moment of the answer; in no index, as those take the durations of interruptions that are over."""


class IndexCell(msgspec.Struct, frozen=True, kw_only=True):
    """The indices of one period, of the site or of one feeder."""

    begins: date
    ends: date
    """The first day after the period."""
    feeder_id: str | None = None
    """Null for the whole site; in a report by feeder, for outages at no feeder, such as those of a substation."""
    feeder_name: str | None = None
    customers_served: int
    """0 when it is not known."""
    all_days: Indices
    without_major_event_days: Indices
    open: OpenOutages
    """Of all days."""


class MajorEventDay(msgspec.Struct, frozen=True, kw_only=True):
    """A day whose SAIDI exceeds the threshold of its year."""

    day: date
    saidi_minutes: float
    t_med_minutes: float
    outages: int
    customer_interruptions: int
    customer_minutes: float


class YearThreshold(msgspec.Struct, frozen=True, kw_only=True):
    """The threshold of a year, and what it comes from; null where two days with interruptions were not to be had."""

    year: int
    history_begins: date
    history_ends: date
    """The first day of the year itself: history ends before it."""
    days: int
    """Days in the history with sustained interruptions; the others are left out."""
    alpha: float | None
    """Mean of the natural logarithms of those days' SAIDI in minutes."""
    beta: float | None
    """Their sample standard deviation."""
    t_med_minutes: float | None
    """exp(alpha + 2.5 beta)."""


class MajorEventDays(msgspec.Struct, frozen=True, kw_only=True):
    """The major event days of a year at a site."""

    site: str
    timezone: str
    as_of: datetime
    customers_served: int
    threshold: YearThreshold
    days: tuple[MajorEventDay, ...]


class ReliabilityReport(msgspec.Struct, frozen=True, kw_only=True):
    """Reliability indices (IEEE Std 1366) of a site, by period and perhaps by feeder."""

    site: str
    timezone: str
    """Of the site; its days begin by it."""
    begins: date
    ends: date
    """The first day after the report."""
    as_of: datetime
    """The moment of the answer; the open period and open outages count until then."""
    customers_served: int
    """By the whole site; 0 when it is not known, and then there are no major event days."""
    thresholds: tuple[YearThreshold, ...]
    """One for each calendar year that the report touches."""
    major_event_days: tuple[MajorEventDay, ...]
    """The days that are left out of the second set of indices. They are the site's, for its feeders too."""
    cells: tuple[IndexCell, ...]


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """Which outages are asked for; days are the site's."""

    site: str | None = None
    begins: date | None = None
    """By default the first day of the last day's year, at the latest of the current one."""
    ends: date | None = None
    """The first day after; by default tomorrow."""
    feeder_id: str | None = None
    customers_served: int | None = None
    """In place of what the register of assets says: of the feeder if there is one, else of the site."""


async def report(ctx: Context, asked: Asked, *, by: Grouping, per_feeder: bool) -> ReliabilityReport:
    """The indices of a site, of one of its feeders, or of each of its feeders, by period.

    Raises:
        NotFound: the site is not the actor's or lacks plant maintenance; or it has no such feeder.
        InvalidPayload: the site must be named; or the days are in disorder, too many, or too many for one answer.
    """
    scope = await _scope(ctx, asked.site)
    days = _days(scope, asked)
    cut = periods(*days, by)
    feeders = await _feeders(scope, asked, per_feeder=per_feeder)
    if len(cut) * len(feeders or (None,)) > CELLS_MAX:
        raise _refused("by", f"makes more than {CELLS_MAX:,} cells; ask for fewer days, longer periods or one feeder")
    served = await _customers_of_site(scope, asked)
    daily = await queries.tallies_by_day(scope, (history_of(days[0].year)[0], days[1]))
    thresholds, major = _major_event_days(daily, days, served)
    cells = _Cells(scope, cut)
    if feeders is None:
        made = cells.of_site(served, daily, {each.day for each in major})
    else:
        tallies = await queries.tallies_by_feeder(
            scope, cut, feeder_id=asked.feeder_id, major=[each.day for each in major]
        )
        made = cells.of_feeders(feeders, tallies)
    return ReliabilityReport(
        site=scope.site_id,
        timezone=scope.timezone,
        begins=days[0],
        ends=days[1],
        as_of=scope.as_of,
        customers_served=served,
        thresholds=thresholds,
        major_event_days=major,
        cells=made,
    )


async def major_event_days(
    ctx: Context, *, site: str | None, year: int | None, customers_served: int | None
) -> MajorEventDays:
    """The threshold of a year, by default of the current one, and the days that exceed it.

    Raises:
        NotFound: the site is not the actor's, or lacks plant maintenance.
        InvalidPayload: the site must be named.
    """
    scope = await _scope(ctx, site)
    year = year or scope.today.year
    days = date(year, 1, 1), date(year + 1, 1, 1)
    served = await _customers_of_site(scope, Asked(customers_served=customers_served))
    daily = await queries.tallies_by_day(scope, (history_of(year)[0], days[1]))
    (threshold,), major = _major_event_days(daily, days, served)
    return MajorEventDays(
        site=scope.site_id,
        timezone=scope.timezone,
        as_of=scope.as_of,
        customers_served=served,
        threshold=threshold,
        days=major,
    )


async def outages(
    ctx: Context,
    asked: Asked,
    *,
    outside_feeders: bool,
    on_major_event_days: bool | None,
    limit: int,
    cursor: str | None,
    sort: str | None,
) -> Page[OutageView]:
    """The outages behind a cell or a day, with what each counts for.

    Raises:
        NotFound: the site is not the actor's or lacks plant maintenance; or it has no such feeder.
        InvalidPayload: the site must be named; or the days are in disorder or too many.
    """
    scope = await _scope(ctx, asked.site)
    days = _days(scope, asked)
    where = queries.outages_in(scope, days)
    if asked.feeder_id is not None:
        await queries.feeder_of(scope.site_id, asked.feeder_id)
        queries.only_feeder(where, asked.feeder_id)
    if outside_feeders:
        queries.only_outside_feeders(where)
    if on_major_event_days is not None:
        served = await _customers_of_site(scope, asked)
        daily = await queries.tallies_by_day(scope, (history_of(days[0].year)[0], days[1]))
        _, major = _major_event_days(daily, days, served)
        where.add("day = any({}::date[])" if on_major_event_days else "day <> all({}::date[])", [m.day for m in major])
    return await queries.list_outages(where, limit=limit, cursor=cursor, sort=sort)


async def _scope(ctx: Context, site: str | None) -> Scope:
    sites = await module_scope(ctx, "pm", site)
    if len(sites) != 1:
        raise _refused("site", f"is needed; you work for {', '.join(sites[:10])}")
    return Scope(site_id=sites[0], timezone=await queries.timezone_of(sites[0]), as_of=ctx.clock())


def _days(scope: Scope, asked: Asked) -> Period:
    ends = _possible("to", asked.ends or scope.today + timedelta(days=1))
    begins = _possible("from", asked.begins or date(min(scope.today, ends - timedelta(days=1)).year, 1, 1))
    if begins >= ends:
        raise _refused("to", f"must lie after {begins}; it is the first day that no longer counts")
    if (ends - begins).days > YEARS_MAX * 366:
        raise _refused("from", f"must lie at most {YEARS_MAX} years before the end")
    return begins, ends


def _possible(field: str, day: date) -> date:
    if not YEAR_MIN <= day.year <= YEAR_MAX:
        raise _refused(field, f"must lie in the years {YEAR_MIN} to {YEAR_MAX}")
    return day


async def _feeders(scope: Scope, asked: Asked, *, per_feeder: bool) -> list[Part] | None:
    """The feeders that get cells of their own; None when the whole site is asked for."""
    if asked.feeder_id is not None:
        feeder = await queries.feeder_of(scope.site_id, asked.feeder_id)
        served = feeder.customers_served if asked.customers_served is None else asked.customers_served
        return [msgspec.structs.replace(feeder, customers_served=served)]
    if not per_feeder:
        return None
    if asked.customers_served is not None:
        raise _refused("customers_served", "is of the site or of one feeder; name the feeder")
    return await queries.feeders_of(scope.site_id)


async def _customers_of_site(scope: Scope, asked: Asked) -> int:
    if asked.customers_served is not None and asked.feeder_id is None:
        return asked.customers_served
    return await queries.customers_of_site(scope.site_id)


def _major_event_days(
    daily: Daily, days: Period, customers_served: int
) -> tuple[tuple[YearThreshold, ...], tuple[MajorEventDay, ...]]:
    """The threshold of each year that the days touch, and those of the days that exceed their year's."""
    minutes_of_all = customers_served * MICROSECONDS_PER_MINUTE
    saidi = {day: tally.customer_us / minutes_of_all for day, tally in daily.items()} if minutes_of_all else {}
    thresholds: list[YearThreshold] = []
    major: list[MajorEventDay] = []
    for year in range(days[0].year, (days[1] - timedelta(days=1)).year + 1):
        found = threshold_for(year, saidi)
        begins, ends = history_of(year)
        thresholds.append(
            YearThreshold(
                year=year,
                history_begins=begins,
                history_ends=ends,
                days=sum(begins <= day < ends and minutes > 0 for day, minutes in saidi.items()),
                alpha=found.alpha if found else None,
                beta=found.beta if found else None,
                t_med_minutes=found.t_med_minutes if found else None,
            )
        )
        if found is None:
            continue
        major += [
            MajorEventDay(
                day=day,
                saidi_minutes=minutes,
                t_med_minutes=found.t_med_minutes,
                outages=daily[day].outages,
                customer_interruptions=daily[day].interruptions,
                customer_minutes=daily[day].customer_us / MICROSECONDS_PER_MINUTE,
            )
            for day, minutes in sorted(saidi.items())
            if day.year == year and days[0] <= day < days[1] and found.is_exceeded_by(minutes)
        ]
    return tuple(thresholds), tuple(major)


class _Cells:
    """Makes the cells of a report from tallies."""

    def __init__(self, scope: Scope, cut: Sequence[Period]) -> None:
        self.cut = cut
        ends = [scope.begin_of(end) for _, end in cut]
        begins = [scope.begin_of(cut[0][0]), *ends[:-1]]
        # Of a period that is not over, the part until now; a day with a change of clocks has 23 or 25 hours.
        self.lengths_us = [
            max(0, (min(end, scope.as_of) - begin) // _MICROSECOND) for begin, end in zip(begins, ends, strict=True)
        ]

    def of_site(self, customers_served: int, daily: Daily, major: set[date]) -> tuple[IndexCell, ...]:
        normal, exceeding = [[NOTHING] * len(self.cut) for _ in range(2)]
        starts = [begins for begins, _ in self.cut]
        for day, tally in daily.items():
            if self.cut[0][0] <= day < self.cut[-1][1]:
                kind = exceeding if day in major else normal
                place = bisect_right(starts, day) - 1
                kind[place] += tally
        whole = Part(customers_served=customers_served)
        return tuple(self._cell(n, whole, normal[n], exceeding[n]) for n in range(len(self.cut)))

    def of_feeders(
        self, feeders: Sequence[Part], tallies: Mapping[tuple[str | None, int, bool], Tally]
    ) -> tuple[IndexCell, ...]:
        """By feeder, then by period; last the outages at no feeder, where there are any."""
        if any(feeder_id is None for feeder_id, _, _ in tallies):
            feeders = [*feeders, Part(customers_served=0)]
        return tuple(
            self._cell(n, feeder, *(tallies.get((feeder.feeder_id, n, major), NOTHING) for major in (False, True)))
            for feeder in feeders
            for n in range(len(self.cut))
        )

    def _cell(self, place: int, part: Part, normal: Tally, exceeding: Tally) -> IndexCell:
        served, period_us = part.customers_served, self.lengths_us[place]
        total = normal + exceeding
        return IndexCell(
            begins=self.cut[place][0],
            ends=self.cut[place][1],
            feeder_id=part.feeder_id,
            feeder_name=part.feeder_name,
            customers_served=served,
            all_days=indices(total, customers_served=served, period_us=period_us),
            without_major_event_days=indices(normal, customers_served=served, period_us=period_us),
            open=OpenOutages(
                outages=total.open_outages,
                customers=total.open_customers,
                customer_minutes=total.open_customer_us / MICROSECONDS_PER_MINUTE,
            ),
        )


def _refused(field: str, message: str) -> InvalidPayload:
    return InvalidPayload(f"Not accepted: {field}.", errors=[FieldError(field=field, message=message)])
