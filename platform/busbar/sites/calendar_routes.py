"""The HTTP side of sites' calendars."""

from typing import Annotated, Any, ClassVar

import msgspec
from litestar import Response, get, put
from litestar.params import JSONBody, Parameter
from msgspec import Meta

from busbar.auth.guards import RequestContext
from busbar.sites import calendars
from busbar.sites.calendars import CALENDARS, CalendarView, Holiday, WorkingHours
from busbar.web.access import needs
from busbar.web.conditional import IfMatchHeader, parse_if_match, versioned
from busbar.web.text import SLUG

SiteId = Annotated[str, Parameter(max_length=40, pattern=SLUG)]


class Calendar(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When work is done at a site, all of it: what is left out goes."""

    EXAMPLE: ClassVar[dict[str, Any]] = {
        "hours": [
            {"weekday": "monday", "starts": "07:00", "ends": "12:00"},
            {"weekday": "monday", "starts": "13:00", "ends": "16:00"},
            {"weekday": "tuesday", "starts": "07:00", "ends": "16:00"},
        ],
        "holidays": [{"day": "2026-12-25", "name": "Christmas Day"}],
    }

    hours: Annotated[tuple[WorkingHours, ...], Meta(min_length=1, max_length=70)] | None
    """Periods in the site's time zone, at least four hours a week; null is around the clock."""
    holidays: Annotated[tuple[Holiday, ...], Meta(max_length=500)] = ()


@get("/sites/{site_id:str}/calendar", opt=needs("sla.read"))
async def get_calendar(ctx: RequestContext, site_id: SiteId) -> Response[CalendarView]:
    """Read a site's working hours and holidays, by which the deadlines of its tickets are worked out."""
    calendar = await calendars.get_calendar(ctx, site_id)
    return versioned(calendar, calendar.version)


@put("/sites/{site_id:str}/calendar", opt=needs("sla.write"))
async def set_calendar(
    ctx: RequestContext, site_id: SiteId, data: JSONBody[Calendar], if_match: IfMatchHeader = None
) -> Response[CalendarView]:
    """Set a site's working hours and holidays; tickets that are open keep the deadlines that they have."""
    expected = parse_if_match(if_match, required=False)
    await calendars.set_calendar(ctx, site_id, hours=data.hours, holidays=data.holidays, expected=expected)
    await CALENDARS.refresh()  # the caller's next ticket may come before the notice of the change
    calendar = await calendars.get_calendar(ctx, site_id)
    return versioned(calendar, calendar.version)


CALENDAR_ROUTES = (get_calendar, set_calendar)
