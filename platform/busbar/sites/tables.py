"""Sites, and which modules each has enabled."""

from piccolo.columns import JSONB, BigSerial, Boolean, Integer, Text, Timestamptz
from piccolo.constraints import Unique
from piccolo.table import Table

from busbar.db import DB


class Site(Table, tablename="site", schema="core", db=DB):
    """A depot, plant, region or office of the utility."""

    site_id = Text(primary_key=True, default=None, null=False)
    name = Text(default=None, null=False)
    timezone = Text(default="UTC", null=False)
    version = Integer(default=1, null=False)
    created_at = Timestamptz(null=False)


class SiteModule(Table, tablename="site_module", schema="core", db=DB):
    """Whether a module is enabled at a site; a pair without a row is not."""

    id = BigSerial(primary_key=True)
    site_id = Text(default=None, null=False)
    module = Text(default=None, null=False)
    enabled = Boolean(default=None, null=False)

    site_module_unique = Unique([site_id, module])


class SiteCalendar(Table, tablename="site_calendar", schema="core", db=DB):
    """A site's working hours as they were from one change to the next; a site without a row works around the clock."""

    id = BigSerial(primary_key=True)
    site_id = Text(default=None, null=False)
    version = Integer(default=None, null=False)
    timezone = Text(default=None, null=False)
    hours = JSONB(default=None, null=True)
    holidays = JSONB(default=None, null=False)
    created_by = Text(default=None, null=False)
    created_at = Timestamptz(default=None, null=False)

    site_calendar_unique = Unique([site_id, version])
