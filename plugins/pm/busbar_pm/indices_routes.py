"""Reliability indices over HTTP, under /api/v1/pm/indices."""

from datetime import date
from typing import Annotated, Literal

from litestar import get
from litestar.params import QueryParameter

from busbar.sdk import CursorParameter, LimitParameter, Page, RequestContext, SortParameter, needs
from busbar_pm import indices_reports
from busbar_pm.indices import Grouping
from busbar_pm.indices_queries import OutageView
from busbar_pm.indices_reports import YEAR_MAX, YEAR_MIN, Asked, MajorEventDays, ReliabilityReport

_READ = needs("pm.read")

Site = Annotated[
    str | None,
    QueryParameter(
        name="site",
        max_length=40,
        pattern="^[a-z][a-z0-9_-]*$",
        description="May be left out by who works for one site only.",
    ),
]
Feeder = Annotated[
    str | None,
    QueryParameter(
        name="feeder",
        max_length=60,
        pattern=r"^[^\x00-\x1f\x7f]*$",
        description="Only this feeder, and what it supplies.",
    ),
]
From = Annotated[
    date | None,
    QueryParameter(name="from", description="The first day, by the site's clocks; by default the year's first."),
]
To = Annotated[
    date | None, QueryParameter(name="to", description="The first day that no longer counts; by default tomorrow.")
]
CustomersServed = Annotated[
    int | None,
    QueryParameter(
        name="customers_served",
        ge=1,
        le=2_147_483_647,
        description="In place of what the assets say: of the feeder if one is named, else of the site.",
    ),
]


@get("/indices", opt=_READ)
async def get_indices(
    ctx: RequestContext,
    site: Site = None,
    feeder: Feeder = None,
    first: From = None,
    end: To = None,
    by: Annotated[Grouping, QueryParameter(name="by", description="One cell for each of these.")] = "month",
    per: Annotated[
        Literal["site", "feeder"], QueryParameter(name="per", description="Cells of the site, or of each feeder.")
    ] = "site",
    customers_served: CustomersServed = None,
) -> ReliabilityReport:
    """Reliability indices (IEEE Std 1366): SAIDI, SAIFI, CAIDI, ASAI, MAIFI, with and without major event days.

    An outage counts on the day on which it starts. Cancelled ones do not count.
    """
    asked = Asked(site=site, feeder_id=feeder, begins=first, ends=end, customers_served=customers_served)
    return await indices_reports.report(ctx, asked, by=by, per_feeder=per == "feeder")


@get("/indices/major-event-days", opt=_READ)
async def list_major_event_days(
    ctx: RequestContext,
    site: Site = None,
    year: Annotated[
        int | None, QueryParameter(name="year", ge=YEAR_MIN, le=YEAR_MAX, description="By default the current one.")
    ] = None,
    customers_served: CustomersServed = None,
) -> MajorEventDays:
    """The days of a year whose SAIDI exceeds the threshold, which the five years before it set (2.5 beta method)."""
    return await indices_reports.major_event_days(ctx, site=site, year=year, customers_served=customers_served)


@get("/indices/incidents", opt=_READ)
async def list_outages(
    ctx: RequestContext,
    site: Site = None,
    feeder: Feeder = None,
    first: From = None,
    end: To = None,
    outside_feeders: Annotated[
        bool, QueryParameter(name="outside_feeders", description="Only outages at no feeder, such as a substation's.")
    ] = False,
    major_event_days: Annotated[
        bool | None, QueryParameter(name="major_event_days", description="Only those on such days; or none of them.")
    ] = None,
    customers_served: CustomersServed = None,
    limit: LimitParameter = 50,
    cursor: CursorParameter = None,
    sort: SortParameter = None,
) -> Page[OutageView]:
    """List the outages behind a cell or a day. Can be sorted by customer_minutes, customers_affected, started_at."""
    return await indices_reports.outages(
        ctx,
        Asked(site=site, feeder_id=feeder, begins=first, ends=end, customers_served=customers_served),
        outside_feeders=outside_feeders,
        on_major_event_days=major_event_days,
        limit=limit,
        cursor=cursor,
        sort=sort,
    )


INDEX_ROUTES = (get_indices, list_major_event_days, list_outages)
